"""SiLU with a gradient that passes over each map once."""

import keras
import tensorflow as tf


@keras.saving.register_keras_serializable("kyolo")
def silu(x):
    """The activation `x sigmoid(x)`: that of `keras.activations.silu`, but for the time of its gradient on a CPU.

    The gradient of Keras' makes seven passes over a map, slow ones in bfloat16. Here XLA compiles it to one, in float32
    whatever the precision. Where there is a GPU the gradient is left to TensorFlow.

    Args:
        x: float tensor of any shape.

    Returns:
        Tensor of the same shape and type.

    Example:
        >>> silu(keras.ops.zeros((2,))).numpy().tolist()
        [0.0, 0.0]

    Reference:
        Elfwing et al., Sigmoid-Weighted Linear Units, arXiv 1702.03118, equations 5 and 6.
    """
    if tf.config.get_visible_devices("GPU"):
        return tf.nn.silu(x)
    return _silu(x)


@tf.custom_gradient
def _silu(x):
    return x * tf.sigmoid(x), lambda upstream: _silu_gradient(x, upstream)


@tf.function(jit_compile=True)
def _silu_gradient(x, upstream):
    exact = tf.cast(x, tf.float32)
    sigmoid = tf.sigmoid(exact)
    gradient = tf.cast(upstream, tf.float32) * sigmoid * (1 + exact * (1 - sigmoid))
    return tf.cast(gradient, x.dtype)


def with_fast_gradient(activation):
    """`silu` for Keras' own; any other activation is returned as it is."""
    return silu if activation is keras.activations.silu else activation
