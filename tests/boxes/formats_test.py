import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from kyolo import boxes

# One box in three formats. All numbers differ, so that no swap of axes or corners goes unseen:
# corners (10, 20) and (40, 100), size 40 - 10 = 30 by 100 - 20 = 80, centre (25, 60).
XYXY = [[10.0, 20.0, 40.0, 100.0]]
CXCYWH = [[25.0, 60.0, 30.0, 80.0]]
XYWH = [[10.0, 20.0, 30.0, 80.0]]


class FormatsTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.named_parameters(
        ("xyxy_to_cxcywh", boxes.xyxy_to_cxcywh, XYXY, CXCYWH),
        ("cxcywh_to_xyxy", boxes.cxcywh_to_xyxy, CXCYWH, XYXY),
        ("xyxy_to_xywh", boxes.xyxy_to_xywh, XYXY, XYWH),
        ("xywh_to_xyxy", boxes.xywh_to_xyxy, XYWH, XYXY),
    )
    def test_one_box(self, convert, given, expected):
        self.assertAllClose(convert(given), expected)
        self.assertAllClose(convert(np.reshape(given, (4,))), np.reshape(expected, (4,)))

    @parameterized.named_parameters(
        ("cxcywh", boxes.xyxy_to_cxcywh, boxes.cxcywh_to_xyxy),
        ("xywh", boxes.xyxy_to_xywh, boxes.xywh_to_xyxy),
    )
    def test_there_and_back(self, there, back):
        random = np.random.default_rng(0).uniform(-50, 700, (2, 7, 4)).astype("float32")
        self.assertAllClose(back(there(random)), random, atol=1e-3)

    def test_clip_takes_height_before_width(self):
        # An image 50 high and 100 wide: x is cut at 100, y at 50.
        outside = [[-5.0, -6.0, 120.0, 130.0], [60.0, 60.0, 90.0, 70.0], [1.0, 2.0, 3.0, 4.0]]
        expected = [[0.0, 0.0, 100.0, 50.0], [60.0, 50.0, 90.0, 50.0], [1.0, 2.0, 3.0, 4.0]]
        self.assertAllEqual(boxes.clip_boxes(outside, (50, 100)), expected)

    def test_area(self):
        # 30 x 80; a line; a box turned inside out in x; one in both, whose product of sides would be positive.
        given = [[10.0, 20.0, 40.0, 100.0], [5.0, 0.0, 5.0, 9.0], [9.0, 0.0, 5.0, 9.0], [9.0, 9.0, 5.0, 5.0]]
        self.assertAllEqual(boxes.box_area(given), [2400.0, 0.0, 0.0, 0.0])


if __name__ == "__main__":
    tf.test.main()
