"""ECA: a gate for each channel from the means of its neighbours."""

import math

import keras
from keras import ops

from kyolo.layers.gate import check_init, check_whole, gate, last_initializer


@keras.saving.register_keras_serializable("kyolo")
class ECA(keras.layers.Layer):
    """Efficient channel attention: `x g(conv(mean(x)))`, a convolution of one kernel along the channels.

    Costs `kernel_size` weights. `init` says what the gate is and where it starts:

    - "paper": `g = sigmoid`, near 0.5.
    - "identity": `g = 2 sigmoid`, and the kernel starts at 0, so the gates start at exactly 1. The kernel learns from
      the first step on.

    Args:
        kernel_size: odd; None: the odd number next to `log2(C) / 2 + 1 / 2`, the paper's choice. Default None.
        init: "identity" or "paper". Default "identity".

    Input shape:
        `(B, H, W, C)`.

    Output shape:
        The input's.

    Raises:
        ValueError: on an unknown `init`, or an even `kernel_size`.

    Example:
        >>> x = keras.random.normal((1, 8, 8, 16))
        >>> bool(keras.ops.all(ECA()(x) == x))
        True

    Reference:
        Wang et al., ECA-Net, arXiv 1910.03151, equations 9 and 12.
    """

    def __init__(self, kernel_size=None, init="identity", **kwargs):
        super().__init__(**kwargs)
        self.kernel_size = kernel_size if kernel_size is None else check_whole("kernel_size", kernel_size, odd=True)
        self.init = check_init(init)

    def build(self, input_shape):
        size = self.kernel_size
        if size is None:
            size = int(abs(math.log2(input_shape[-1]) / 2 + 1 / 2))
            size += 1 - size % 2
        self.conv = keras.layers.Conv1D(
            1,
            size,
            padding="same",
            use_bias=False,
            kernel_initializer=last_initializer(self.init),
            dtype=self.dtype_policy,
            name="conv",
        )
        self.conv.build((None, input_shape[-1], 1))

    def compute_output_shape(self, input_shape):
        return tuple(input_shape)

    def call(self, inputs):
        logits = self.conv(ops.mean(inputs, axis=(1, 2))[..., None])  # (B, C, 1)
        return inputs * gate(ops.swapaxes(logits, 1, 2), self.init)[:, None]

    def get_config(self):
        return {**super().get_config(), "kernel_size": self.kernel_size, "init": self.init}
