"""An attention module of one's own, for `--import examples.custom_attention`.

A gate for each channel from where the map says that there is something to see, after the context modelling of GCNet
(Cao et al., arXiv 1904.11492), and starting as the identity.
"""

import keras
from keras import ops

import kyolo


@kyolo.register("attention", "context_gate")
class ContextGate(keras.layers.Layer):
    """`x + W2 relu(W1 c)`, where c is the mean of the pixels, weighted by a softmax over them; W2 starts at 0.

    Args:
        reduction: how much narrower the hidden layer is than the input. Default 8.
    """

    def __init__(self, reduction=8, **kwargs):
        super().__init__(**kwargs)
        self.reduction = reduction

    def build(self, input_shape):
        channels = input_shape[-1]
        hidden = max(channels // self.reduction, 8)
        self.score = keras.layers.Conv2D(1, 1, dtype=self.dtype_policy, name="score")
        self.squeeze = keras.layers.Dense(hidden, activation="relu", dtype=self.dtype_policy, name="squeeze")
        self.expand = keras.layers.Dense(channels, kernel_initializer="zeros", dtype=self.dtype_policy, name="expand")
        self.score.build(input_shape)
        self.squeeze.build((None, channels))
        self.expand.build((None, hidden))

    def call(self, inputs):
        batch, height, width, channels = ops.shape(inputs)
        weights = ops.softmax(ops.reshape(self.score(inputs), (batch, height * width, 1)), axis=1)
        context = ops.sum(ops.reshape(inputs, (batch, height * width, channels)) * weights, axis=1)  # (B, C)
        return inputs + self.expand(self.squeeze(context))[:, None, None]

    def get_config(self):
        return {**super().get_config(), "reduction": self.reduction}
