"""Convolution, batch norm, activation: the brick of the detector."""

import keras

from kyolo.errors import ArgumentError
from kyolo.layers.batch_norm import BatchNorm
from kyolo.layers.silu import with_fast_gradient

BATCH_NORM_MOMENTUM = 0.97  # the reference's 0.03, as Keras counts it
BATCH_NORM_EPSILON = 1e-3

# U(-1 / sqrt(fan_in), 1 / sqrt(fan_in)), PyTorch's default, which the reference trains from.
CONV_INITIALIZER = {
    "class_name": "VarianceScaling",
    "config": {"scale": 1 / 3, "mode": "fan_in", "distribution": "uniform"},
}


def conv_initializer():
    """A fresh instance of the initialiser of convolution kernels: uniform within +-1 / sqrt(fan_in)."""
    return keras.initializers.get(CONV_INITIALIZER)


@keras.saving.register_keras_serializable("kyolo")
class ConvBNAct(keras.layers.Layer):
    """Convolution without bias, batch norm, activation.

    A stride of 2 pads (k - 1) / 2 on each side, as PyTorch does, and not "same", which pads even sizes on the right
    and bottom only: weights trained elsewhere fit only so.

    Args:
        filters: channels of the output.
        kernel_size: side of the kernel, odd. Default 3.
        strides: 1 or 2. Default 1.
        groups: groups of the convolution. Default 1.
        activation: name of a Keras activation, or None. Default "silu".

    Input shape:
        `(B, H, W, C)`.

    Output shape:
        `(B, H / strides, W / strides, filters)`, rounded up.

    Example:
        >>> ConvBNAct(8, strides=2)(keras.ops.ones((1, 32, 32, 3))).shape
        TensorShape([1, 16, 16, 8])
    """

    def __init__(self, filters, kernel_size=3, strides=1, groups=1, activation="silu", **kwargs):
        super().__init__(**kwargs)
        if kernel_size % 2 == 0:
            raise ArgumentError(
                "kernel_size", f"expected an odd integer, for equal padding on both sides, got {kernel_size}."
            )
        self.filters = filters
        self.kernel_size = kernel_size
        self.strides = strides
        self.groups = groups
        self.activation = keras.activations.get(activation)
        margin = kernel_size // 2
        self.pad = keras.layers.ZeroPadding2D(margin, name="pad") if strides > 1 and margin else None
        self.conv = keras.layers.Conv2D(
            filters,
            kernel_size,
            strides=strides,
            padding="valid" if self.pad else "same",
            groups=groups,
            use_bias=False,
            kernel_initializer=conv_initializer(),
            dtype=self.dtype_policy,
            name="conv",
        )
        self.norm = BatchNorm(
            momentum=BATCH_NORM_MOMENTUM, epsilon=BATCH_NORM_EPSILON, dtype=self.dtype_policy, name="norm"
        )

    def build(self, input_shape):
        self.conv.build(self._padded(input_shape))
        self.norm.build((*input_shape[:-1], self.filters))

    def _padded(self, shape):
        return shape if self.pad is None else self.pad.compute_output_shape(shape)

    def compute_output_shape(self, input_shape):
        return self.conv.compute_output_shape(self._padded(input_shape))

    def call(self, inputs):
        x = inputs if self.pad is None else self.pad(inputs)
        return with_fast_gradient(self.activation)(self.norm(self.conv(x)))

    def get_config(self):
        return {
            **super().get_config(),
            "filters": self.filters,
            "kernel_size": self.kernel_size,
            "strides": self.strides,
            "groups": self.groups,
            "activation": keras.activations.serialize(self.activation),
        }
