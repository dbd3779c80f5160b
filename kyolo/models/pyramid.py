"""The contract between the parts of a detector, and what stands between backbone and neck."""

from typing import NamedTuple

import keras

from kyolo.layers.c2f import C2f
from kyolo.layers.conv_bn_act import ConvBNAct
from kyolo.layers.sppf import SPPF
from kyolo.models.places import build_layers, deserialize_places, run_layers, serialize_places

LEVELS = ("P2", "P3", "P4", "P5", "P6")
BEFORE_SPPF = "sppf_in"
BACKBONE_TOP = "P5"  # the coarsest level that a backbone gives; P6 is built on top


class LevelSpec(NamedTuple):
    """One level of the feature pyramid: its name ("P3"), its stride in pixels, the channels of its map."""

    name: str
    stride: int
    channels: int


def level_stride(name):
    """Stride of a level in pixels, 2 to the power of its number: "P3" is 8."""
    return 2 ** int(name[1:])


def scaled_channels(channels, width):
    """A number of channels times `width`, rounded to a multiple of 8, 8 at least; the same at a width of 1."""
    return channels if width == 1 else max(8 * round(channels * width / 8), 8)


def scaled_levels(levels, width):
    """Levels with `scaled_channels`."""
    return [level._replace(channels=scaled_channels(level.channels, width)) for level in levels]


@keras.saving.register_keras_serializable("kyolo")
class PyramidTop(keras.layers.Layer):
    """What follows the backbone: attention and SPPF on its coarsest map, then the levels above it.

    Args:
        levels: `LevelSpec` of all levels wanted, finest first. Those above P5 are built here, each by a convolution of
            stride 2 and a C2f.
        attention: layers that keep the shape, run in order at their place: `{"sppf_in": [...]}` before SPPF, `{"P3":
            [...]}` on what a level hands to the neck. Default none.
        depth: bottlenecks in the C2f of a level above P5. Default 1.

    Input shape:
        Dict of maps `(B, H / stride, W / stride, channels)` by level, up to P5 at most.

    Output shape:
        List of the maps of all levels, finest first.
    """

    def __init__(self, levels, attention=None, depth=1, **kwargs):
        super().__init__(**kwargs)
        self.levels = [LevelSpec(*level) for level in levels]
        self.attention = dict(attention or {})
        self.depth = depth
        inner = [level for level in self.levels if level.name <= BACKBONE_TOP]
        self.outer = self.levels[len(inner) :]
        self.inner = inner
        self.sppf = SPPF(inner[-1].channels, dtype=self.dtype_policy, name="sppf")
        self.extra = [
            (
                ConvBNAct(level.channels, strides=2, dtype=self.dtype_policy, name=f"{level.name}_downsample"),
                C2f(level.channels, depth, shortcut=True, dtype=self.dtype_policy, name=f"{level.name}_c2f"),
            )
            for level in self.outer
        ]

    def build(self, input_shape):
        shape = (None, None, None, self.inner[-1].channels)
        build_layers(self.attention.get(BEFORE_SPPF, ()), shape)
        self.sppf.build(shape)
        for level, (downsample, c2f) in zip(self.outer, self.extra, strict=True):
            downsample.build(shape)
            shape = (None, None, None, level.channels)
            c2f.build(shape)
        for level in self.levels:
            build_layers(self.attention.get(level.name, ()), (None, None, None, level.channels))

    def call(self, inputs):
        maps = [inputs[level.name] for level in self.inner]
        maps[-1] = self.sppf(run_layers(self.attention.get(BEFORE_SPPF, ()), maps[-1]))
        for downsample, c2f in self.extra:
            maps.append(c2f(downsample(maps[-1])))
        return [run_layers(self.attention.get(level.name, ()), x) for level, x in zip(self.levels, maps, strict=True)]

    def get_config(self):
        return {
            **super().get_config(),
            "levels": [list(level) for level in self.levels],
            "attention": serialize_places(self.attention),
            "depth": self.depth,
        }

    @classmethod
    def from_config(cls, config):
        return cls(**{**config, "attention": deserialize_places(config["attention"])})
