import collections

import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from kyolo.data.sampling import BatchSizes, ImageOrder, repeat_factors

FACTORS = np.array([2.0, 1.5, 1.0, 1.0])  # 5.5 in all: an epoch of 6


def numbers(order, epochs):
    """(epochs, length) the images of the stream."""
    positions = tf.data.Dataset.range(epochs * order.length).map(order.number).batch(epochs * order.length)
    return positions.get_single_element().numpy().reshape(epochs, order.length)


class RepeatFactorsTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.parameters(
        # Of 4 images 3 have class 0, 1 has class 1, whose boxes' number does not count.
        (0.25, [1, 1, 1, 1]),
        (0.5, [1, 1, 2**0.5, 1]),  # sqrt(0.5 / 0.25)
        (1.0, [(4 / 3) ** 0.5, (4 / 3) ** 0.5, 2, 1]),  # sqrt(1 / 0.75), and of the third image's classes the rarer
    )
    def test_by_hand(self, threshold, expected):
        labels = [np.array(image, "int32") for image in ([0], [0, 0], [0, 1, 1, 1], [])]
        self.assertAllClose(repeat_factors(labels, threshold), expected, rtol=1e-12)

    def test_classes_without_images_and_images_without_classes(self):
        self.assertAllClose(repeat_factors([[7], [2, 7]], 1.0), [1, 2**0.5])
        self.assertAllEqual(repeat_factors([[], []], 1.0), [1, 1])


class ImageOrderTest(tf.test.TestCase):
    def test_factors_of_one_change_nothing(self):
        plain, same = ImageOrder(7, seed=3), ImageOrder(7, 3, np.ones(7))
        self.assertEqual(same.length, 7)
        self.assertAllEqual(numbers(same, 3), numbers(plain, 3))
        uniform = tf.random.stateless_uniform((1000,), (0, 1))
        self.assertAllEqual(same.draw(uniform), plain.draw(uniform))

    def test_repeats(self):
        epochs = numbers(ImageOrder(4, 0, FACTORS), 2000)
        self.assertEqual(epochs.shape, (2000, 6))
        counts = np.stack([np.bincount(epoch, minlength=4) for epoch in epochs])
        self.assertAllGreaterEqual(counts - [2, 1, 1, 1], 0)  # none rarer than its factor rounded down
        self.assertAllLessEqual(counts - [2, 1, 1, 1], 1)
        # 6 marks over a length of 5.5; a mean of 2000 numbers of 0 or 1 strays by 0.011.
        self.assertAllClose(counts.mean(axis=0), FACTORS * 6 / 5.5, atol=0.05)
        self.assertGreater(len({tuple(epoch) for epoch in epochs}), 150)  # of 4 x 6! / 3! 2! and the like

    def test_other_images_of_a_mosaic_are_drawn_as_often(self):
        # On a line of 5.5 the images end at 2, 3.5, 4.5 and 5.5, that is at 0.3636, 0.6364, 0.8182 and 1.
        uniform = tf.constant([0, 0.36, 0.37, 0.63, 0.64, 0.81, 0.82, 1 - 2**-24])
        self.assertAllEqual(ImageOrder(4, 0, FACTORS).draw(uniform), [0, 0, 1, 1, 2, 2, 3, 3])
        # Without factors each has a quarter.
        self.assertAllEqual(ImageOrder(4, 0).draw(uniform), [0, 1, 1, 2, 2, 3, 3, 3])


class BatchSizesTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.parameters(
        ((320, 320), 0.1, 32, [(288, 288), (320, 320), (352, 352)]),  # 288 = 0.9 x 320, 352 = 1.1 x 320
        ((64, 128), 0.5, 32, [(32, 64), (64, 128), (96, 192)]),
        ((96, 64), 0.4, 32, [(64, 32), (96, 64), (128, 96)]),  # 64 x 2 / 3 = 42.7 is 1.33 strides, 85.3 is 2.67
        ((64, 64), 0.3, 32, [(64, 64)]),
    )
    def test_sizes_by_hand(self, image_size, spread, stride, expected):
        self.assertEqual(BatchSizes(image_size, spread, stride, seed=0).sizes, expected)

    def test_draws(self):
        sizes = BatchSizes((64, 128), 0.5, 32, seed=0)
        drawn = tf.data.Dataset.range(600).map(sizes.size).batch(600).get_single_element().numpy()
        counts = collections.Counter(map(tuple, drawn))
        self.assertCountEqual(counts, [(32, 64), (64, 128), (96, 192)])
        self.assertAllInRange(list(counts.values()), 150, 250)  # 200 each, with a standard deviation of 11.5
        self.assertAllEqual(sizes.size(tf.constant(5, tf.int64)), drawn[5])

    def test_refuses_sizes_that_the_network_does_not_take(self):
        with self.assertRaisesRegex(ValueError, r"image_size: expected multiples of the stride 32, got \(64, 80\)"):
            BatchSizes((64, 80), 0.5, 32, seed=0)


if __name__ == "__main__":
    tf.test.main()
