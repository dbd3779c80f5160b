import numpy as np
from absl.testing import absltest, parameterized
from pycocotools import mask as coco_mask

from kyolo.data.outlines import outline_box, points_box

TRIANGLE = [1, 2, 5.5, 2, 3, 8]


def runs_of(mask):
    """Run lengths of a mask, column by column, the first of zeros."""
    values = mask.ravel(order="F").tolist()
    runs, current = [0], 0
    for value in values:
        if value != current:
            runs.append(0)
            current = value
        runs[-1] += 1
    return runs


class OutlinesTest(parameterized.TestCase):
    @parameterized.parameters(
        ([TRIANGLE],), (TRIANGLE,), ([[1, 2], [5.5, 2], [3, 8]],), ([["1", "2", "5.5", "2", "3", "8"]],)
    )
    def test_polygon(self, segmentation):
        self.assertEqual(outline_box(segmentation, (20, 40)), [1, 2, 4.5, 6])

    def test_several_polygons_have_one_box(self):
        self.assertEqual(outline_box([TRIANGLE, [0, 0, 1, 0, 1, 9]], (20, 40)), [0, 0, 5.5, 9])

    @parameterized.parameters(
        (None,), (5,), ("text",), ([[]],), ([],), ([[1, 2, 3, 4]],), ([[1, 2, 3, 4, 5]],), ([[1, 2, 3, 4, 5, "x"]],),
        ([[1, 1, 1, 5, 1, 9]],), ([[1, 2, 3, 4, 5, float("nan")]],), ({},), ([TRIANGLE, 5],),
        ([[[1, 2], [3, 4], [5, 9]]],),
    )  # fmt: skip
    def test_what_is_not_an_outline(self, segmentation):
        self.assertIsNone(outline_box(segmentation, (20, 40)))

    def test_points_must_be_pairs(self):
        self.assertIsNone(points_box([1, 2, 3], [1, 2]))

    @parameterized.parameters(*range(12))
    def test_masks_have_the_box_of_pycocotools(self, seed):
        """Blobs, single pixels, whole columns and both ways to write the runs."""
        rng = np.random.default_rng(seed)
        height, width = (int(side) for side in rng.integers(1, 90, 2))
        mask = np.zeros((height, width), np.uint8)
        for _ in range(rng.integers(1, 4)):
            y, x = rng.integers(0, (height, width))
            mask[y : y + rng.integers(1, height + 1), x : x + rng.integers(1, width + 1)] = rng.random() < 0.8
        mask[rng.integers(0, height), rng.integers(0, width)] = 1
        encoded = coco_mask.encode(np.asfortranarray(mask))
        expected = coco_mask.toBbox(encoded).tolist()
        size = [height, width]
        for counts in (runs_of(mask), encoded["counts"].decode(), [float(run) for run in runs_of(mask)]):
            self.assertEqual(outline_box({"size": size, "counts": counts}, (height, width)), expected)

    @parameterized.parameters(
        ([3, 2], [1, 2]), ([3, 2], [1, 2, 4]), ([3, 2], [6]), ([3, 2], [7, -1]), ([3, 2], ["x", 2, 3]),
        ([2, 3], [1, 2, 3]), ([3], [1, 2, 3]), ([3, 2], "\u00e9"), ([3, 2], "ooooooooooooooooo"), ([3, 2], "_"),
        ([3, 2], None), (None, [1, 2, 3]), ([3, 2], [1.5, 2, 2.5]), ([3, 2], [True, 2, 3]),
    )  # fmt: skip
    def test_what_is_not_a_mask(self, size, counts):
        self.assertIsNone(outline_box({"size": size, "counts": counts}, (3, 2)))


if __name__ == "__main__":
    absltest.main()
