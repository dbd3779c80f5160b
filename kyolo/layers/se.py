"""SE: a gate for each channel from the mean of its map."""

import keras
from keras import ops

from kyolo.layers.conv_bn_act import conv_initializer
from kyolo.layers.gate import check_init, check_whole, gate, hidden_channels, last_initializer


@keras.saving.register_keras_serializable("kyolo")
class SE(keras.layers.Layer):
    """Squeeze and excitation: `x g(W2 relu(W1 mean(x)))`, the mean over all pixels.

    Costs `2 C^2 / reduction` weights and biases. `init` says what the gate is and where it starts:

    - "paper": `g = sigmoid`, near 0.5.
    - "identity": `g = 2 sigmoid`, and W2 starts at 0, so the gates start at exactly 1. W2 learns from the first step
      on, W1 from the second.

    Args:
        reduction: how much narrower the hidden layer is than the input; it has 8 channels at least. Default 16, the
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
        >>> bool(keras.ops.all(SE()(x) == x))
        True

    Reference:
        Hu et al., Squeeze-and-Excitation Networks, arXiv 1709.01507, section 3.
    """

    def __init__(self, reduction=16, init="identity", **kwargs):
        super().__init__(**kwargs)
        self.reduction = check_whole("reduction", reduction)
        self.init = check_init(init)

    def build(self, input_shape):
        channels = input_shape[-1]
        hidden = hidden_channels(channels, self.reduction)
        self.squeeze = keras.layers.Dense(
            hidden,
            activation="relu",
            kernel_initializer=conv_initializer(),
            dtype=self.dtype_policy,
            name="squeeze",
        )
        self.expand = keras.layers.Dense(
            channels, kernel_initializer=last_initializer(self.init), dtype=self.dtype_policy, name="expand"
        )
        self.squeeze.build((None, channels))
        self.expand.build((None, hidden))

    def compute_output_shape(self, input_shape):
        return tuple(input_shape)

    def call(self, inputs):
        logits = self.expand(self.squeeze(ops.mean(inputs, axis=(1, 2))))
        return inputs * gate(logits, self.init)[:, None, None]

    def get_config(self):
        return {**super().get_config(), "reduction": self.reduction, "init": self.init}
