import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from kyolo.losses import WIoULoss
from tests.test_case import ROOT

# IoU 1/2 and 0: a 20 x 10 box of which the target is half, and one that lies elsewhere; then one that fits.
Y_TRUE = np.float32([[5, 0, 15, 10], [50, 0, 60, 10], [0, 0, 10, 10]])
Y_PRED = np.float32([[0, 0, 20, 10], [0, 0, 10, 10], [0, 0, 10, 10]])

TWO_REPLICAS = """
import numpy as np, tensorflow as tf
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
)
import keras
from kyolo.losses import WIoULoss
from kyolo.replicas import sum_over_replicas
from tests.losses.wiou_test import Y_PRED, Y_TRUE

strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
with strategy.scope():
    layer, loss = keras.layers.Layer(), WIoULoss(momentum=0.1)
    loss.build(lambda **kwargs: layer.add_weight(trainable=False, aggregation="only_first_replica", **kwargs))

def step(number):
    mask = tf.where(number == 0, [False, False, True], [True, True, False])
    loss.update(tf.constant(Y_TRUE), tf.constant(Y_PRED), mask)
    return sum_over_replicas(number)

numbers = strategy.experimental_distribute_values_from_function(
    lambda context: tf.constant(context.replica_id_in_sync_group)
)
sums = strategy.run(tf.function(step), args=(numbers,))
print([int(x) for x in strategy.experimental_local_results(sums)], f"{loss.mean.value.numpy():.6f}")
"""


def in_a_detector(**settings):
    """The loss as a detector's compile leaves it."""
    loss, layer = WIoULoss(reduction=None, **settings), keras.layers.Layer()
    loss.build(lambda **kwargs: layer.add_weight(trainable=False, **kwargs))
    return loss, layer


class RunningMeanTest(tf.test.TestCase):
    def test_moves_by_the_positives(self):
        loss, layer = in_a_detector(momentum=0.1)
        self.assertLen(layer.non_trainable_variables, 1)
        loss.update(Y_TRUE, Y_PRED, np.array([True, True, False]))
        # 0.9 x 1 + 0.1 x (1/2 + 1) / 2
        self.assertAllClose(layer.non_trainable_variables[0], 0.975, rtol=1e-6)
        loss.update(Y_TRUE, Y_PRED, np.array([False, False, True]))
        self.assertAllClose(loss.mean, 0.9 * 0.975, rtol=1e-6)

    def test_a_batch_without_positives_moves_nothing(self):
        loss, _ = in_a_detector(momentum=0.1, initial_mean=0.7)
        loss.update(Y_TRUE, Y_PRED, np.zeros(3, bool))
        self.assertAllEqual(loss.mean, np.float32(0.7))

    def test_the_loss_takes_the_mean(self):
        # Outlierness of the first box 0.5 / 0.4 and its distance 0 (concentric): 0.5 (0.5 / 0.4)^0.5.
        loss, _ = in_a_detector(version=2)
        loss.mean.assign(0.4)
        self.assertAllClose(loss(Y_TRUE, Y_PRED)[0], 0.5 * 1.25**0.5, rtol=1e-6)

    def test_a_mean_of_0_is_no_nan(self):
        for version in (2, 3):
            loss, _ = in_a_detector(version=version, momentum=1.0)
            loss.update(Y_TRUE, Y_PRED, np.array([False, False, True]))  # fits exactly
            self.assertAllEqual(loss.mean, 0.0)
            self.assertAllEqual(loss(Y_TRUE, Y_PRED), np.zeros(3))

    def test_version_1_keeps_nothing(self):
        loss, layer = in_a_detector(version=1)
        loss.update(Y_TRUE, Y_PRED, np.ones(3, bool))
        self.assertEmpty(layer.variables)

    @pytest.mark.slow
    def test_replicas_move_it_together(self):
        # As if one had had all three: 0.9 + 0.1 (1/2 + 1 + 0) / 3. The mean of their own, 0.9 and 0.975, is another.
        done = subprocess.run(
            [sys.executable, "-c", TWO_REPLICAS], cwd=ROOT, capture_output=True, text=True, check=False
        )
        self.assertEqual(done.stdout, "[1, 1] 0.950000\n", done.stderr)


if __name__ == "__main__":
    tf.test.main()
