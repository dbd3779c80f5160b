import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from kyolo.losses import DistributionFocalLoss
from tests import oracles


def log_softmax(logits):
    return np.log(oracles.softmax(np.float64(logits)))


class DistributionFocalLossTest(tf.test.TestCase, parameterized.TestCase):
    loss = DistributionFocalLoss(reduction=None)

    @parameterized.parameters(-3.0, 0.0, 0.5, 7.0, 14.995, 15.0, 40.0)
    def test_uniform_logits_cost_ln_16(self, distance):
        found = self.loss(np.full((2, 4), distance, "float32"), np.zeros((2, 4, 16), "float32"))
        self.assertAllClose(found, [2.77258872] * 2, atol=1e-6)

    @parameterized.parameters(
        # distance, low bin, weight of the low bin, weight of the bin above
        (-3.0, 0, 1.0, 0.0),
        (0.0, 0, 1.0, 0.0),
        (2.25, 2, 0.75, 0.25),
        (7.0, 7, 1.0, 0.0),
        (14.98, 14, 0.02, 0.98),
        (14.995, 14, 0.01, 0.99),  # from here on clipped to 14.99
        (15.0, 14, 0.01, 0.99),
        (40.0, 14, 0.01, 0.99),
    )
    def test_two_bins_share_the_target(self, distance, low, weight, other_weight):
        logits = np.random.default_rng(0).normal(0, 2, (1, 4, 16)).astype("float32")
        log_p = log_softmax(logits)[0]
        expected = -np.mean([weight * log_p[side, low] + other_weight * log_p[side, low + 1] for side in range(4)])
        self.assertAllClose(self.loss(np.full((1, 4), distance, "float32"), logits), [expected], atol=1e-4)

    def test_equals_oracle(self):
        random = np.random.default_rng(1)
        distances = random.uniform(-2, 18, (3, 11, 4)).astype("float32")
        logits = random.normal(0, 3, (3, 11, 4, 16)).astype("float32")
        found = self.loss(distances, logits)
        self.assertEqual(found.shape, (3, 11))
        self.assertAllClose(found, oracles.dfl(distances, logits), atol=1e-4)

    def test_sides_are_the_first_axis_of_the_logits(self):
        # Each side is sure of another bin; only the right order of sides and bins costs nothing.
        logits = np.full((4, 16), -50.0, "float32")
        for side, chosen in enumerate((1, 4, 9, 14)):
            logits[side, chosen] = 50.0
        self.assertAllClose(self.loss(np.float32([1, 4, 9, 14]), logits), 0.0, atol=1e-5)
        self.assertGreater(float(self.loss(np.float32([14, 9, 4, 1]), logits)), 50.0)

    def test_smallest_value_is_the_entropy_of_the_target(self):
        # ln 2 halfway between two bins, with half of the probability on each.
        logits = np.full((1, 4, 16), -1e3, "float32")
        logits[..., 6:8] = 0.0
        self.assertAllClose(self.loss(np.full((1, 4), 6.5, "float32"), logits), [np.log(2)], atol=1e-6)

    @parameterized.parameters(-3.0, 0.0, 3.25, 14.995, 15.0, 40.0)
    def test_gradient_is_softmax_minus_target(self, distance):
        logits = tf.constant(np.random.default_rng(2).normal(0, 2, (1, 4, 16)), tf.float32)
        with tf.GradientTape() as tape:
            tape.watch(logits)
            loss = self.loss(tf.fill((1, 4), distance), logits)
        target = np.zeros(16)
        y = min(max(distance, 0.0), 14.99)
        target[int(y)], target[int(y) + 1] = int(y) + 1 - y, y - int(y)
        expected = (oracles.softmax(logits.numpy()) - target) / 4
        self.assertAllClose(tape.gradient(loss, logits), expected, rtol=0, atol=1e-5)

    def test_sure_and_wrong_stays_finite(self):
        logits = tf.constant(np.float32([[[1e4] + [-1e4] * 15] * 4]))
        with tf.GradientTape() as tape:
            tape.watch(logits)
            loss = self.loss(tf.fill((1, 4), 9.5), logits)
        self.assertAllClose(loss, [2e4], rtol=1e-5)
        self.assertTrue(np.isfinite(tape.gradient(loss, logits)).all())

    @parameterized.parameters(2, 8, 32)
    def test_number_of_bins_is_that_of_the_logits(self, bins):
        distances = np.full((1, 4), bins + 3.0, "float32")
        logits = np.random.default_rng(3).normal(size=(1, 4, bins)).astype("float32")
        self.assertAllClose(self.loss(distances, logits), oracles.dfl(distances, logits), atol=1e-4)


if __name__ == "__main__":
    tf.test.main()
