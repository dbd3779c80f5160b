import json
import math
import pathlib

import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from kyolo.data import ReadOptions, load_index, write_shapes
from kyolo.data.shapes import (
    CLASS_NAMES,
    MIN_VISIBLE,
    RING_HOLE,
    SUPERSAMPLING,
    _add_figure,
    _box,
    _draw_mask,
    draw_scene,
)


def files(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


class ShapesTest(tf.test.TestCase, parameterized.TestCase):
    def setUp(self):
        super().setUp()
        self.folder = pathlib.Path(self.get_temp_dir())

    def test_equal_arguments_give_equal_files(self):
        for name, options in (("a", {}), ("b", {}), ("longer", {"train": 5}), ("other", {"seed": 1})):
            write_shapes(self.folder / name, **{"train": 3, "val": 2, "image_size": 64, **options})
        first, again, longer, other = (files(self.folder / name) for name in ("a", "b", "longer", "other"))
        self.assertLen(first, 3 + 2 + 2)
        self.assertEqual(first, again)
        for name in ("train/000002.jpg", "val/000001.jpg", "annotations/instances_val.json"):
            self.assertEqual(longer[name], first[name])
            self.assertNotEqual(other[name], first[name])
        self.assertNotEqual(first["train/000000.jpg"], first["val/000000.jpg"])

    def test_set_is_sound_and_has_everything(self):
        write_shapes(self.folder, train=40, val=1, image_size=96)
        index = load_index(self.folder, "train", ReadOptions(strict=True))
        self.assertEqual(index.class_names, CLASS_NAMES)
        self.assertAllGreater(list(index.problems.boxes_per_class.values()), 0)
        counts = [len(record.boxes) for record in index.records]
        self.assertEqual(min(counts), 0)  # P(no empty image) = 0.94^40 = 0.08 for any seed; fixed for this one.
        self.assertGreater(max(counts), 3)
        for record in index.records:
            sides = record.boxes[:, 2:] - record.boxes[:, :2]
            # A figure is at most 0.5 of the image wide; at least 0.4 of its area is seen.
            self.assertAllInRange(sides, 1, 0.5 * 96 + 1)

    @parameterized.named_parameters(
        # Area in units of the squared radius.
        ("circle", math.pi),
        ("square", 2.0),
        ("triangle", 3 * math.sqrt(3) / 4),
        ("star", 10 * 0.5 * 0.42 * math.sin(math.pi / 5)),  # ten triangles with sides 1 and 0.42 at 36 degrees
        ("ring", math.pi * (1 - RING_HOLE**2)),
    )
    def test_area(self, expected):
        label = CLASS_NAMES.index(self._testMethodName.removeprefix("test_area_"))
        mask, area = _draw_mask(label, np.array([50.0, 50.0]), 30.0, 0.3, 100)
        self.assertEqual(np.count_nonzero(mask), area)  # It lies inside.
        self.assertAllClose(area / SUPERSAMPLING**2 / 30**2, expected, rtol=0.03)

    def test_box_of_a_circle_and_what_the_border_leaves(self):
        mask, _ = _draw_mask(0, np.array([50.0, 40.0]), 20.0, 0.0, 100)
        self.assertAllClose(_box(mask), [30, 20, 40, 40], atol=0.5)
        mask, area = _draw_mask(0, np.array([0.0, 40.0]), 20.0, 0.0, 100)
        self.assertAllClose(_box(mask), [0, 20, 20, 40], atol=0.5)
        self.assertAllClose(np.count_nonzero(mask) / area, 0.5, atol=0.02)

    def test_scenes_without_noise_to_see_have_figures_where_boxes_are(self):
        # The middle half of a circle's, square's or triangle's box is not all background: its colour keeps off from
        # what surrounds it, so the mean inside differs from the mean of a frame around the box.
        differences = []
        for seed in range(30):
            pixels, truth = draw_scene(np.random.default_rng(seed), 96)
            if len(truth) != 1 or CLASS_NAMES[truth[0][0]] == "ring":
                continue
            x, y, w, h = truth[0][1]
            rows, columns = slice(int(y + h / 4), int(y + 3 * h / 4)), slice(int(x + w / 4), int(x + 3 * w / 4))
            around = np.ones((96, 96), bool)
            around[int(y) : int(y + h) + 1, int(x) : int(x + w) + 1] = False
            around[: max(int(y) - 6, 0)] = around[int(y + h) + 6 :] = False
            around[:, : max(int(x) - 6, 0)] = around[:, int(x + w) + 6 :] = False
            inside = pixels[rows, columns].reshape(-1, 3).mean(axis=0)
            differences.append(np.linalg.norm(inside - pixels[around].mean(axis=0)))
        self.assertNotEmpty(differences)
        self.assertAllGreater(differences, 30)

    def test_shuffled_labels_leave_pictures_and_val(self):
        for name, shuffle in (("a", False), ("b", True)):
            write_shapes(self.folder / name, train=20, val=4, image_size=64, shuffle_labels=shuffle)
        plain, shuffled = files(self.folder / "a"), files(self.folder / "b")
        self.assertEqual(
            [name for name in plain if plain[name] != shuffled[name]], ["annotations/instances_train.json"]
        )

        def sets(content):
            entries = json.loads(content)["annotations"]
            return [[(e["category_id"], *e["bbox"]) for e in entries if e["image_id"] == i] for i in range(1, 21)]

        before, after = (sets(each["annotations/instances_train.json"]) for each in (plain, shuffled))
        self.assertEqual(sorted(before), sorted(after))
        for left, right in zip(before, after, strict=True):
            self.assertTrue(left != right or not left)

    def test_no_figure_is_mostly_hidden(self):
        for seed in range(5):
            pixels, figures = np.full((96, 96, 3), 128.0), []
            for _ in range(8):
                pixels, figures = _add_figure(np.random.default_rng(seed + 100 * len(figures)), pixels, figures)
            self.assertGreater(len(figures), 3)
            for figure in figures:
                self.assertGreaterEqual(np.count_nonzero(figure.visible) / figure.area, MIN_VISIBLE)
            self.assertLessEqual(np.sum([figure.visible for figure in figures], axis=0).max(), 1)  # None twice.


if __name__ == "__main__":
    tf.test.main()
