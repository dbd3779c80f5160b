"""A convolution taken apart: over space for each channel, then over channels for each pixel."""

import keras

from kyolo.errors import ArgumentError
from kyolo.layers.batch_norm import BatchNorm
from kyolo.layers.conv_bn_act import BATCH_NORM_EPSILON, BATCH_NORM_MOMENTUM, ConvBNAct
from kyolo.layers.silu import with_fast_gradient


@keras.saving.register_keras_serializable("kyolo")
class SeparableConvBNAct(keras.layers.Layer):
    """Depthwise convolution, batch norm, activation, and the same with a 1x1 convolution.

    In the place of a `ConvBNAct` of the same arguments, for `k^2 C + C filters` weights instead of `k^2 C filters`. It
    pads as that does.

    Args:
        filters: channels of the output.
        kernel_size: side of the depthwise kernel, odd. Default 3.
        strides: 1 or 2. Default 1.
        activation: name of a Keras activation, or None. Default "silu".

    Input shape:
        `(B, H, W, C)`.

    Output shape:
        `(B, H / strides, W / strides, filters)`, rounded up.

    Example:
        >>> SeparableConvBNAct(8, strides=2)(keras.ops.ones((1, 32, 32, 3))).shape
        TensorShape([1, 16, 16, 8])

    Reference:
        Howard et al., MobileNets, arXiv 1704.04861, section 3.1.
    """

    def __init__(self, filters, kernel_size=3, strides=1, activation="silu", **kwargs):
        super().__init__(**kwargs)
        if kernel_size % 2 == 0:
            raise ArgumentError(
                "kernel_size", f"expected an odd integer, for equal padding on both sides, got {kernel_size}."
            )
        self.filters = filters
        self.kernel_size = kernel_size
        self.strides = strides
        self.activation = keras.activations.get(activation)
        margin = kernel_size // 2
        self.pad = keras.layers.ZeroPadding2D(margin, name="pad") if strides > 1 and margin else None
        bound = 1 / kernel_size  # 1 / sqrt(fan_in), as of other kernels
        self.depthwise = keras.layers.DepthwiseConv2D(
            kernel_size,
            strides=strides,
            padding="valid" if self.pad else "same",
            use_bias=False,
            depthwise_initializer=keras.initializers.RandomUniform(-bound, bound),
            dtype=self.dtype_policy,
            name="depthwise",
        )
        self.norm = BatchNorm(
            momentum=BATCH_NORM_MOMENTUM, epsilon=BATCH_NORM_EPSILON, dtype=self.dtype_policy, name="norm"
        )
        self.pointwise = ConvBNAct(filters, 1, activation=activation, dtype=self.dtype_policy, name="pointwise")

    def build(self, input_shape):
        padded = self._padded(input_shape)
        self.depthwise.build(padded)
        inner = self.depthwise.compute_output_shape(padded)
        self.norm.build(inner)
        self.pointwise.build(inner)

    def _padded(self, shape):
        return shape if self.pad is None else self.pad.compute_output_shape(shape)

    def compute_output_shape(self, input_shape):
        return (*self.depthwise.compute_output_shape(self._padded(input_shape))[:-1], self.filters)

    def call(self, inputs):
        x = inputs if self.pad is None else self.pad(inputs)
        return self.pointwise(with_fast_gradient(self.activation)(self.norm(self.depthwise(x))))

    def get_config(self):
        return {
            **super().get_config(),
            "filters": self.filters,
            "kernel_size": self.kernel_size,
            "strides": self.strides,
            "activation": keras.activations.serialize(self.activation),
        }


# By the names of configurations: what makes the convolutions larger than 1x1.
CONVOLUTIONS = {"standard": ConvBNAct, "depthwise": SeparableConvBNAct}
