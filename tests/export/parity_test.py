"""The comparison of an export with its detector, on detections made by hand."""

import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from kyolo.evaluation.detect import NMSSettings
from kyolo.export import ExportError, ParityReport
from kyolo.export.parity import compare_detections, compare_outputs, match, tolerance

SETTINGS = NMSSettings(confidence=0.25, iou=0.7, max_detections=4)
SIZE = (320, 320)


def detections(*rows):
    """Each row: x1, y1, x2, y2, score, label."""
    table = np.array(rows, np.float32).reshape(-1, 6)
    return {"boxes": table[:, :4], "scores": table[:, 4], "labels": table[:, 5].astype(np.int32)}


class Points:
    """A detector of two points, whose outputs are handed in."""

    def __init__(self, boxes, scores):
        self.outputs = np.float32([boxes]), np.float32([scores])

    def __call__(self, images, training=False):
        del images, training
        return self.outputs

    def decode(self, outputs, image_size):
        del image_size
        return outputs


class ParityTest(tf.test.TestCase, parameterized.TestCase):
    def test_differences(self):
        one = detections((0, 0, 10, 10, 0.9, 0), (20, 20, 40, 40, 0.5, 1))
        other = detections((0, 0, 10, 11, 0.8, 0), (20, 20, 43, 40, 0.5, 1))
        report = compare_detections([(one, other), (one, one)], SETTINGS)
        self.assertEqual((report.images, report.compared, report.unmatched), (2, 4, 0))
        # Sides off by 1, 3, 0, 0 and scores by 0.1, 0, 0, 0.
        self.assertAllClose(
            [report.box_error, report.mean_box_error, report.score_error, report.mean_score_error], [3, 1, 0.1, 0.025]
        )

    def test_each_detection_is_in_one_pair(self):
        """Two of one class overlap by 9 / 11, and the export lacks one: its neighbour does not stand for it."""
        one = detections((0, 0, 10, 10, 0.9, 0), (1, 0, 11, 10, 0.8, 0))
        other = detections((0, 0, 10, 10, 0.9, 0))
        self.assertEqual(match(one, other), [(0, 0)])
        for pair in ((one, other), (other, one)):
            report = compare_detections([pair], SETTINGS)
            self.assertEqual((report.compared, report.unmatched, report.box_error), (1, 1, 0.0))

    def test_those_that_overlap_most_come_first(self):
        one = detections((0, 0, 10, 10, 0.9, 0), (2, 0, 12, 10, 0.8, 0))
        other = detections((2, 0, 12, 10, 0.9, 0), (0, 0, 10, 10, 0.8, 0))
        self.assertCountEqual(match(one, other), [(0, 1), (1, 0)])

    @parameterized.parameters(
        ((0, 0, 10, 10, 0.9, 1),),  # another class
        ((0, 0, 10, 4.9, 0.9, 0),),  # IoU 0.49
    )
    def test_what_is_no_pair(self, other):
        report = compare_detections([(detections((0, 0, 10, 10, 0.9, 0)), detections(other))], SETTINGS)
        self.assertEqual((report.compared, report.unmatched), (0, 2))

    @parameterized.parameters(("float32", 0.2505, 0), ("float32", 0.252, 1), ("int8", 0.34, 0), ("int8", 0.36, 1))
    def test_edge_of_the_confidence(self, precision, score, unmatched):
        pair = detections((0, 0, 10, 10, score, 0)), detections()
        self.assertEqual(compare_detections([pair], SETTINGS, precision).unmatched, unmatched)

    def test_edge_of_a_full_list(self):
        rows = [(20 * i, 0, 20 * i + 10, 10, 0.9 - 0.1 * i, 0) for i in range(5)]
        one, other = detections(*rows[:4]), detections(*rows[:3], rows[4])
        # The list of one ends at 0.6, that of the other at 0.5: what is not above 0.6 could have been cut off.
        self.assertEqual(compare_detections([(one, other)], SETTINGS).unmatched, 0)
        short = detections(*rows[:2])
        self.assertEqual(compare_detections([(one, short)], SETTINGS).unmatched, 1)  # 0.7; 0.6 is at the edge

    def test_outputs(self):
        boxes, scores = [[0, 0, 10, 10], [5, 5, 400, 20]], [[0.1, 0.2], [0.3, 0.4]]
        moved, other = [[0, 0, 10, 12], [5, 5, 500, 20]], [[0.1, 0.2], [0.3, 0.9]]  # beyond the image nothing counts
        report = compare_outputs(Points(boxes, scores), Points(moved, other), [np.zeros((*SIZE, 3))] * 2)
        self.assertEqual((report.images, report.compared), (2, 4))
        self.assertAllClose(
            [report.box_error, report.mean_box_error, report.score_error, report.mean_score_error], [2, 1, 0.5, 0.125],
            atol=1e-4,
        )  # fmt: skip

    def test_no_number_is_not_agreement(self):
        report = compare_outputs(
            Points([[0, 0, 1, 1]], [[0.5]]), Points([[0, 0, 1, 1]], [[np.nan]]), [np.zeros((*SIZE, 3))]
        )
        with self.assertRaisesRegex(ExportError, "received 0 px, nan"):
            report.check("float32", SIZE)

    @parameterized.parameters(
        ("float32", SIZE, 0.05), ("float32", (1280, 640), 0.05), ("int8", SIZE, 3.0), ("int8", (640, 1280), 12.0)
    )
    def test_tolerance_of_a_size(self, precision, size, box):
        self.assertEqual(tolerance(precision, size).box, box)

    @parameterized.parameters(
        ("float32", {"box_error": 0.06}, True),
        ("float32", {"score_error": 0.002}, True),
        ("float32", {"unmatched": 1}, True),
        ("float32", {"box_error": 0.04, "score_error": 5e-4, "mean_box_error": 0.04}, False),
        ("int8", {"box_error": 50.0, "score_error": 0.5, "unmatched": 10}, False),  # single ones; 10 of 110
        ("int8", {"mean_box_error": 3.1}, True),
        ("int8", {"mean_score_error": 0.07}, True),
        ("int8", {"unmatched": 12}, True),
    )
    def test_check(self, precision, changes, fails):
        figures = dict.fromkeys(("box_error", "score_error", "mean_box_error", "mean_score_error"), 0.0)
        report = ParityReport(**{"images": 8, "compared": 100, **figures, **changes})
        if not fails:
            self.assertIs(report.check(precision, SIZE), report)
            return
        with self.assertRaisesRegex(ExportError, f"for {precision}"):
            report.check(precision, SIZE)


if __name__ == "__main__":
    tf.test.main()
