import functools

import keras
import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from tests import box_pairs, oracles
from tests.losses import public

CLASSES = {cls.__name__: cls for cls in public.CLASSES if cls.__name__ in oracles.CLASSIFICATION_LOSSES}


def case(name, **settings):
    """A loss as a function of targets and logits that computes in float64 for float64, beside its oracle."""

    def call(targets, logits):
        dtype = "float64" if logits.dtype == tf.float64 else None
        return CLASSES[name](reduction=None, dtype=dtype, **settings)(targets, logits)

    oracle = functools.partial(oracles.CLASSIFICATION_LOSSES[name], **settings)
    return box_pairs.Case(box_pairs.label(name, settings), call, oracle)


CASES = [case(name, **settings) for name, cls in CLASSES.items() for settings in public.all_settings(cls)]
each_case = parameterized.named_parameters((case.name, case) for case in CASES)


def examples():
    """Targets and logits (7, 60): targets 0, 1 and between, the logits of one row each near 0, large and extreme."""
    random = np.random.default_rng(0)
    targets = np.concatenate([np.zeros(20), np.ones(20), random.uniform(0.05, 0.95, 20)])
    logits = np.concatenate(
        [random.normal(0, 1, (2, 60)), random.normal(0, 6, (3, 60)), [[-20, 20] * 30, [-1e4, 1e4] * 30]]
    )
    return np.float64(np.float32(np.broadcast_to(targets, logits.shape))), np.float64(np.float32(logits))


def gradient(case, targets, logits):
    with tf.GradientTape() as tape:
        tape.watch(logits)
        value = case.call(targets, logits)
    return value, tape.gradient(value, logits)


class ClassificationTest(box_pairs.BoxPairTestCase):
    @each_case
    def test_values_and_gradients(self, case):
        targets, logits = examples()
        expected, step = case.oracle(targets, logits), 1e-5
        slope = (case.oracle(targets, logits + step) - case.oracle(targets, logits - step)) / (2 * step)
        # |y - p| has a kink where the score is the target; at 1e4 the last digit of a value is 1e-12.
        smooth = (np.abs(targets - oracles.sigmoid(logits)) > 0.02) | (targets == 0) | (targets == 1)
        smooth &= np.abs(logits) < 1e4
        for dtype, tolerance, slope_tolerance in (("float64", 1e-12, 1e-8), ("float32", 1e-6, 1e-5)):
            value, found = gradient(case, tf.constant(targets, dtype), tf.constant(logits, dtype))
            self.assertDTypeEqual(value, dtype)
            self.assertAllLessEqual(np.abs(value - expected) / np.maximum(1, expected), tolerance)
            self.assertAllLessEqual(np.abs(found - slope)[smooth], slope_tolerance)

    def test_finite_gradients_in_every_mode(self):
        targets, logits = (tf.constant(x, "float32") for x in examples())

        def run(targets, logits):
            return {case.name: gradient(case, targets, logits) for case in CASES}  # the roots among them

        for jit_compile in (False, True):
            for name, (value, slope) in tf.function(run, jit_compile=jit_compile)(targets, logits).items():
                with self.subTest(f"{name}, jit_compile={jit_compile}"):
                    self.assertTrue(np.isfinite(value).all())
                    self.assertTrue(np.isfinite(slope).all())

    @each_case
    def test_float16_logits_in_mixed_precision(self, case):
        before = keras.config.dtype_policy()
        self.addCleanup(keras.config.set_dtype_policy, before)
        keras.config.set_dtype_policy("mixed_float16")
        targets, logits = (tf.constant(x, "float16") for x in examples())
        value, slope = gradient(case, targets, logits)
        expected = case.oracle(*(tf.cast(x, "float64").numpy() for x in (targets, logits)))
        self.assertDTypeEqual(value, "float32")
        self.assertAllClose(value, expected, rtol=1e-6, atol=1e-6)
        self.assertTrue(np.isfinite(slope).all())

    @parameterized.parameters(*CLASSES)
    def test_one_value_for_each_class(self, name):
        # Keras' own take the mean over the last axis: 80 times too small here.
        found = case(name).call(tf.zeros((2, 80)), tf.zeros((2, 80)))
        self.assertEqual(found.shape, (2, 80))

    @parameterized.parameters(
        # At the logit 0 the score is a half and the cross-entropy ln 2, whatever the target.
        ("BinaryCrossentropy", 0.8, 1.0),
        ("FocalLoss", 1.0, 0.25 * 0.5**2),
        ("FocalLoss", 0.0, 0.75 * 0.5**2),
        ("FocalLoss", 0.8, (0.8 * 0.25 + 0.2 * 0.75) * 0.5**2),
        ("QualityFocalLoss", 0.8, 0.3**2),
        ("QualityFocalLoss", 0.5, 0.0),
        ("VarifocalLoss", 0.8, 0.8),
        ("VarifocalLoss", 0.0, 0.75 * 0.5**2),
    )
    def test_by_hand(self, name, target, weight):
        self.assertAllClose(case(name).call(tf.constant([[target]]), tf.constant([[0.0]])), [[weight * np.log(2)]])

    @parameterized.parameters(("FocalLoss", {"alpha": None, "gamma": 0.0}), ("QualityFocalLoss", {"beta": 0.0}))
    def test_without_focus_is_the_cross_entropy(self, name, settings):
        # Where the score is the target, |y - p|^0 is 1 all the same.
        targets, logits = (tf.constant(np.append(x, extra)) for x, extra in zip(examples(), (0.5, 0.0), strict=True))
        self.assertAllClose(case(name, **settings).call(targets, logits), oracles.bce(targets, logits), atol=1e-12)

    def test_takes_logits_and_no_probabilities(self):
        # Logit 1000 for a wanted score of 0 costs 1000; a clipped probability would cost 16 or so.
        targets, logits = tf.constant([[0.0, 1, 0, 1]]), tf.constant([[1000.0, 1000, -1000, -1000]])
        self.assertAllClose(case("BinaryCrossentropy").call(targets, logits), [[1000, 0, 0, 1000]])


if __name__ == "__main__":
    tf.test.main()
