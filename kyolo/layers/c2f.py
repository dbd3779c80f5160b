"""C2f: a cross-stage partial block that keeps the output of each of its bottlenecks."""

import keras
from keras import ops

from kyolo.errors import ArgumentError
from kyolo.layers.conv_bn_act import ConvBNAct
from kyolo.layers.separable_conv import CONVOLUTIONS


@keras.saving.register_keras_serializable("kyolo")
class C2f(keras.layers.Layer):
    """Cross-stage partial block with two convolutions and `depth` bottlenecks, all concatenated.

    A 1x1 convolution makes `filters` channels, split into halves; each bottleneck (3x3, 3x3) takes the last piece and
    adds one more; a 1x1 convolution brings the `2 + depth` pieces back to `filters` channels.

    Args:
        filters: channels of the output, even.
        depth: number of bottlenecks. Default 1.
        shortcut: whether each bottleneck adds its input to its output: True in the reference's backbone, False in its
            neck. Default False.
        conv: "standard", or "depthwise": the bottlenecks' 3x3 convolutions are taken apart. Default "standard".

    Input shape:
        `(B, H, W, C)`.

    Output shape:
        `(B, H, W, filters)`.

    Reference:
        Introduced with YOLOv8; after CSPNet (Wang et al., arXiv 1911.11929) and ELAN (arXiv 2211.04800).
    """

    def __init__(self, filters, depth=1, shortcut=False, conv="standard", **kwargs):
        super().__init__(**kwargs)
        if filters % 2:
            raise ArgumentError("filters", f"expected an even integer, as C2f splits them into halves, got {filters}.")
        self.filters = filters
        self.depth = depth
        self.shortcut = shortcut
        self.conv = conv
        half, dtype = filters // 2, self.dtype_policy
        self.pre = ConvBNAct(filters, 1, dtype=dtype, name="pre")
        self.bottlenecks = [
            [CONVOLUTIONS[conv](half, dtype=dtype, name=f"bottleneck_{i}_{j}") for j in (1, 2)] for i in range(depth)
        ]
        self.post = ConvBNAct(filters, 1, dtype=dtype, name="post")

    def build(self, input_shape):
        space = input_shape[:-1]
        self.pre.build(input_shape)
        for pair in self.bottlenecks:
            for conv in pair:
                conv.build((*space, self.filters // 2))
        self.post.build((*space, (2 + self.depth) * self.filters // 2))

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], self.filters)

    def call(self, inputs):
        pieces = ops.split(self.pre(inputs), 2, axis=-1)
        for first, second in self.bottlenecks:
            x = second(first(pieces[-1]))
            pieces.append(x + pieces[-1] if self.shortcut else x)
        return self.post(ops.concatenate(pieces, axis=-1))

    def get_config(self):
        return {
            **super().get_config(),
            "filters": self.filters,
            "depth": self.depth,
            "shortcut": self.shortcut,
            "conv": self.conv,
        }
