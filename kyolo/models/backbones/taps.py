"""What every backbone adapter returns, and how it is made of a model of another library."""

import collections
import math
import re
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
        neck_depth: bottlenecks in each C2f of the neck that suits this backbone.
        pretrained: whether the model keeps the weights that it has; else they are drawn anew.
        sppf: pretrained weights of the SPPF behind the backbone, by path below that layer; empty without any.
    """

    model: Any
    levels: tuple[LevelSpec, ...]
    neck_depth: int
    pretrained: bool
    sppf: dict[str, Any]


def tap(full, pyramid, levels, *, pretrained, own_parts=True, neck_depth=1, sppf=None):
    """Cuts a backbone off behind its coarsest level, and gives its maps out.

    Args:
        full: a functional `keras.Model` from RGB images, 0..255.
        pyramid: the tensors inside it at which levels end, by level.
        levels: names of the levels wanted; those above P5 are not the backbone's.
        pretrained: of `Taps`.
        own_parts: whether batch norms and activations become kyolo's: equal, but for the time they take, and with the
            momentum of detectors, as those of classifiers, 0.99 and more, follow the few steps of a training on few
            images too late. Else the layers are those of `full`. Default True.
        neck_depth: of `Taps`. Default 1.
        sppf: of `Taps`. Default none.

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
        outputs[name] = pyramid[name]
    specs = tuple(LevelSpec(name, level_stride(name), x.shape[-1]) for name, x in outputs.items())
    model = tapped = keras.Model(full.inputs[0], outputs, name="backbone")
    if own_parts:
        model = keras.models.clone_model(tapped, clone_function=_own_parts())
        model.set_weights(tapped.get_weights())
        finalize_states(model)
    return Taps(model, specs, neck_depth, pretrained, sppf or {})


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


def _own_parts():
    """The function that `clone_model` calls for each layer: kyolo's in its place, or the same under the current policy.

    Layers that nobody named get a number of this model's: Keras counts over all that a program builds, and weights are
    found by name.
    """
    counts = collections.Counter()

    def clone(layer):
        config = layer.get_config()
        if isinstance(layer, keras.Layer):  # and no operation
            config["dtype"] = keras.config.dtype_policy().name
        kind = type(layer).__name__
        if re.fullmatch(rf"{kind.lower()}\d*", layer.name.replace("_", "")):
            counts[kind] += 1
            config["name"] = f"{kind.lower()}_{counts[kind]}"
        if isinstance(layer, keras.layers.Activation):
            return keras.layers.Activation(with_fast_gradient(layer.activation), name=config["name"])
        if type(layer) is keras.layers.BatchNormalization and layer.axis in (-1, 3):
            return BatchNorm.from_config({**config, "momentum": BATCH_NORM_MOMENTUM})
        return type(layer).from_config(config)

    return clone
