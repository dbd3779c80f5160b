"""Batch norm in half precision, and on two replicas: in a process of its own that shows TensorFlow two devices."""

import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from absl.testing import parameterized

from kyolo.layers import BatchNorm
from tests.test_case import ROOT

MOMENTUM, EPSILON = 0.75, 1e-3
# Far from 0, where a mean of squares in float32 tells little: 1000 with a deviation of 1.
IMAGES = np.random.default_rng(0).normal(1000, 1, (4, 3, 5, 2)).astype("float32")
IMAGES[1:] += 3
FACTORS = np.random.default_rng(1).normal(size=IMAGES.shape).astype("float32")

TWO_REPLICAS = """
import sys
import numpy as np, tensorflow as tf
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
)
from kyolo.layers import BatchNorm
from kyolo.replicas import local_copies
from tests.layers.batch_norm_test import EPSILON, FACTORS, IMAGES, MOMENTUM

strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
with strategy.scope():
    norm = BatchNorm(momentum=MOMENTUM, epsilon=EPSILON)
    norm.build(IMAGES.shape)

def pieces(array):
    return strategy.experimental_distribute_values_from_function(
        lambda context: tf.constant(np.split(array, [1])[context.replica_id_in_sync_group])
    )

def step(images, factors):
    with tf.GradientTape() as tape:
        tape.watch(images)
        outputs = norm(images, training=True)
        loss = tf.reduce_sum(outputs**2 * factors)
    return outputs, tape.gradient(loss, images)

results = strategy.run(tf.function(step), args=(pieces(IMAGES), pieces(FACTORS)))
outputs, gradient = (np.concatenate(strategy.experimental_local_results(result)) for result in results)
moving = [np.stack(local_copies(variable)) for variable in norm.non_trainable_variables]
np.savez(sys.argv[1], outputs=outputs, gradient=gradient, mean=moving[0], variance=moving[1])
"""


class FactorsTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.product(scale=(False, True), center=(False, True), training=(False, True))
    def test_without_scale_or_centre(self, scale, center, training):
        """As Keras' layer with the same arguments; its statistics are set, and its moving variance is not compared."""
        random, layers = np.random.default_rng(2), []
        for cls in (BatchNorm, keras.layers.BatchNormalization):
            layers.append(cls(scale=scale, center=center))
            layers[-1].build((None, None, None, 2))
        for one, other in zip(*(layer.variables for layer in layers), strict=True):
            one.assign(random.uniform(0.5, 1.5, one.shape))
            other.assign(one)
        images = random.normal(1, 2, (4, 3, 5, 2)).astype("float32")
        found, expected = (layer(images, training=training) for layer in layers)
        self.assertAllClose(found, expected, rtol=1e-5, atol=1e-5)


class HalfPrecisionTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.parameters(("float16", 2**-11), ("bfloat16", 2**-8))
    def test_only_maps_are_rounded(self, dtype, rounding):
        """Against float64 by NumPy: maps are off by their own rounding, statistics and weights' gradients are not."""
        random, axes = np.random.default_rng(0), (0, 1, 2)
        images, upstream = (tf.cast(random.normal(3, 2, (8, 20, 20, 5)), dtype) for _ in range(2))
        norm = BatchNorm(momentum=MOMENTUM, epsilon=EPSILON, dtype=f"mixed_{dtype}")
        norm.build(images.shape)
        norm.gamma.assign(random.uniform(0.5, 2, 5))
        with tf.GradientTape() as tape:
            tape.watch(images)
            outputs = norm(images, training=True)
        found = tape.gradient(outputs, [images, norm.gamma.value, norm.beta.value], upstream)
        self.assertEqual(outputs.dtype, dtype)
        x, dy, gamma = tf.cast(images, tf.float64).numpy(), tf.cast(upstream, tf.float64).numpy(), norm.gamma.numpy()
        deviation = np.sqrt(x.var(axes) + EPSILON)
        y = (x - x.mean(axes)) / deviation
        self.assertAllClose(tf.cast(outputs, tf.float64), y * gamma, rtol=rounding, atol=1e-4)
        dx = gamma / deviation * (dy - dy.mean(axes) - y * (dy * y).mean(axes))
        self.assertAllClose(tf.cast(found[0], tf.float64), dx, rtol=rounding, atol=1e-3)
        self.assertAllClose(found[1], (dy * y).sum(axes), rtol=1e-4, atol=1e-2)
        self.assertAllClose(found[2], dy.sum(axes), rtol=1e-5)
        self.assertAllClose(norm.moving_mean, (1 - MOMENTUM) * x.mean(axes), rtol=1e-5)
        self.assertAllClose(norm.moving_variance, MOMENTUM + (1 - MOMENTUM) * x.var(axes, ddof=1), rtol=1e-4)

    @parameterized.parameters(("float16", 2**-11), ("bfloat16", 2**-8))
    def test_frozen(self, dtype, rounding):
        """With the moving statistics, which stay: y = gamma (x - m) / d, and no gradient goes through m and d."""
        random, axes = np.random.default_rng(0), (0, 1, 2)
        images, upstream = (tf.cast(random.normal(3, 2, (8, 20, 20, 5)), dtype) for _ in range(2))
        norm = BatchNorm(momentum=MOMENTUM, epsilon=EPSILON, dtype=f"mixed_{dtype}")
        norm.build(images.shape)
        gamma, mean, variance = random.uniform(0.5, 2, 5), random.normal(3, 1, 5), random.uniform(1, 5, 5)
        for variable, value in ((norm.gamma, gamma), (norm.moving_mean, mean), (norm.moving_variance, variance)):
            variable.assign(value)
        with tf.GradientTape() as tape:
            tape.watch(images)
            outputs = norm(images, training=False)
        found = tape.gradient(outputs, [images, norm.gamma.value, norm.beta.value], upstream)
        x, dy = tf.cast(images, tf.float64).numpy(), tf.cast(upstream, tf.float64).numpy()
        deviation = np.sqrt(variance + EPSILON)
        self.assertAllClose(tf.cast(outputs, tf.float64), gamma * (x - mean) / deviation, rtol=rounding, atol=1e-4)
        self.assertAllClose(tf.cast(found[0], tf.float64), gamma / deviation * dy, rtol=rounding, atol=1e-4)
        self.assertAllClose(found[1], (dy * (x - mean) / deviation).sum(axes), rtol=1e-4, atol=1e-2)
        self.assertAllClose(found[2], dy.sum(axes), rtol=1e-5)
        self.assertAllClose(norm.moving_mean, mean)
        self.assertAllClose(norm.moving_variance, variance)


@pytest.mark.slow
class TwoReplicasTest(tf.test.TestCase):
    def test_is_that_of_the_whole_batch(self):
        """One replica has one image, the other three: all four together in float64, by NumPy."""
        path = f"{self.get_temp_dir()}/results.npz"
        done = subprocess.run(
            [sys.executable, "-c", TWO_REPLICAS, path], cwd=ROOT, capture_output=True, text=True, check=False
        )
        self.assertEqual(done.returncode, 0, done.stderr)
        found = np.load(path)
        x, factors, axes = IMAGES.astype("float64"), FACTORS.astype("float64"), (0, 1, 2)
        deviation = np.sqrt(x.var(axes) + EPSILON)
        outputs = (x - x.mean(axes)) / deviation
        self.assertAllClose(found["outputs"], outputs, rtol=0, atol=1e-3)
        # y = (x - m) / d: dx = (dy - mean(dy) - y mean(y dy)) / d, where d^2 is the variance and epsilon.
        dy = 2 * outputs * factors
        gradient = (dy - dy.mean(axes) - outputs * (outputs * dy).mean(axes)) / deviation
        self.assertAllClose(found["gradient"], gradient, rtol=0, atol=3e-3)
        for copy in range(2):
            self.assertAllClose(found["mean"][copy], (1 - MOMENTUM) * x.mean(axes), rtol=1e-6)
            unbiased = x.var(axes, ddof=1)
            self.assertAllClose(found["variance"][copy], MOMENTUM + (1 - MOMENTUM) * unbiased, rtol=1e-4)


if __name__ == "__main__":
    tf.test.main()
