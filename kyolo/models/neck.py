"""The neck: levels exchange what they know, from coarse to fine and back."""

import itertools

import keras
from keras import ops

from kyolo.layers.c2f import C2f
from kyolo.layers.conv_bn_act import ConvBNAct
from kyolo.models.places import build_layers, deserialize_places, run_layers, serialize_places
from kyolo.models.pyramid import LevelSpec


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
        levels: `LevelSpec` of the levels, finest first, two at least; each output has its level's channels.
        depth: bottlenecks in each C2f. Default 1.
        attention: layers that keep the shape, run in order on an output: `{"N3": [...]}`. Default none.

    Input shape:
        List of maps `(B, H / stride, W / stride, channels)`, finest first.

    Output shape:
        The input's.

    Reference:
        Liu et al., PANet, arXiv 1803.01534; with C2f and concatenation as in YOLOv8.
    """

    def __init__(self, levels, depth=1, attention=None, **kwargs):
        super().__init__(**kwargs)
        self.levels = [LevelSpec(*level) for level in levels]
        self.depth = depth
        self.attention = dict(attention or {})
        self.places = [level.name.replace("P", "N") for level in self.levels]
        self.top_down = [self._c2f("top_down", level) for level in self.levels[:-1]]
        self.downsample = [
            ConvBNAct(level.channels, strides=2, dtype=self.dtype_policy, name=f"downsample_{level.name}")
            for level in self.levels[:-1]
        ]
        self.bottom_up = [self._c2f("bottom_up", level) for level in self.levels[1:]]

    def _c2f(self, path, level):
        return C2f(level.channels, self.depth, dtype=self.dtype_policy, name=f"{path}_{level.name}")

    def build(self, input_shape):
        channels = [level.channels for level in self.levels]
        for i, (fine, coarse) in enumerate(itertools.pairwise(channels)):
            self.top_down[i].build((None, None, None, coarse + fine))
            self.downsample[i].build((None, None, None, fine))
            # The coarsest map comes from below the neck, the others from the way down, all with their level's channels.
            self.bottom_up[i].build((None, None, None, fine + coarse))
        for place, count in zip(self.places, channels, strict=True):
            build_layers(self.attention.get(place, ()), (None, None, None, count))

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
        }

    @classmethod
    def from_config(cls, config):
        return cls(**{**config, "attention": deserialize_places(config["attention"])})
