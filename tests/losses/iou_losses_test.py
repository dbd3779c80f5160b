import keras
import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from kyolo import losses
from tests import oracles, scenes

LOSSES = (("ciou", losses.CIoULoss, oracles.ciou), ("siou", losses.SIoULoss, oracles.siou))


class IoULossesTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.named_parameters(*LOSSES)
    def test_is_one_minus_the_similarity(self, cls, oracle):
        random = np.random.default_rng(0)
        low = random.uniform(0, 90, (2, 2, 3, 50, 2))
        both = np.concatenate([low, low + random.uniform(5, 80, low.shape)], axis=-1).astype("float32")
        loss = cls(reduction=None)(*both)
        self.assertEqual(loss.shape, (2, 3, 50))
        self.assertAllClose(loss, 1 - oracle(*both), atol=1e-5)

    def test_theta(self):
        # Sizes 10 x 10 and 20 x 10 about one centre: IoU one half, no distance; omega is one half for the width and 0
        # for the height, so that the shape cost is (1 - exp(-0.5))^theta / 2.
        pair = ([[0.0, 0.0, 20.0, 10.0]], [[5.0, 0.0, 15.0, 10.0]])
        for theta in (2.0, 4.0, 6.0):
            expected = 0.5 + (1 - np.exp(-0.5)) ** theta / 2
            self.assertAllClose(losses.SIoULoss(theta=theta)(*pair), expected, atol=1e-6)
        again = losses.SIoULoss.from_config(losses.SIoULoss(theta=2.0).get_config())
        self.assertEqual(again.theta, 2.0)

    @parameterized.product(case=LOSSES, policy=("float32", "mixed_float16", "mixed_bfloat16"))
    def test_large_and_degenerate_boxes_under_every_policy(self, case, policy):
        # The area of a 400 x 400 box, 160000, is infinite in float16, whose largest number is 65504.
        before = keras.config.dtype_policy()
        self.addCleanup(keras.config.set_dtype_policy, before)
        keras.config.set_dtype_policy(policy)
        pairs = [*scenes.DEGENERATE_PAIRS.values(), ((0, 0, 400, 400), (10, 0, 410, 400))]
        p, g = (tf.constant(np.float32([pair[side] for pair in pairs])) for side in (0, 1))
        with tf.GradientTape() as tape:
            tape.watch(p)
            loss = case[1](reduction=None)(g, p)
        gradient = tape.gradient(loss, p)
        self.assertAllInRange(loss, -1e-5, 2.5)
        self.assertTrue(np.isfinite(gradient).all())
        self.assertNear(float(loss[-1]), 1 - float(case[2](*pairs[-1])), 1e-5)


if __name__ == "__main__":
    tf.test.main()
