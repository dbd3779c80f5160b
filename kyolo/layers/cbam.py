"""CBAM: a gate for each channel, then one for each pixel."""

import keras
from keras import ops

from kyolo.layers.conv_bn_act import conv_initializer
from kyolo.layers.gate import check_init, check_whole, gate, hidden_channels, last_initializer


@keras.saving.register_keras_serializable("kyolo")
class CBAM(keras.layers.Layer):
    """Convolutional block attention: `x = x g(mlp(mean x) + mlp(max x))`, then `x = x g(conv7x7([mean, max]))`.

    The first mean and maximum are over the pixels, the second over the channels; both go through one perceptron
    C -> C / reduction -> C with ReLU. Costs `2 C^2 / reduction` weights, biases, and 98. `init` says what the gates are
    and where they start:

    - "paper": `g = sigmoid`. Both start near 0.5, so the module multiplies its input by about 0.25.
    - "identity": `g = 2 sigmoid`, and the last layer of each branch starts at 0, so both gates start at exactly 1. The
      last layers learn from the first step on, the perceptron's first from the second.

    Args:
        reduction: how much narrower the hidden layer is than the input; it has 8 channels at least. Default 16, the
            paper's.
        kernel_size: side of the convolution, odd. Default 7, the paper's.
        init: "identity" or "paper". Default "identity".

    Input shape:
        `(B, H, W, C)`.

    Output shape:
        The input's.

    Raises:
        ValueError: on an unknown `init`, a `reduction` below 1, or an even `kernel_size`.

    Example:
        >>> x = keras.random.normal((1, 8, 8, 16))
        >>> bool(keras.ops.all(CBAM()(x) == x))
        True

    Reference:
        Woo et al., CBAM, arXiv 1807.06521, equations 2 and 3. Its published code also has a batch norm behind the
        7x7 convolution, which the equations have not.
    """

    def __init__(self, reduction=16, kernel_size=7, init="identity", **kwargs):
        super().__init__(**kwargs)
        self.reduction = check_whole("reduction", reduction)
        self.kernel_size = check_whole("kernel_size", kernel_size, odd=True)
        self.init = check_init(init)

    def build(self, input_shape):
        channels = input_shape[-1]
        hidden = hidden_channels(channels, self.reduction)
        last = last_initializer(self.init)
        self.squeeze = keras.layers.Dense(
            hidden,
            activation="relu",
            kernel_initializer=conv_initializer(),
            dtype=self.dtype_policy,
            name="squeeze",
        )
        self.expand = keras.layers.Dense(channels, kernel_initializer=last, dtype=self.dtype_policy, name="expand")
        self.spatial = keras.layers.Conv2D(
            1,
            self.kernel_size,
            padding="same",
            use_bias=False,
            kernel_initializer=last,
            dtype=self.dtype_policy,
            name="spatial",
        )
        self.squeeze.build((None, channels))
        self.expand.build((None, hidden))
        self.spatial.build((*input_shape[:-1], 2))

    def compute_output_shape(self, input_shape):
        return tuple(input_shape)

    def call(self, inputs):
        pooled = (ops.mean(inputs, axis=(1, 2)), ops.max(inputs, axis=(1, 2)))
        logits = sum(self.expand(self.squeeze(x)) for x in pooled)
        x = inputs * gate(logits, self.init)[:, None, None]
        pooled = [ops.mean(x, axis=-1, keepdims=True), ops.max(x, axis=-1, keepdims=True)]
        return x * gate(self.spatial(ops.concatenate(pooled, axis=-1)), self.init)

    def get_config(self):
        return {
            **super().get_config(),
            "reduction": self.reduction,
            "kernel_size": self.kernel_size,
            "init": self.init,
        }
