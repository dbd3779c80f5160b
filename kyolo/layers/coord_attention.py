"""Coordinate attention: a gate for each channel and row, and one for each channel and column."""

import keras
from keras import ops

from kyolo.layers.conv_bn_act import conv_initializer
from kyolo.layers.gate import check_init, check_whole, gate, hidden_channels, last_initializer, make_norm


@keras.saving.register_keras_serializable("kyolo")
class CoordAttention(keras.layers.Layer):
    """Coordinate attention: `x g(rows) g(columns)`, where things lie in a map kept along one axis at a time.

    The means of each row and of each column, one list of H + W, go through a 1x1 convolution C -> C / reduction, batch
    norm and hard swish; rows and columns then through a 1x1 convolution back to C each. Costs `3 C^2 / reduction`
    weights, biases and the norm's. `init` says what the gates are and where they start:

    - "paper": `g = sigmoid`. Both start near 0.5, so the module multiplies its input by about 0.25.
    - "identity": `g = 2 sigmoid`, and the last convolutions start at 0, so both gates start at exactly 1. The last
      convolutions learn from the first step on, what lies before them from the second, but for the first one's bias,
      which learns nothing before a batch norm.

    Args:
        reduction: how much narrower the hidden layer is than the input; it has 8 channels at least. Default 32, the
            paper's.
        init: "identity" or "paper". Default "identity".

    Input shape:
        `(B, H, W, C)`.

    Output shape:
        The input's.

    Raises:
        ValueError: on an unknown `init`, or a `reduction` below 1.

    Example:
        >>> x = keras.random.normal((1, 8, 8, 16))
        >>> bool(keras.ops.all(CoordAttention()(x) == x))
        True

    Reference:
        Hou et al., Coordinate Attention, arXiv 2103.02907, equations 4 to 9.
    """

    def __init__(self, reduction=32, init="identity", **kwargs):
        super().__init__(**kwargs)
        self.reduction = check_whole("reduction", reduction)
        self.init = check_init(init)

    def build(self, input_shape):
        channels = input_shape[-1]
        hidden = hidden_channels(channels, self.reduction)
        self.squeeze = self._conv(hidden, "squeeze", conv_initializer())
        self.norm = make_norm("norm", self.dtype_policy)
        self.rows = self._conv(channels, "rows", last_initializer(self.init))
        self.columns = self._conv(channels, "columns", last_initializer(self.init))
        narrow = (None, None, None, hidden)
        for layer, shape in (
            (self.squeeze, (None, None, None, channels)),
            (self.norm, narrow),
            (self.rows, narrow),
            (self.columns, narrow),
        ):
            layer.build(shape)

    def _conv(self, filters, name, kernel):
        return keras.layers.Conv2D(filters, 1, kernel_initializer=kernel, dtype=self.dtype_policy, name=name)

    def compute_output_shape(self, input_shape):
        return tuple(input_shape)

    def call(self, inputs):
        rows = ops.mean(inputs, axis=2, keepdims=True)  # (B, H, 1, C)
        columns = ops.swapaxes(ops.mean(inputs, axis=1, keepdims=True), 1, 2)  # (B, W, 1, C)
        hidden = ops.hard_silu(self.norm(self.squeeze(ops.concatenate([rows, columns], axis=1))))
        height = ops.shape(inputs)[1]
        along_rows = gate(self.rows(hidden[:, :height]), self.init)
        along_columns = gate(ops.swapaxes(self.columns(hidden[:, height:]), 1, 2), self.init)
        return inputs * along_rows * along_columns

    def get_config(self):
        return {**super().get_config(), "reduction": self.reduction, "init": self.init}
