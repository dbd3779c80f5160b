"""The training step under XLA and under every precision."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf
from absl.testing import parameterized

from kyolo.config import BackboneConfig, ModelConfig, OptimizerConfig, ScheduleConfig, TrainConfig
from kyolo.models import build_detector
from kyolo.training.optimizers import build_optimizer

SIZE, BATCH, CLASSES, STEPS = 64, 2, 3, 3
TRAIN = TrainConfig(optimizer=OptimizerConfig(learning_rate=0.01), schedule=ScheduleConfig(warmup_epochs=0))


def batch():
    """Two images of noise with an object each, and one padded slot."""
    images = np.random.default_rng(0).integers(0, 256, (BATCH, SIZE, SIZE, 3)).astype("uint8")
    boxes = np.array([[[8, 8, 40, 48], [0, 0, 0, 0]]] * BATCH, "float32")
    return images, {"boxes": boxes, "labels": np.array([[1, 0]] * BATCH), "mask": np.array([[True, False]] * BATCH)}


@pytest.mark.slow
class StepTest(tf.test.TestCase, parameterized.TestCase):
    def setUp(self):
        super().setUp()
        policy = keras.config.dtype_policy()
        self.addCleanup(keras.config.set_dtype_policy, policy)

    @staticmethod
    @functools.cache
    def train(policy="float32", jit_compile=False):
        """A detector after some steps, and the loss of each."""
        keras.config.set_dtype_policy(policy)
        detector = build_detector(
            ModelConfig(num_classes=CLASSES, levels=("P4", "P5"), backbone=BackboneConfig(size="p"))
        )
        detector.compile(build_optimizer(TRAIN, STEPS), ema_decay=0.9999, jit_compile=jit_compile)
        history = detector.fit(tf.data.Dataset.from_tensors(batch()), epochs=STEPS, verbose=0)
        return detector, history.history["loss"]

    @parameterized.parameters("mixed_bfloat16", "mixed_float16")
    def test_mixed_precision(self, policy):
        _, expected = self.train()
        detector, losses = self.train(policy)
        # The first loss comes before any update: half precision rounds to 2 digits or 3. Later ones may differ more,
        # since under float16 the loss scale skips steps until no gradient overflows.
        self.assertAllClose(losses[0], expected[0], rtol=0.03)
        self.assertTrue(np.all(np.isfinite(losses)))
        self.assertEqual({variable.dtype for variable in detector.trainable_variables}, {"float32"})
        self.assertEqual({average.dtype for average in detector.ema.averages}, {"float32"})
        self.assertTrue(all(np.all(np.isfinite(variable)) for variable in detector.variables))

    def test_xla(self):
        _, expected = self.train()
        detector, losses = self.train(jit_compile=True)
        # The third loss comes after a leap of the weights, which enlarges what differs in rounding.
        self.assertAllClose(losses[:2], expected[:2], rtol=1e-3)
        self.assertTrue(all(np.all(np.isfinite(variable)) for variable in detector.variables))


if __name__ == "__main__":
    tf.test.main()
