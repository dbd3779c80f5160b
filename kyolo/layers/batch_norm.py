"""Batch norm in one fused operation."""

import keras
import tensorflow as tf


@keras.saving.register_keras_serializable("kyolo")
class BatchNorm(keras.layers.BatchNormalization):
    """Batch normalisation over the channels of a map, by TensorFlow's fused operation.

    Keras computes moments and the affine map in many passes over the map, which takes a CPU longer. Arguments, weights
    and outputs are those of `keras.layers.BatchNormalization`. The moving variance gets the unbiased variance of the
    batch, as in PyTorch, where Keras takes the biased one. Maps of half precision are normalised in float32.

    Input shape:
        `(B, H, W, C)`.

    Output shape:
        The input's.

    Reference:
        Ioffe and Szegedy, Batch Normalization, arXiv 1502.03167, algorithms 1 and 2.
    """

    def call(self, inputs, training=None, mask=None):
        if self.synchronized:  # the statistics of all replicas are Keras' to collect
            return super().call(inputs, training=training, mask=mask)
        training = bool(training and self.trainable)
        mean, variance = ([], []) if training else (self.moving_mean.value, self.moving_variance.value)
        outputs, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
            x=tf.cast(inputs, tf.float32),
            scale=self.gamma.value,
            offset=self.beta.value,
            mean=mean,
            variance=variance,
            epsilon=self.epsilon,
            is_training=training,
        )
        if training:
            for moving, value in ((self.moving_mean, mean), (self.moving_variance, variance)):
                moving.assign(moving * self.momentum + value * (1 - self.momentum))
        return tf.cast(outputs, self.compute_dtype)
