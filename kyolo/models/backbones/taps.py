"""What every backbone adapter returns, and how it is made of a model of another library."""

from typing import Any, NamedTuple

import keras

from kyolo.errors import InputError
from kyolo.layers.batch_norm import BatchNorm
from kyolo.layers.conv_bn_act import BATCH_NORM_MOMENTUM
from kyolo.layers.silu import with_fast_gradient
from kyolo.models.pyramid import BACKBONE_TOP, LEVELS, LevelSpec, level_stride


class Taps(NamedTuple):
    """A backbone and where it is tapped.

    Attributes:
        model: a `keras.Model` from RGB images `(B, H, W, 3)`, 0..255, to a dict of maps by level name.
        levels: `LevelSpec` of each map, finest first.
        neck_depth: bottlenecks in each C2f of the neck that suits this backbone.
        sppf: pretrained weights of the SPPF behind the backbone, by path below that layer; empty without any.
    """

    model: Any
    levels: tuple[LevelSpec, ...]
    neck_depth: int
    sppf: dict[str, Any]


def tap(full, ends, levels, neck_depth=1, sppf=None):
    """Cuts a backbone off behind its coarsest level, and gives its maps out.

    Its batch norms and activations become kyolo's: equal, but for the time they take, and with the momentum of
    detectors, as those of classifiers, 0.99 and more, follow the few steps of a training on few images too late.

    Args:
        full: a functional `keras.Model` from RGB images, 0..255.
        ends: names of the layers at which P2, P3, P4 and P5 end.
        levels: names of the levels wanted; those above P5 are not the backbone's.
        neck_depth: of `Taps`. Default 1.
        sppf: of `Taps`. Default none.

    Returns:
        `Taps`.
    """
    outputs = {name: full.get_layer(ends[LEVELS.index(name)]).output for name in levels if name <= BACKBONE_TOP}
    specs = tuple(LevelSpec(name, level_stride(name), x.shape[-1]) for name, x in outputs.items())
    tapped = keras.Model(full.input, outputs, name="backbone")
    model = keras.models.clone_model(tapped, clone_function=_with_own_parts)
    model.set_weights(tapped.get_weights())
    return Taps(model, specs, neck_depth, sppf or {})


def loaded(model, weights):
    """The model with the weights of a file, where one is given.

    Raises:
        InputError: it cannot be loaded.
    """
    if weights is not None:
        try:
            model.load_weights(weights)
        except (OSError, ValueError, KeyError) as error:
            raise weights_error(weights, error, "of the same size, saved by Keras") from error
    return model


def weights_error(weights, error, expected):
    """The error of weights that a backbone cannot have."""
    return InputError(
        f"model.backbone.weights: cannot load {weights!r} into this backbone; expected the path of a file of weights "
        f"{expected}. Received: {str(error).splitlines()[0] if str(error) else type(error).__name__}"
    )


def _with_own_parts(layer):
    if isinstance(layer, keras.layers.Activation):
        return keras.layers.Activation(with_fast_gradient(layer.activation), name=layer.name, dtype=layer.dtype_policy)
    if isinstance(layer, keras.layers.BatchNormalization):
        return BatchNorm.from_config({**layer.get_config(), "momentum": BATCH_NORM_MOMENTUM})
    return type(layer).from_config(layer.get_config())
