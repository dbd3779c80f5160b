"""YOLOv8's backbone from KerasCV, tapped before its SPPF.

The numbers of each size stand here: KerasCV's own size names would fetch the architecture from a hub.
"""

from typing import NamedTuple

import keras
import keras_cv

from kyolo.models.backbones.taps import ends, loaded, tap, weights_error
from kyolo.models.pyramid import BACKBONE_TOP


class Size(NamedTuple):
    """Channels and bottlenecks of the levels P2..P5, and the bottlenecks of each C2f in the neck."""

    channels: tuple[int, int, int, int]
    depths: tuple[int, int, int, int]
    neck_depth: int


# n to x: channels 64, 128, 256, 512, 1024 x width, cut at 1024 to 512; depths 3, 6, 6, 3 x depth, as YOLOv8's yaml.
SIZES = {
    "p": Size((16, 32, 64, 128), (1, 1, 1, 1), 1),  # half of n: kyolo's own, for tests and the quickstart
    "n": Size((32, 64, 128, 256), (1, 2, 2, 1), 1),
    "s": Size((64, 128, 256, 512), (1, 2, 2, 1), 1),
    "m": Size((96, 192, 384, 576), (2, 4, 4, 2), 2),
    "l": Size((128, 256, 512, 512), (3, 6, 6, 3), 3),
    "x": Size((160, 320, 640, 640), (3, 6, 6, 3), 3),
}
SPPF_NAMES = {"pre": "stack4_spp_fast_pre", "post": "stack4_spp_fast_output"}


def yolov8_backbone(levels, size, weights=None):
    """Builds the backbone up to the last C2f of its coarsest level.

    Args:
        levels: names of the levels wanted; those above P5 are not the backbone's.
        size: "n", "s", "m", "l", "x", or "p", half as wide as n.
        weights: None for random weights, the path of a `.weights.h5` file of KerasCV's `YOLOV8Backbone` of this size,
            or the name of one of KerasCV's presets, which is fetched. Default None.

    Returns:
        `Taps`. With `weights`, and P5 among the levels, `Taps.sppf` holds the weights of KerasCV's own SPPF.

    Raises:
        InputError: when the weights cannot be loaded.
    """
    channels, depths, neck_depth = SIZES[size]
    full = keras_cv.models.YOLOV8Backbone(
        stackwise_channels=list(channels),
        stackwise_depth=list(depths),
        include_rescaling=True,
        input_shape=(None, None, 3),
    )
    if weights is not None:
        _load(full, weights)
    pyramid = ends(full, [f"stack{i}_c2f_output" for i in range(1, 5)])
    # Where P5 is not wanted, SPPF stands on another level.
    sppf = _sppf_weights(full) if weights is not None and BACKBONE_TOP in levels else {}
    return tap(full, pyramid, levels, pretrained=weights is not None)._replace(neck_depth=neck_depth, sppf=sppf)


def _load(backbone, weights):
    if weights not in keras_cv.models.YOLOV8Backbone.presets:  # No other name or address is fetched.
        loaded(backbone, weights)
        return
    try:
        backbone.set_weights(keras_cv.models.YOLOV8Backbone.from_preset(weights).get_weights())
    except (OSError, ValueError, KeyError) as error:
        expected = "of the same size, or a preset that can be fetched"
        raise weights_error(weights, error, expected) from error


def _sppf_weights(full):
    """KerasCV's SPPF by the names of `kyolo.layers.SPPF`."""
    weights = {}
    for ours, theirs in SPPF_NAMES.items():
        weights[f"{ours}/conv/kernel"] = keras.ops.convert_to_numpy(full.get_layer(f"{theirs}_conv").kernel.value)
        for variable in full.get_layer(f"{theirs}_bn").variables:
            weights[f"{ours}/norm/{variable.name}"] = keras.ops.convert_to_numpy(variable.value)
    return weights
