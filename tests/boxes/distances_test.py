import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from kyolo import boxes
from tests import oracles


class DistancesTest(tf.test.TestCase, parameterized.TestCase):
    def test_by_hand(self):
        # From the point (20, 50): 20 - 10 to the left, 50 - 25 up, 60 - 20 to the right, 120 - 50 down. All four
        # differ: a yxyx order, or left and right swapped, would show.
        points = [[20.0, 50.0]]
        self.assertAllEqual(boxes.boxes_to_distances([[10.0, 25.0, 60.0, 120.0]], points), [[10, 25, 40, 70]])
        self.assertAllEqual(boxes.distances_to_boxes([[10.0, 25.0, 40.0, 70.0]], points), [[10, 25, 60, 120]])

    def test_point_outside_its_box_has_negative_distances(self):
        # (5, 5) lies 5 left of the box and 1 below it.
        self.assertAllEqual(boxes.boxes_to_distances([[10.0, 0.0, 20.0, 4.0]], [[5.0, 5.0]]), [[-5, 5, 15, -1]])

    @parameterized.parameters((), (3,), (2, 3))
    def test_equals_oracle_and_back(self, *batch):
        random = np.random.default_rng(1)
        points = random.uniform(0, 640, (9, 2)).astype("float32")
        given = random.uniform(0, 640, (*batch, 9, 4)).astype("float32")
        distances = boxes.boxes_to_distances(given, points)
        self.assertAllClose(distances, oracles.boxes_to_distances(given, points), atol=1e-3)
        self.assertAllClose(boxes.distances_to_boxes(distances, points), given, atol=1e-3)
        self.assertAllClose(
            boxes.distances_to_boxes(given, points), oracles.distances_to_boxes(given, points), atol=1e-3
        )


class ExpectedDistancesTest(tf.test.TestCase, parameterized.TestCase):
    def test_one_sure_bin(self):
        logits = np.full((2, 4, 16), -100.0, "float32")
        for side, chosen in enumerate((0, 3, 7, 15)):
            logits[:, side, chosen] = 100.0
        self.assertAllClose(boxes.expected_distances(logits), [[0, 3, 7, 15]] * 2)

    @parameterized.parameters(2, 8, 16)
    def test_uniform_logits_give_the_middle(self, bins):
        # mean of 0, 1, ... R - 1
        self.assertAllClose(boxes.expected_distances(np.zeros((1, 4, bins), "float32")), [[(bins - 1) / 2] * 4])

    @parameterized.parameters(0.0, 0.25, 3.0, 7.5, 14.99, 15.0)
    def test_decodes_the_two_bins_that_dfl_asks_for(self, distance):
        # Probability 1 - f on bin i and f on i + 1 with i + f = distance has the mean `distance`.
        low = min(int(distance), 14)
        probability = np.zeros(16)
        probability[low], probability[low + 1] = low + 1 - distance, distance - low
        logits = np.log(np.maximum(probability, 1e-30)).astype("float32")
        self.assertAllClose(boxes.expected_distances(np.tile(logits, (4, 1))), [distance] * 4, atol=1e-5)

    def test_equals_oracle(self):
        logits = np.random.default_rng(2).normal(0, 3, (2, 5, 4, 16)).astype("float32")
        self.assertAllClose(boxes.expected_distances(logits), oracles.expected_distances(logits), atol=1e-5)


if __name__ == "__main__":
    tf.test.main()
