import numpy as np
import tensorflow as tf

from kyolo.data.mosaic import mosaic
from kyolo.data.transforms import GREY


class MosaicTest(tf.test.TestCase):
    def test_tiles_meet_at_the_centre(self):
        # Canvas 8 x 12 (H = 4, W = 6), centre x = 4, y = 5. Tiles, (h, w): 4x6, 4x3, 2x6, 4x6, filled with 1..4.
        sizes = ((4, 6), (4, 3), (2, 6), (4, 6))
        images = [tf.fill((*size, 3), tf.constant(number, tf.uint8)) for number, size in enumerate(sizes, 1)]
        boxes = [tf.constant([[0.0, 0.0, size[1], size[0]]]) for size in sizes]
        canvas, moved = mosaic(images, boxes, tf.constant([4, 5]), (4, 6))
        expected = np.full((8, 12), GREY)
        expected[1:5, 0:4] = 1  # ends at (4, 5): x from -2, of which 0..4 is seen; y 1..5
        expected[1:5, 4:7] = 2  # begins at x = 4
        expected[5:7, 0:4] = 3
        expected[5:8, 4:10] = 4  # y 5..9, of which 5..8 is seen
        self.assertAllEqual(canvas[..., 0], expected)
        self.assertAllEqual(moved, [[-2, 1, 4, 5], [4, 1, 7, 5], [-2, 5, 4, 7], [4, 5, 10, 9]])


if __name__ == "__main__":
    tf.test.main()
