"""Batch norm in one fused operation."""

import keras
import tensorflow as tf

from kyolo._environment import use_channels_last
from kyolo.replicas import count_replicas, gather_from_replicas

use_channels_last()  # here, as every detector needs this layer


@keras.saving.register_keras_serializable("kyolo")
class BatchNorm(keras.layers.BatchNormalization):
    """Batch normalisation over the channels of a map, by TensorFlow's fused operation.

    Keras computes moments and the affine map in many passes over the map, which takes a CPU longer. Arguments, weights
    and outputs are those of `keras.layers.BatchNormalization`. The moving variance gets the unbiased variance of the
    batch, as in PyTorch, where Keras takes the biased one. Moments and weights are float32, and so is the arithmetic,
    also where the map is of half precision.

    Several replicas take the statistics of all their batches together, whatever `synchronized` says: their outputs,
    gradients and moving statistics are those of one replica with the whole batch.

    Input shape:
        `(B, H, W, C)`.

    Output shape:
        The input's.

    Reference:
        Ioffe and Szegedy, Batch Normalization, arXiv 1502.03167, algorithms 1 and 2.
    """

    def call(self, inputs, training=None, mask=None):
        training = bool(training and self.trainable)
        x = inputs if inputs.dtype.size == 2 else tf.cast(inputs, tf.float32)
        scale = self.gamma.value if self.scale else tf.ones_like(self.moving_mean.value)
        offset = self.beta.value if self.center else tf.zeros_like(self.moving_mean.value)
        if training and count_replicas() > 1:
            outputs, mean, variance = self._normalize_together(tf.cast(x, tf.float32), scale, offset)
        else:
            mean, variance = ([], []) if training else (self.moving_mean.value, self.moving_variance.value)
            outputs, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
                x=x,
                scale=scale,
                offset=offset,
                mean=mean,
                variance=variance,
                epsilon=self.epsilon,
                is_training=training,
            )
        if training:
            for moving, value in ((self.moving_mean, mean), (self.moving_variance, variance)):
                moving.assign(moving * self.momentum + value * (1 - self.momentum))
        return tf.cast(outputs, self.compute_dtype)

    def _normalize_together(self, x, scale, offset):
        """Outputs, mean and unbiased variance by the moments of all replicas, which they tell each other at once."""
        means, variances = tf.nn.moments(x, (0, 1, 2))
        count = tf.cast(tf.reduce_prod(tf.shape(x)[:3]), tf.float32)
        moments = gather_from_replicas(tf.concat([means, variances, [count]], 0))
        means, variances, counts = tf.split(moments, [x.shape[-1], x.shape[-1], 1], 1)  # a row for each replica
        count = tf.reduce_sum(counts)
        mean = tf.reduce_sum(means * counts, 0) / count
        # Variance within the replicas, and between them. The mean square less the square of the mean loses digits.
        variance = tf.reduce_sum((variances + tf.square(means - mean)) * counts, 0) / count
        outputs = (x - mean) * (scale * tf.math.rsqrt(variance + self.epsilon)) + offset
        return outputs, mean, variance * count / tf.maximum(count - 1, 1)
