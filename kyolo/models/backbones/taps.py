"""What every backbone adapter returns, and how it is made of a model of another library."""

import collections
import math
import re
import warnings
from typing import Any, NamedTuple

import keras

from kyolo.errors import InputError
from kyolo.layers.batch_norm import BatchNorm
from kyolo.layers.conv_bn_act import BATCH_NORM_MOMENTUM
from kyolo.layers.silu import with_fast_gradient
from kyolo.models.initialize import finalize_states
from kyolo.models.pyramid import BACKBONE_TOP, LEVELS, LevelSpec, level_stride

SIDE = 256  # of the square image on which strides are counted


class Taps(NamedTuple):
    """A backbone and where it is tapped.

    Attributes:
        model: a `keras.Model` from RGB images `(B, H, W, 3)`, 0..255, to a dict of maps by level name.
        levels: `LevelSpec` of each map, finest first.
        pretrained: whether the model keeps the weights that it has; else they are drawn anew.
        neck_depth: bottlenecks in each C2f of the neck that suits this backbone. Default 1.
        sppf: pretrained weights of the SPPF behind the backbone, by path below that layer. Default none.
    """

    model: Any
    levels: tuple[LevelSpec, ...]
    pretrained: bool
    neck_depth: int = 1
    sppf: dict[str, Any] = {}  # noqa: RUF012 (of a tuple; nobody writes it)


def tap(full, pyramid, levels, *, pretrained, own_parts=True, from_file=False):
    """Cuts a backbone off behind its coarsest level, and gives its maps out.

    Args:
        full: a functional `keras.Model` from RGB images, 0..255.
        pyramid: the tensors inside it at which levels end, by level.
        levels: names of the levels wanted; those above P5 are not the backbone's.
        pretrained: of `Taps`.
        own_parts: whether batch norms and activations become kyolo's: equal, but for the time they take, and with the
            momentum of detectors, as those of classifiers, 0.99 and more, follow the few steps of a training on few
            images too late. Else the layers are those of `full`. Default True.
        from_file: whether the names of layers are a file's, and stay, and their policy is the file's, in the place of
            which comes the current one. Default False.

    Returns:
        `Taps`.

    Raises:
        InputError: a level wanted is not there, or of another stride.
    """
    outputs = {}
    for name in levels:
        if name > BACKBONE_TOP:
            continue
        expected = f"model.backbone: expected a map of {name}, of stride {level_stride(name)}"
        if name not in pyramid:
            raise InputError(f"{expected}, received {', '.join(map(str, pyramid)) or 'none'}")
        stride = stride_of(full, pyramid[name])
        if stride != level_stride(name):
            raise InputError(f"{expected}, received one of stride {stride:g}")
        if pyramid[name].shape[-1] % 2:
            raise InputError(f"{expected}, with an even number of channels, received {pyramid[name].shape[-1]}")
        outputs[name] = pyramid[name]
    specs = tuple(LevelSpec(name, level_stride(name), x.shape[-1]) for name, x in outputs.items())
    model = tapped = keras.Model(full.inputs[0], outputs, name="backbone")
    if own_parts:
        model = keras.models.clone_model(tapped, clone_function=_own_parts(tapped, from_file))
        model.set_weights(tapped.get_weights())
        finalize_states(model)
    return Taps(model, specs, pretrained)


def ends(model, names):
    """The outputs of the layers at which P2, P3, P4 and P5 end, by level."""
    return {level: model.get_layer(name).output for level, name in zip(LEVELS, names, strict=False)}


def stride_of(model, tensor):
    """Pixels of the image for each of a map's, whatever the image's size; infinite for what is no map."""
    image = keras.KerasTensor((1, SIDE, SIDE, 3))
    shape = keras.Model(model.inputs[0], tensor).compute_output_spec(image).shape
    return SIDE / shape[1] if len(shape) == 4 and shape[1] == shape[2] else math.inf


def loaded(model, weights):
    """The model with the weights of a file, where one is given.

    Raises:
        InputError: it cannot be loaded.
    """
    if weights is not None:
        try:
            with warnings.catch_warnings():
                # Keras misses its list of operations in every file, and loads the layers, which hold the weights.
                warnings.filterwarnings("ignore", "Skipping nested container at '_operations_by_depth", UserWarning)
                model.load_weights(weights)
        except (OSError, ValueError, KeyError, RuntimeError) as error:
            raise weights_error(weights, error, "of the same size, saved by Keras") from error
    return model


def weights_error(weights, error, expected):
    """The error of weights that a backbone cannot have."""
    return InputError(
        f"model.backbone.weights: cannot load {weights!r} into this backbone; expected the path of a file of weights "
        f"{expected}. Received: {first_line(error)}"
    )


def first_line(error):
    """What an error says, on one line."""
    return str(error).partition("\n")[0] or type(error).__name__


def _own_parts(model, from_file):
    """The function that `clone_model` calls for each layer: kyolo's in its place, or the same.

    Layers that nobody named get a number of this model's: Keras counts over all that a program builds, and weights are
    found by name. A file's names are the same each time, but its policy is that of another program: what most layers
    have becomes the current one.
    """
    policies = collections.Counter(layer.dtype_policy.name for layer in model.layers if layer.weights)
    usual = policies.most_common(1)[0][0] if from_file and policies else None
    taken = {layer.name for layer in model.layers if not _is_nameless(layer)}
    counts = collections.Counter()

    def name_of(layer):
        if from_file or not _is_nameless(layer):
            return layer.name
        kind = type(layer).__name__.lower()
        while True:
            counts[kind] += 1
            name = f"{kind}_{counts[kind]}"
            if name not in taken:
                return name

    def clone(layer):
        if isinstance(layer, keras.Model):
            return keras.models.clone_model(layer, clone_function=clone)
        config = {**layer.get_config(), "name": name_of(layer)}
        if "dtype" in config and usual is not None and layer.dtype_policy.name == usual:
            config["dtype"] = keras.config.dtype_policy().name
        if isinstance(layer, keras.layers.Activation):
            activation = with_fast_gradient(layer.activation)
            return keras.layers.Activation(activation, name=config["name"], dtype=config["dtype"])
        if type(layer) is keras.layers.BatchNormalization and layer.axis in (-1, 3) and layer.input_spec.ndim == 4:
            return BatchNorm.from_config({**config, "momentum": BATCH_NORM_MOMENTUM})
        return type(layer).from_config(config)

    return clone


def _is_nameless(layer):
    """Whether a layer has the name that Keras gives: its class' and a number."""
    return re.fullmatch(rf"{type(layer).__name__.lower()}\d*", layer.name.replace("_", "").lower()) is not None
