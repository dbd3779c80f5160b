"""Batch norm on two replicas, in a process of its own that shows TensorFlow two devices."""

import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

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
