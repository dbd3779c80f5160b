"""The moving average, worked out by hand."""

import keras
import tensorflow as tf

from kyolo.models.ema import ExponentialMovingAverage


class ExponentialMovingAverageTest(tf.test.TestCase):
    def setUp(self):
        super().setUp()
        self.weight = keras.Variable([0.0], name="kernel")
        self.ema = ExponentialMovingAverage([self.weight], decay=0.5)

    def step(self, value, iterations):
        self.weight.assign([value])
        self.ema.update(iterations)
        return float(self.ema.averages[0][0])

    def test_values(self):
        # Step 1: the weight itself. Step 2: d = min(0.5, 3 / 12) = 0.25, 8 + 0.75 (16 - 8) = 14.
        # Step 3: d = min(0.5, 4 / 13), 14 + 9 / 13 (1 - 14) = 5. Step 10: d = min(0.5, 11 / 20) = 0.5, (5 + 3) / 2 = 4.
        self.assertAllClose(self.step(8.0, 1), 8.0)
        self.assertAllClose(self.step(16.0, 2), 14.0)
        self.assertAllClose(self.step(1.0, 3), 5.0)
        self.assertAllClose(self.step(3.0, 10), 4.0)

    def test_waits_while_gradients_are_accumulated(self):
        self.assertAllClose(self.step(8.0, 1), 8.0)
        self.assertAllClose(self.step(16.0, 1), 8.0)

    def test_swap_and_back(self):
        self.step(8.0, 1)
        self.step(16.0, 2)
        with self.ema.swapped_in():
            self.assertAllClose(self.weight, [14.0])
        self.assertAllClose(self.weight, [16.0])

    def test_before_the_first_step_the_weights_stay(self):
        self.weight.assign([7.0])  # as after loading a file
        with self.ema.swapped_in():
            self.assertAllClose(self.weight, [7.0])


if __name__ == "__main__":
    tf.test.main()
