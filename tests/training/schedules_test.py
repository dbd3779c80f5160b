"""Learning rates, worked out by hand."""

import keras
import tensorflow as tf
from absl.testing import parameterized

from kyolo.training.schedules import WarmupDecay


class WarmupDecayTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.parameters(
        # linear: decline 1 - 0.9 t / 10; rise (t + 1) / 4, at most 1.
        ("linear", 0, 2.0 * 1.00 * 0.25),
        ("linear", 3, 2.0 * 0.73 * 1.0),
        ("linear", 5, 2.0 * 0.55),
        ("linear", 10, 2.0 * 0.10),
        ("linear", 11, 2.0 * 0.10),
        # cosine: 0.1 + 0.9 (1 + cos(pi t / 10)) / 2; cos is 1, 0, -1 at t = 0, 5, 10.
        ("cosine", 0, 2.0 * 1.00 * 0.25),
        ("cosine", 5, 2.0 * 0.55),
        ("cosine", 10, 2.0 * 0.10),
    )
    def test_value(self, kind, step, expected):
        rate = WarmupDecay(2.0, total_steps=10, warmup_steps=4, final_fraction=0.1, kind=kind)
        self.assertAllClose(rate(step), expected, atol=1e-6)

    def test_without_warmup_it_starts_at_the_peak(self):
        self.assertAllClose(WarmupDecay(2.0, total_steps=10)(0), 2.0)

    @parameterized.parameters(("linear", 0.70399), ("cosine", 0.79721))
    def test_the_peak_is_never_reached_after_a_warmup(self, kind, fraction):
        # The last warm-up step is t = 299 of 1,000, where the decline is at
        # linear: 0.01 + 0.99 (1 - 0.299) = 0.70399; cosine: 0.01 + 0.99 (1 + cos(0.299 pi)) / 2 = 0.79721, with
        # cos = 0.59032.
        schedule = WarmupDecay(0.002, total_steps=1000, warmup_steps=300, kind=kind)
        rates = schedule(tf.range(1000)).numpy()
        self.assertEqual(rates.argmax(), 299)
        self.assertAllClose(rates.max(), 0.002 * fraction, rtol=1e-5)

    def test_survives_a_round_trip(self):
        rate = WarmupDecay(2.0, total_steps=10, warmup_steps=4, final_fraction=0.1, kind="cosine")
        copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(rate))
        self.assertAllEqual([rate(step) for step in range(12)], [copy(step) for step in range(12)])

    def test_unknown_kind(self):
        with self.assertRaisesRegex(ValueError, "linear"):
            WarmupDecay(1.0, 10, kind="step")


if __name__ == "__main__":
    tf.test.main()
