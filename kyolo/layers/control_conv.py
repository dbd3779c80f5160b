"""The control of a study of attention: plain convolutions with as many weights."""

import keras
from keras import ops

from kyolo.errors import ArgumentError
from kyolo.layers.conv_bn_act import conv_initializer
from kyolo.layers.gate import LEAST_HIDDEN, check_init, make_norm


@keras.saving.register_keras_serializable("kyolo")
class ControlConv(keras.layers.Layer):
    """Two plain convolutions in the place of an attention module: `x + norm(conv(relu(norm(conv(x)))))`.

    A module that helps only because it has weights helps no more than this. The convolutions are 3x3, or 1x1 where
    3x3 ones would have fewer than 8 hidden channels; the hidden width is the one whose number of weights comes closest.

    Args:
        num_weights: of the module that this stands for, on a map of as many channels.
        init: "identity": the last norm starts at a factor of 0, so inserting the layer changes no output; that norm
            learns from the first step on, the rest from the second. "paper": it starts at 1. Default "identity".

    Input shape:
        `(B, H, W, C)`.

    Output shape:
        The input's.

    Raises:
        ValueError: on an unknown `init`, or fewer weights than the narrowest form has, `4 C + 2`.

    Example:
        >>> layer = ControlConv(num_weights=1000)
        >>> layer.build((None, 8, 8, 16))  # 1x1, 28 hidden channels: 2 x 16 x 28 + 2 x (28 + 16)
        >>> sum(int(np.prod(weight.shape)) for weight in layer.trainable_weights)
        984
    """

    def __init__(self, num_weights, init="identity", **kwargs):
        super().__init__(**kwargs)
        self.num_weights = num_weights
        self.init = check_init(init)

    def build(self, input_shape):
        channels = input_shape[-1]
        side = 3 if self.num_weights >= _count(channels, LEAST_HIDDEN, 3) else 1
        if self.num_weights < _count(channels, 1, side):
            fewest = f"expected at least {_count(channels, 1, side)} on {channels} channels"
            raise ArgumentError("num_weights", f"{fewest}, got {self.num_weights}.")
        hidden = max(round((self.num_weights - 2 * channels) / (2 * side**2 * channels + 2)), 1)
        self.squeeze, self.expand = self._conv(hidden, side, "squeeze"), self._conv(channels, side, "expand")
        self.squeeze_norm = make_norm("squeeze_norm", self.dtype_policy)
        self.expand_norm = make_norm("expand_norm", self.dtype_policy, "zeros" if self.init == "identity" else "ones")
        narrow = (*input_shape[:-1], hidden)
        for layer, shape in (
            (self.squeeze, input_shape),
            (self.squeeze_norm, narrow),
            (self.expand, narrow),
            (self.expand_norm, input_shape),
        ):
            layer.build(shape)

    def _conv(self, filters, side, name):
        return keras.layers.Conv2D(
            filters,
            side,
            padding="same",
            use_bias=False,
            kernel_initializer=conv_initializer(),
            dtype=self.dtype_policy,
            name=name,
        )

    def compute_output_shape(self, input_shape):
        return tuple(input_shape)

    def call(self, inputs):
        hidden = ops.relu(self.squeeze_norm(self.squeeze(inputs)))
        return inputs + self.expand_norm(self.expand(hidden))

    def get_config(self):
        return {**super().get_config(), "num_weights": self.num_weights, "init": self.init}


def _count(channels, hidden, side):
    """Weights of both kernels, and two a channel for the norms."""
    return 2 * side**2 * channels * hidden + 2 * hidden + 2 * channels
