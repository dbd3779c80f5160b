import keras
import tensorflow as tf

from kyolo.models.ema import ExponentialMovingAverage


class ExponentialMovingAverageTest(tf.test.TestCase):
    def test_by_hand(self):
        # Decay min(0.5, (1 + n) / (10 + n)): 2 / 11 after step 1, 3 / 12 after step 2, 0.5 once (1 + n) / (10 + n) is
        # larger. From 0 towards 11: 9 / 11 of 11 is 9; three quarters of the 2 that are left is 1.5; then half of 0.5.
        variable = keras.Variable([0.0])
        ema = ExponentialMovingAverage([variable], 0.5)
        variable.assign([11.0])
        for step, expected in ((1, 9.0), (2, 10.5), (100, 10.75)):
            ema.update(step)
            self.assertAllClose(ema.averages[0], [expected])

    def test_waits_for_the_optimizer(self):
        # While gradients accumulate the optimizer stays at its step, and so does the average.
        variable = keras.Variable([0.0])
        ema = ExponentialMovingAverage([variable], 0.9999)
        variable.assign([11.0])
        for _ in range(3):
            ema.update(1)
        self.assertAllClose(ema.averages[0], [9.0])

    def test_swapped_in_and_out(self):
        variable = keras.Variable([1.0])
        ema = ExponentialMovingAverage([variable], 0.9)
        variable.assign([5.0])
        with self.assertRaises(KeyError), ema.swapped_in():
            self.assertAllEqual(variable, [1.0])
            raise KeyError
        self.assertAllEqual(variable, [5.0])
        self.assertAllEqual(ema.averages[0], [1.0])

    def test_float32_and_no_counters(self):
        half = keras.Variable([1.0], dtype="bfloat16")
        ema = ExponentialMovingAverage([half, keras.Variable(3, dtype="int32")], 0.9)
        self.assertLen(ema.averages, 1)
        self.assertEqual(ema.averages[0].dtype, "float32")


if __name__ == "__main__":
    tf.test.main()
