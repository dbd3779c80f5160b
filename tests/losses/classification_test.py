import numpy as np
import tensorflow as tf

from kyolo.losses import BinaryCrossentropy
from tests import oracles


class BinaryCrossentropyTest(tf.test.TestCase):
    loss = BinaryCrossentropy(reduction=None)

    def test_one_value_for_each_class(self):
        # Keras' own takes the mean over the last axis: 80 times too small here. Each logit 0 costs ln 2.
        found = self.loss(np.zeros((2, 80), "float32"), np.zeros((2, 80), "float32"))
        self.assertEqual(found.shape, (2, 80))
        self.assertAllClose(tf.reduce_sum(found), 160 * np.log(2), rtol=1e-6)

    def test_equals_oracle_with_soft_targets(self):
        random = np.random.default_rng(0)
        targets = random.uniform(0, 1, (3, 7, 5)).astype("float32")
        logits = random.normal(0, 6, (3, 7, 5)).astype("float32")
        self.assertAllClose(self.loss(targets, logits), oracles.bce(targets, logits), atol=1e-5)

    def test_takes_logits_and_no_probabilities(self):
        # Logit 1000 for a wanted score of 0 costs 1000; a clipped probability would cost 16 or so.
        found = self.loss(np.float32([[0, 1, 0, 1]]), np.float32([[1000, 1000, -1000, -1000]]))
        self.assertAllClose(found, [[1000, 0, 0, 1000]])

    def test_gradient_is_score_minus_target(self):
        logits = tf.constant([[-1e4, -3.0, 0.0, 2.0, 1e4]])
        targets = tf.constant([[0.3, 0.3, 0.5, 1.0, 0.0]])
        with tf.GradientTape() as tape:
            tape.watch(logits)
            loss = tf.reduce_sum(self.loss(targets, logits))
        self.assertAllClose(tape.gradient(loss, logits), oracles.sigmoid(logits.numpy()) - targets, atol=1e-6)


if __name__ == "__main__":
    tf.test.main()
