"""The neck: levels exchange what they know, from coarse to fine and back."""

import keras
from keras import ops

from kyolo.layers.c2f import C2f
from kyolo.layers.separable_conv import CONVOLUTIONS
from kyolo.models.places import build_layers, deserialize_places, run_layers, serialize_places
from kyolo.models.pyramid import LevelSpec, scaled_levels


@ops.custom_gradient
def upsample(x):
    """Doubles height and width by repeating each cell: `(B, H, W, C)` to `(B, 2 H, 2 W, C)`.

    One nearest-neighbour resize, which TFLite has built in. Its own gradient is missing in XLA on CPUs; it is the sum
    over the four copies.
    """

    def gradient(*args, upstream=None):
        upstream = args[0] if upstream is None else upstream
        return 4 * ops.average_pool(upstream, 2, strides=2)

    height, width = x.shape[1:3]
    if None in (height, width):  # Keras resizes to known sizes only
        return ops.repeat(ops.repeat(x, 2, axis=1), 2, axis=2), gradient
    return ops.image.resize(x, (2 * height, 2 * width), interpolation="nearest"), gradient


@keras.saving.register_keras_serializable("kyolo")
class PAFPN(keras.layers.Layer):
    """Path aggregation network of C2f blocks over any run of consecutive levels.

    Top down, each map is upsampled (nearest) and joined with the next finer one; bottom up, each is halved by a
    convolution of stride 2 and joined with the next coarser one. A C2f without shortcuts follows each joint.

    Args:
        levels: `LevelSpec` of the levels, finest first, two at least; each output has its level's channels times
            `width`.
        depth: bottlenecks in each C2f. Default 1.
        attention: layers that keep the shape, run in order on an output: `{"N3": [...]}`. Default none.
        width: factor of the channels, which are rounded to multiples of 8, 8 at least. Default 1, as they are.
        conv: "standard", or "depthwise": convolutions larger than 1x1 are taken apart. Default "standard".

    Input shape:
        List of maps `(B, H / stride, W / stride, channels)`, finest first.

    Output shape:
        List of maps `(B, H / stride, W / stride, channels of outputs)`.

    Attributes:
        outputs: `LevelSpec` of each output.

    Reference:
        Liu et al., PANet, arXiv 1803.01534; with C2f and concatenation as in YOLOv8.
    """

    def __init__(self, levels, depth=1, attention=None, width=1.0, conv="standard", **kwargs):
        super().__init__(**kwargs)
        self.levels = [LevelSpec(*level) for level in levels]
        self.depth = depth
        self.attention = dict(attention or {})
        self.width = width
        self.conv = conv
        self.outputs = scaled_levels(self.levels, width)
        self.places = [level.name.replace("P", "N") for level in self.levels]
        self.top_down = [self._c2f("top_down", level) for level in self.outputs[:-1]]
        self.downsample = [
            CONVOLUTIONS[conv](level.channels, strides=2, dtype=self.dtype_policy, name=f"downsample_{level.name}")
            for level in self.outputs[:-1]
        ]
        self.bottom_up = [self._c2f("bottom_up", level) for level in self.outputs[1:]]

    def _c2f(self, path, level):
        return C2f(level.channels, self.depth, conv=self.conv, dtype=self.dtype_policy, name=f"{path}_{level.name}")

    def build(self, input_shape):
        # On the way down each map but the coarsest has become an output's width.
        given, made = ([level.channels for level in levels] for levels in (self.levels, self.outputs))
        coarser = [*made[1:-1], given[-1]]
        for i, above in enumerate(coarser):
            self.top_down[i].build((None, None, None, above + given[i]))
            self.downsample[i].build((None, None, None, made[i]))
            self.bottom_up[i].build((None, None, None, made[i] + above))
        for place, channels in zip(self.places, made, strict=True):
            build_layers(self.attention.get(place, ()), (None, None, None, channels))

    def call(self, inputs):
        maps = list(inputs)
        for i in reversed(range(len(maps) - 1)):
            maps[i] = self.top_down[i](ops.concatenate([upsample(maps[i + 1]), maps[i]], axis=-1))
        for i in range(len(maps) - 1):
            maps[i + 1] = self.bottom_up[i](ops.concatenate([self.downsample[i](maps[i]), maps[i + 1]], axis=-1))
        return [run_layers(self.attention.get(place, ()), x) for place, x in zip(self.places, maps, strict=True)]

    def get_config(self):
        return {
            **super().get_config(),
            "levels": [list(level) for level in self.levels],
            "depth": self.depth,
            "attention": serialize_places(self.attention),
            "width": self.width,
            "conv": self.conv,
        }

    @classmethod
    def from_config(cls, config):
        return cls(**{**config, "attention": deserialize_places(config["attention"])})
