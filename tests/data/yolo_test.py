import pathlib

import numpy as np
import tensorflow as tf
from absl.testing import parameterized
from PIL import Image

from kyolo.data import ReadOptions, load_index
from kyolo.errors import InputError
from tests.data.sets import write_images, write_yolo

LABELS = "train/labels/a.txt"


class YoloTest(tf.test.TestCase, parameterized.TestCase):
    def setUp(self):
        super().setUp()
        self.folder = pathlib.Path(self.get_temp_dir()) / "set"

    def read(self, text, **options):
        """The index of one image, 40 wide and 20 high."""
        write_yolo(self.folder, {"a": text}, **options)
        return load_index(self.folder, "train")

    def write_yaml(self, text):
        (self.folder / "data.yaml").write_text(text)

    def test_box_in_fractions_becomes_pixels(self):
        # Centre (20, 5), sides (10, 4).
        (record,) = self.read("0 0.5 0.25 0.25 0.2\n").records
        self.assertAllEqual(record.boxes, [[15, 3, 25, 7]])
        self.assertAllEqual(record.labels, [0])
        self.assertEqual((record.height, record.width), (20, 40))

    def test_division_by_the_size_is_undone_exactly(self):
        rng = np.random.default_rng(0)
        x1, x2 = np.sort(rng.integers(0, 4000, (2, 200)), axis=0) / 100  # 40 wide
        y1, y2 = np.sort(rng.integers(0, 2000, (2, 200)), axis=0) / 100
        sides = zip((x1 + x2) / 2 / 40, (y1 + y2) / 2 / 20, (x2 - x1) / 40, (y2 - y1) / 20, strict=True)
        rows = [f"0 {x!r} {y!r} {w!r} {h!r}" for x, y, w, h in (map(float, side) for side in sides)]
        index = self.read("\n".join(rows))
        self.assertAllEqual(index.records[0].boxes, np.stack([x1, y1, x2, y2], axis=1).astype(np.float32))

    @parameterized.parameters(3, 5, 40)
    def test_polygon_gives_its_box(self, corners):
        angles = np.linspace(0, 2 * np.pi, corners, endpoint=False)
        points = np.stack([0.5 + 0.3 * np.cos(angles), 0.5 + 0.2 * np.sin(angles)], axis=1)
        index = self.read("0 " + " ".join(f"{value:.12f}" for value in points.ravel()))
        low, high = points.min(axis=0) * (40, 20), points.max(axis=0) * (40, 20)
        self.assertAllClose(index.records[0].boxes, [[*low, *high]])

    @parameterized.parameters(
        "\ufeff0 0.5 0.5 0.5 0.5", "0 0.5 0.5 0.5 0.5\r\n", "\n\n0\t0.5  0.5 0.5 .5 \n\n", "0.0 0.5 0.5 5e-1 0.5"
    )
    def test_what_editors_make_of_a_row(self, text):
        index = self.read(text)
        self.assertAllEqual(index.records[0].boxes, [[10, 5, 30, 15]])
        self.assertEmpty(index.problems.problems)

    @parameterized.parameters(
        ("row with text that is no number", "0 nan 0.5 0.5 0.5"),
        ("row with text that is no number", "0 0.5 0.5 0_5 0.5"),
        ("row with numbers outside 0..1", "0 -0.2 0.5 0.5 0.5"),
        ("row with numbers outside 0..1", "0 20 10 5 5"),
        ("row with text that is no number", "0 0.5 0.5 inf 0.5"),
        ("row with text that is no number", "cell 0.5 0.5 0.5 0.5"),
        ("row with text that is no number", "0,0.5,0.5,0.5,0.5"),
        ("row that has neither 5 columns nor those of a polygon", "0 0.5 0.5 0.5"),
        ("row of 6 columns, one more than a box has", "0 0.5 0.5 0.5 0.5 0.9"),
        ("row that has neither 5 columns nor those of a polygon", "0"),
        ("row of an unknown class", "1 0.5 0.5 0.5 0.5"),
        ("row of an unknown class", "-1 0.5 0.5 0.5 0.5"),
        ("row of an unknown class", "0.5 0.5 0.5 0.5 0.5"),
        ("row with text that is no number", "nan 0.5 0.5 0.5 0.5"),
        ("box without area", "0 0.5 0.5 0 0.5"),
        ("box given twice", "0 0.2 0.2 0.1 0.1"),
    )
    def test_bad_row_is_named_and_skipped(self, kind, row):
        index = self.read(f"0 0.2 0.2 0.1 0.1\n\n{row}\n")
        self.assertLen(index.records[0].boxes, 1)
        self.assertLen(index.truth["annotations"], 1)
        self.assertEqual(dict(index.problems.problems), {kind: (f"{LABELS}:3",)})

    @parameterized.parameters((4, 2), (2, 3), (1, 3), (17, 3), (1, 2))
    def test_rows_with_keypoints(self, points, values):
        """With kpt_shape the first four numbers are the box, and a row with another count is named."""
        keypoints = " ".join((["0.3", "0.4", "2"][:values]) * points)
        self.read(f"0 0.5 0.25 0.25 0.2 {keypoints}\n0 0.5 0.5 0.5 0.5 0.1\n0 0.1 0.1 0.5 0.1 0.5 0.5 0.7 0.7\n")
        self.write_yaml(f"train: train/images\nnames: [a]\nkpt_shape: [{points}, {values}]\n")
        index = load_index(self.folder, "train")
        self.assertAllEqual(index.records[0].boxes, [[15, 3, 25, 7]])
        names = (f"{LABELS}:2", f"{LABELS}:3")
        self.assertEqual(dict(index.problems.problems), {"row that does not fit kpt_shape": names})

    @parameterized.parameters("[17]", "17", "[0, 2]", "[4, 5]", "[a, 3]", "{a: 2}", "[2.5, 2]")
    def test_bad_kpt_shape(self, shape):
        self.read("0 0.5 0.25 0.25 0.2")
        self.write_yaml(f"train: train/images\nnames: [a]\nkpt_shape: {shape}\n")
        with self.assertRaisesRegex(InputError, "data.yaml: expected kpt_shape: .*, got .*Correct it"):
            load_index(self.folder, "train")

    def test_label_file_of_two_images(self):
        images = [(name, 40, 20) for name in ("a.png", "a.jpg", "b.png")]
        write_yolo(self.folder, {"a": "0 0.5 0.5 0.5 0.5\n0 0.2 0.2 0.1 0.1", "b": "0 0.5 0.5 0.5 0.5"}, images=images)
        index = load_index(self.folder, "train")
        self.assertEqual(
            dict(index.problems.problems), {"image whose label file is another image's too": ("a.jpg", "a.png")}
        )
        self.assertEqual((index.problems.images, index.problems.boxes, index.problems.boxes_in_files), (1, 1, 3))

    def test_box_over_the_border_is_clipped(self):
        # x 36..44 of 40.
        index = self.read("0 1.0 0.5 0.2 0.5")
        self.assertAllEqual(index.records[0].boxes, [[36, 5, 40, 15]])

    def test_images_without_labels(self):
        images = [(name, 40, 20) for name in ("a.png", "empty.png", "none.png")]
        write_yolo(self.folder, {"a": "0 0.5 0.5 0.5 0.5", "empty": ""}, images=images)
        index = load_index(self.folder, "train")
        self.assertEqual([len(record.labels) for record in index.records], [1, 0, 0])
        self.assertEmpty(index.problems.problems)

    def test_not_one_label_is_a_mistake(self):
        write_yolo(self.folder, {})
        with self.assertRaisesRegex(InputError, "expected labels such as .*train/labels/a.txt, found none"):
            load_index(self.folder, "train")

    def test_labels_that_are_no_text(self):
        images = [(name, 40, 20) for name in ("a.png", "b.png")]
        write_yolo(self.folder, {"a": b"\xff\xfe\x00", "b": ""}, images=images)
        index = load_index(self.folder, "train")
        self.assertEqual([pathlib.Path(record.path).name for record in index.records], ["b.png"])
        self.assertEqual(dict(index.problems.problems), {"image whose labels are no text": (LABELS,)})

    def test_labels_without_an_image(self):
        self.read("0 0.5 0.5 0.5 0.5")
        for name in ("b", "classes"):
            (self.folder / f"train/labels/{name}.txt").write_text("0 0.5 0.5 0.5 0.5")
        problems = load_index(self.folder, "train").problems.problems
        self.assertEqual(dict(problems), {"labels without image": ("train/labels/b.txt",)})

    def test_splits_that_are_not_there(self):
        self.read("0 0.5 0.5 0.5 0.5")
        self.write_yaml("train: train/images\nval: val/images\ntest: test-dev.txt\nnames: [a]\n")
        self.assertLen(load_index(self.folder, "train").records, 1)
        for split, entry in (("val", "val: val/images"), ("test", "test: test-dev.txt")):
            with self.assertRaisesRegex(InputError, f"data.yaml: {entry} is not there") as caught:
                load_index(self.folder, split)
            self.assertNotIn("fraction", str(caught.exception))

    def test_corrupt_image(self):
        self.read("0 0.5 0.5 0.5 0.5", images=[(name, 40, 20) for name in ("a.png", "b.png")])
        (self.folder / "train/images/b.png").write_text("no image")
        self.assertEqual(dict(load_index(self.folder, "train").problems.problems), {"corrupt image": ("b.png",)})

    @parameterized.parameters(
        "names: [b, a]",
        "names: {0: b, 1: a}",
        "names:\n  - b\n  - a\nnc: 2",
        "names: {'1': a, '0': b}\nnc: 2\nroboflow: {version: 3}",
    )
    def test_names_are_a_list_or_a_mapping(self, names):
        self.read("1 0.5 0.5 0.5 0.5", names=("x", "y"))
        self.write_yaml(f"train: train/images\n{names}\n")
        self.assertEqual(load_index(self.folder, "train").class_names, ("b", "a"))

    def test_names_are_the_text_that_stands_there(self):
        self.read("", names=("x",))
        self.write_yaml("train: train/images\nnames: [no, 1.0, null, 0x10, 2024-01-01]\n")
        self.assertEqual(load_index(self.folder, "train").class_names, ("no", "1.0", "null", "0x10", "2024-01-01"))

    @parameterized.parameters(
        ("names: {0: a, 2: b}", "numbered 0, 1, 2"),
        ("names: []", "names of the classes"),
        ("names: cell", "names of the classes"),
        ("nc: 3", "names of the classes"),
        ("names: [[a]]", "names of the classes"),
        ("names: [a]\nnc: 2", "expected nc: 1"),
        ("- a", "expected a mapping"),
        ("names: [a", "expected YAML"),
        ("names: *x", "expected YAML"),
        ("a: &a [x]\nnames: *a", "aliases"),
        ("names: [a, a]", "none twice, received 'a'"),
        ('names: ["two\\nlines"]', "on one line"),
        ('names: ["\\ud800"]', "on one line"),
        ("names: [a]\ntrain: " + "x" * 5000, "train: .* is not there"),
        ('names: [a]\ntrain: "two\\nlines"', "train: .* is not there"),
        ("names: [a]\ntrain: {a: b}", "a path or a list of paths"),
        ("names: [a]\ntrain: nowhere/images", "train: .* is not there"),
        ("names: [a]\ntrain: [" * 2000, "expected"),
    )
    def test_bad_yaml_is_one_clear_line(self, text, pattern):
        self.read("")
        self.write_yaml(text if "train:" in text else f"train: train/images\n{text}")
        if text == "- a":
            self.write_yaml(text)
        with self.assertRaisesRegex(InputError, pattern) as caught:
            load_index(self.folder, "train")
        self.assertIn("data.yaml", str(caught.exception))
        self.assertNotIn("\n", str(caught.exception))

    @parameterized.parameters("train/images", "../train/images", "./train/images", "train")
    def test_where_the_images_are(self, entry):
        self.read("0 0.5 0.5 0.5 0.5")
        self.write_yaml(f"train: {entry}\nnames: [a]\n")
        self.assertLen(load_index(self.folder, "train").records, 1)

    @parameterized.parameters("path: .", "path: /somewhere/else", "path: ../datasets/set")
    def test_path_of_another_machine(self, path):
        self.read("0 0.5 0.5 0.5 0.5")
        self.write_yaml(f"{path}\ntrain: train/images\nval:\ntest: ''\nnames: [a]\n")
        self.assertLen(load_index(self.folder, "train").records, 1)

    def test_path_below_the_folder(self):
        write_yolo(self.folder / "deep", {"a": "0 0.5 0.5 0.5 0.5"})
        self.write_yaml("path: deep\ntrain: train/images\nnames: [a]\n")
        self.assertLen(load_index(self.folder, "train").records[0].labels, 1)

    def test_layout_of_ultralytics(self):
        """images/train with labels/train."""
        write_images(self.folder / "images/train", [("a.png", 40, 20)])
        (self.folder / "labels/train").mkdir(parents=True)
        (self.folder / "labels/train/a.txt").write_text("0 0.5 0.5 0.5 0.5")
        self.write_yaml("train: images/train\nnames: [a]\n")
        self.assertLen(load_index(self.folder, "train").records[0].labels, 1)

    def test_labels_beside_the_images(self):
        write_images(self.folder / "obj", [("a.png", 40, 20)])
        (self.folder / "obj/a.txt").write_text("0 0.5 0.5 0.5 0.5")
        self.write_yaml("train: obj\nnames: [a]\n")
        self.assertLen(load_index(self.folder, "train").records[0].labels, 1)

    def test_several_folders_and_lists(self):
        for split in ("one", "two", "three"):
            write_yolo(self.folder, {"a": "0 0.5 0.5 0.5 0.5"}, split=split)
        (self.folder / "list.txt").write_text("./three/images/a.png\n\n")
        self.write_yaml("train: [one/images, two/images, list.txt]\nnames: [a]\n")
        self.assertEqual([len(record.labels) for record in load_index(self.folder, "train").records], [1, 1, 1])

    def test_roboflow_calls_val_valid(self):
        self.read("")
        write_yolo(self.folder, {"a": ""}, split="valid")
        self.write_yaml("train: ../train/images\nval: ../valid/images\ntest: ../train/images\nnames: [a]\n")
        for split in ("train", "val", "test"):
            self.assertLen(load_index(self.folder, split).records, 1)

    @parameterized.parameters("{outside}/train/images", "../outside/train/images")
    def test_images_outside_need_leave(self, entry):
        self.read("")
        outside = self.folder.parent / "outside"
        write_yolo(outside, {"a": "0 0.5 0.5 0.5 0.5"})
        self.write_yaml(f"train: {entry.format(outside=outside)}\nnames: [a]\n")
        (self.folder / "train").rename(self.folder / "other")
        with self.assertRaisesRegex(InputError, "data.yaml.*leads out.*--allow-outside"):
            load_index(self.folder, "train")
        (record,) = load_index(self.folder, "train", ReadOptions(allow_outside=True)).records
        self.assertEqual(record.path, str(outside / "train/images/a.png"))
        self.assertLen(record.labels, 1)

    def test_listed_image_outside_needs_leave(self):
        self.read("")
        Image.new("RGB", (4, 4)).save(self.folder.parent / "b.png")
        (self.folder / "list.txt").write_text(f"{self.folder.parent}/b.png\n")
        self.write_yaml("train: list.txt\nnames: [a]\n")
        with self.assertRaisesRegex(InputError, "list.txt.*leads out"):
            load_index(self.folder, "train")

    @parameterized.parameters("x" * 300, "a\x00.png", "\x1b[31m")
    def test_listed_names_that_no_file_can_have(self, name):
        self.read("0 0.5 0.5 0.5 0.5")
        (self.folder / "list.txt").write_text(f"train/images/a.png\n{name}\n")
        self.write_yaml("train: list.txt\nnames: [a]\n")
        index = load_index(self.folder, "train")
        self.assertLen(index.records, 1)
        self.assertLen(index.problems.problems["missing image"], 1)
        self.assertLen(index.problems.table().splitlines(), 5)

    def test_images_of_val_fraction_are_not_reported_twice(self):
        images = [(f"{i}.png", 4, 4) for i in range(40)]
        rows = "0 0.5 0.5 0.5 0.5\n7 0.5 0.5 0.5 0.5"
        write_yolo(self.folder, {str(i): rows for i in range(40)}, images=images)
        options = ReadOptions(val_fraction=0.5)
        counts = [load_index(self.folder, split, options).problems.num_problems for split in ("train", "val")]
        self.assertEqual(sum(counts), 40)
        self.assertGreater(min(counts), 0)


if __name__ == "__main__":
    tf.test.main()
