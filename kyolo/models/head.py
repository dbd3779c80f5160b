"""The head: two branches a level, one for the four sides of the box, one for the classes."""

import math

import keras
from keras import ops

from kyolo.layers.conv_bn_act import conv_initializer
from kyolo.layers.separable_conv import CONVOLUTIONS
from kyolo.models.pyramid import LevelSpec, scaled_channels

REFERENCE_SIZE = 640  # the class bias starts at a rate of 5 objects in an image of this side
OBJECTS_PER_IMAGE = 5


@keras.saving.register_keras_serializable("kyolo")
class DetectionHead(keras.layers.Layer):
    """Decoupled, anchor-free head: box logits over `reg_max` bins a side, and class logits.

    Each branch is two 3x3 convolutions and a 1x1 one. Widths follow the finest level's channels C:
    `max(16, C / 4, 4 reg_max)` for boxes, `max(C, min(num_classes, 100))` for classes. Biases start so that a class'
    score is `5 / num_classes / (640 / stride)^2`, its rate among the cells of a typical image, and not 0.5. The last
    convolutions compute in float32 under every precision.

    Args:
        num_classes: number of classes K.
        levels: `LevelSpec` of the levels, finest first.
        reg_max: bins R of each side's distance; a side is at most R - 1 strides long. Default 16.
        width: factor of both widths, which are rounded to multiples of 8, 8 at least. Default 1, as they are.
        conv: "standard", or "depthwise": the 3x3 convolutions are taken apart. Default "standard".

    Input shape:
        List of maps `(B, H / stride, W / stride, channels)`, finest first.

    Output shape:
        Dict of float32 `box_logits` `(B, A, 4, R)` (left, top, right, bottom) and `class_logits` `(B, A, K)`.

    Reference:
        YOLOv8's head; the bias after Lin et al., Focal Loss, arXiv 1708.02002, section 4.1.
    """

    def __init__(self, num_classes, levels, reg_max=16, width=1.0, conv="standard", **kwargs):
        super().__init__(**kwargs)
        self.num_classes = num_classes
        self.levels = [LevelSpec(*level) for level in levels]
        self.reg_max = reg_max
        self.width = width
        self.conv = conv
        finest = self.levels[0].channels
        box_width = scaled_channels(max(16, finest // 4, 4 * reg_max), width)
        class_width = scaled_channels(max(finest, min(num_classes, 100)), width)
        self.box_branches = [
            self._branch(f"{level.name}_box", box_width, 4 * reg_max, bias=1.0) for level in self.levels
        ]
        self.class_branches = [
            self._branch(f"{level.name}_class", class_width, num_classes, bias=self._class_bias(level.stride))
            for level in self.levels
        ]

    def _class_bias(self, stride):
        return math.log(OBJECTS_PER_IMAGE / self.num_classes / (REFERENCE_SIZE / stride) ** 2)

    def _branch(self, name, width, outputs, bias):
        return [
            CONVOLUTIONS[self.conv](width, dtype=self.dtype_policy, name=f"{name}_1"),
            CONVOLUTIONS[self.conv](width, dtype=self.dtype_policy, name=f"{name}_2"),
            keras.layers.Conv2D(
                outputs,
                1,
                kernel_initializer=conv_initializer(),
                bias_initializer=keras.initializers.Constant(bias),
                dtype="float32",
                name=f"{name}_logits",
            ),
        ]

    def build(self, input_shape):
        for branches in (self.box_branches, self.class_branches):
            for level, (first, second, logits) in zip(self.levels, branches, strict=True):
                first.build((None, None, None, level.channels))
                second.build((None, None, None, first.filters))
                logits.build((None, None, None, second.filters))

    def call(self, inputs):
        box_maps = [_run(branch, x) for branch, x in zip(self.box_branches, inputs, strict=True)]
        class_maps = [_run(branch, x) for branch, x in zip(self.class_branches, inputs, strict=True)]
        return {
            "box_logits": _flatten(box_maps, (4, self.reg_max)),  # (B, A, 4, R)
            "class_logits": _flatten(class_maps, (self.num_classes,)),  # (B, A, K)
        }

    def get_config(self):
        return {
            **super().get_config(),
            "num_classes": self.num_classes,
            "levels": [list(level) for level in self.levels],
            "reg_max": self.reg_max,
            "width": self.width,
            "conv": self.conv,
        }


def _run(layers, x):
    for layer in layers:
        x = layer(x)
    return x


def _flatten(maps, tail):
    """Joins the cells of all levels: list of `(B, h, w, c)` to `(B, A, *tail)`."""
    rows = [ops.reshape(x, (ops.shape(x)[0], ops.shape(x)[1] * ops.shape(x)[2], *tail)) for x in maps]
    return ops.concatenate(rows, axis=1)
