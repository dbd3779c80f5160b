"""Pictures with boxes: what is drawn where."""

import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from kyolo.report.pictures import PALETTE, draw_detections

GREY = np.full([300, 400, 3], 128, np.uint8)


class PicturesTest(tf.test.TestCase, parameterized.TestCase):
    def test_outline_and_inside(self):
        picture = draw_detections(GREY, {"boxes": [[100, 100, 300, 200]], "scores": [0.9], "labels": [1]}, ["a", "b"])
        self.assertEqual((picture.shape, picture.dtype), (GREY.shape, np.uint8))
        for y, x in ((150, 100), (150, 300), (100, 250), (200, 250)):
            self.assertAllEqual(picture[y, x], PALETTE[1])
        self.assertAllEqual(picture[101:200, 101:300], GREY[101:200, 101:300])
        self.assertAllEqual(GREY, np.full_like(GREY, 128))

    def test_nothing_found(self):
        self.assertAllEqual(draw_detections(GREY, {"boxes": [], "scores": [], "labels": []}, ["a"]), GREY)

    @parameterized.parameters(0, 1, 2, 3)
    def test_label_stays_inside(self, place):
        box = [(0, 0, 30, 30), (370, 0, 399, 299), (-50, -50, 500, 500), (390, 290, 399, 299)][place]
        # The label of a box in the middle lies above its upper edge: all that is drawn there. It is found again, whole,
        # in the picture of a box at the edge.
        middle = self.draw((150, 150, 190, 190))[:150]
        rows, columns = np.nonzero(middle != 128)
        label = middle[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
        self.assertAllGreater(np.array(label.shape), 8)
        windows = np.lib.stride_tricks.sliding_window_view(self.draw(box), label.shape)
        self.assertTrue((windows == label).all(axis=(-2, -1)).any())

    def draw(self, box):
        """Red channel of the grey picture with one box."""
        return draw_detections(GREY, {"boxes": [box], "scores": [0.5], "labels": [0]}, ["cell"])[..., 0]

    def test_lines_grow_with_the_image(self):
        large = np.full([1200, 1600, 3], 128, np.uint8)
        picture = draw_detections(large, {"boxes": [[400, 400, 1200, 800]], "labels": [0]}, ["a"])
        # 1600 / 400 = 4 pixels, drawn inside the box.
        self.assertAllEqual((picture[600] != 128).any(axis=-1).nonzero()[0][:4], [400, 401, 402, 403])
        self.assertAllEqual(picture[600, 404], [128, 128, 128])


if __name__ == "__main__":
    tf.test.main()
