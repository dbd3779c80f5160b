import tensorflow as tf
from absl.testing import parameterized

from kyolo import boxes
from tests import oracles


class AnchorPointsTest(tf.test.TestCase, parameterized.TestCase):
    def test_by_hand(self):
        # 16 high and 24 wide: stride 8 has 2 rows of 3 centres at 4, 12, 20; then stride 16 has the one row of one
        # whole cell, centre (8, 8).
        points, strides = boxes.make_anchor_points((16, 24), (8, 16))
        self.assertAllEqual(points, [[4, 4], [12, 4], [20, 4], [4, 12], [12, 12], [20, 12], [8, 8]])
        self.assertAllEqual(strides, [8, 8, 8, 8, 8, 8, 16])

    @parameterized.parameters(((64, 96), (8, 16, 32)), ((128, 64), (4, 8, 16, 32, 64)), ((64, 64), (16, 32)))
    def test_equals_oracle(self, image_size, given):
        points, strides = boxes.make_anchor_points(image_size, given)
        expected_points, expected_strides = oracles.anchor_points(image_size, given)
        self.assertAllEqual(points, expected_points)
        self.assertAllEqual(strides, expected_strides)

    def test_dtype_is_float32(self):
        for tensor in boxes.make_anchor_points((32, 32), (8, 16)):
            self.assertDTypeEqual(tensor, "float32")

    def test_number_at_640(self):
        # 80^2 + 40^2 + 20^2 = 6400 + 1600 + 400
        points, strides = boxes.make_anchor_points((640, 640), (8, 16, 32))
        self.assertEqual(points.shape, (8400, 2))
        self.assertEqual(strides.shape, (8400,))


if __name__ == "__main__":
    tf.test.main()
