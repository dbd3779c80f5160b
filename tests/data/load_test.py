import contextlib
import hashlib
import io
import pathlib
from unittest import mock

import numpy as np
import tensorflow as tf
from absl.testing import parameterized
from PIL import Image

from kyolo.data import ImageStore, ReadOptions, check_index, load_index
from kyolo.data.layout import FORMATS
from kyolo.data.load import READERS
from kyolo.errors import InputError
from tests.data.sets import annotation, write_set, write_voc, write_yolo

FILE = "annotations/instances_train.json"
NAMES = tuple(f"{number:03d}.png" for number in range(200))


class LoadIndexTest(tf.test.TestCase, parameterized.TestCase):
    def setUp(self):
        super().setUp()
        self.folder = pathlib.Path(self.get_temp_dir())

    def write_damaged(self):
        """Good, missing, no image, truncated, and of another size; one box on each, and one without area."""
        images = [(name, 40, 20) for name in ("good.jpg", "missing.jpg", "text.jpg", "cut.jpg", "size.jpg")]
        boxes = [annotation([1, 1, 5, 5], image_id=i, id=i) for i in range(1, 6)]
        write_set(self.folder, [*boxes, annotation([1, 1, 0, 5], id=6)], images=images)
        (self.folder / "train/missing.jpg").unlink()
        (self.folder / "train/text.jpg").write_text("no image")
        cut = self.folder / "train/cut.jpg"
        cut.write_bytes(cut.read_bytes()[:-200])
        Image.new("RGB", (20, 40)).save(self.folder / "train/size.jpg")

    def test_damaged_images_are_named_and_skipped(self):
        self.write_damaged()
        index = load_index(self.folder, "train")
        self.assertEqual([record.path for record in index.records], [str(self.folder / "train/good.jpg")])
        self.assertEqual(
            index.problems.to_dict(),
            {
                "images": 1,
                "boxes": 1,
                "crowds": 0,
                "boxes_in_files": 6,
                "boxes_per_class": {"cell": 1},
                "problems": {
                    "box without area": {"count": 1, "boxes": 1, "names": [f"{FILE}: annotation 6 of good.jpg"]},
                    "missing image": {"count": 1, "boxes": 1, "names": ["missing.jpg"]},
                    "corrupt image": {"count": 2, "boxes": 2, "names": ["cut.jpg", "text.jpg"]},
                    "image size differs from the annotations": {
                        "count": 1,
                        "boxes": 1,
                        "names": ["size.jpg (20x40, not 40x20)"],
                    },
                },
                "notes": {},
            },
        )
        self.assertLen(index.truth["images"], 5)  # The evaluation sees what the file holds.

    def test_strict_raises_the_first_problem_with_all_counts(self):
        self.write_damaged()
        with self.assertRaisesRegex(InputError, "annotation 6 of good.jpg.*2 x corrupt image, 1 x missing") as caught:
            load_index(self.folder, "train", ReadOptions(strict=True))
        self.assertNotIn("\n", str(caught.exception))

    def test_strict_takes_a_sound_set(self):
        write_set(self.folder, [annotation([1, 1, 5, 5])])
        self.assertLen(load_index(self.folder, "train", ReadOptions(strict=True)).records, 1)

    def test_problems_of_reader_and_check_are_joined(self):
        """The reader finds two images of one kind, the check a third; all are named, and strict counts all."""
        images = [(f"{name}.jpg", 40, 20) for name in "abcd"]
        write_yolo(self.folder, dict.fromkeys("abcd", "0 0.5 0.5 0.5 0.5"), images=images)
        half = (self.folder / "train/images/c.jpg").read_bytes()[:-200]
        for name, content in (("a", b""), ("b", b"<html>"), ("c", half)):
            (self.folder / f"train/images/{name}.jpg").write_bytes(content)
        report = load_index(self.folder, "train").problems
        self.assertEqual(dict(report.problems), {"corrupt image": ("a.jpg", "b.jpg", "c.jpg")})
        self.assertEqual((report.boxes, report.boxes_in_files), (1, 4))
        with self.assertRaisesRegex(InputError, "3 x corrupt image in all"):
            load_index(self.folder, "train", ReadOptions(strict=True))

    @parameterized.parameters(
        ("0, 0.5, 0.5, 0.5, 0.5", "row with text that is no number.*spaces"),
        ("0 20 10 5 5", "row with numbers outside 0..1.*Divide"),
        ("0 0.5 0.5 0.5 0.5 0.9", "row of 6 columns.*Remove the last column"),
        ("1 0.5 0.5 0.5 0.5", "row of an unknown class.*names in data.yaml"),
        ("0 0.5 0.5 0 0.5", "box without area.*positive"),
    )
    def test_annotations_without_a_box_to_train_on(self, row, pattern):
        write_yolo(self.folder, {"a": f"{row}\n{row}\n"})
        with self.assertRaisesRegex(
            InputError, f"^{self.folder}, split 'train': expected boxes .* all 2 .*{pattern}[^\n]*$"
        ):
            load_index(self.folder, "train")

    def test_fractions_where_pixels_are_expected(self):
        write_set(self.folder / "coco", [annotation([0.1, 0.2, 0.5, 0.5])])
        write_voc(self.folder / "voc", {"a": [("cell", 0.1, 0.2, 0.6, 0.9)]})
        for name in ("coco", "voc"):
            with self.assertRaisesRegex(InputError, "expected boxes in pixels, got numbers in 0..1 only. Multiply"):
                load_index(self.folder / name, "train")

    def test_crowds_only_are_nothing_to_train_on(self):
        write_set(self.folder, [annotation([1, 1, 5, 5], iscrowd=1)])
        with self.assertRaisesRegex(
            InputError, "all 1 in the annotations are skipped, the first as crowd. Set difficult"
        ):
            load_index(self.folder, "train")

    def test_images_without_annotations_are_read(self):
        write_set(self.folder, [], split="val")
        self.assertEqual(load_index(self.folder, "val").problems.boxes_in_files, 0)

    @parameterized.parameters((2, 2, False), (2, 3, True), (1, 0, False))
    def test_first_line_says_that_more_than_half_is_lost(self, good, bad, warned):
        boxes = [annotation([i, 1, 5, 5]) for i in range(good)] + [annotation([i, 1, 0, 5]) for i in range(bad)]
        write_set(self.folder, boxes)
        first = load_index(self.folder, "train").problems.table().splitlines()[0]
        self.assertEqual(first.startswith(f"WARNING: {bad} of {good + bad} boxes"), warned, first)

    def test_every_format_has_its_reader(self):
        self.assertEqual(tuple(READERS), FORMATS)
        for name, reader in READERS.items():
            self.assertEqual(reader.__name__, f"kyolo.data.{name}")

    def test_no_usable_image_left(self):
        write_set(self.folder, [])
        (self.folder / "train/a.png").unlink()
        with self.assertRaisesRegex(InputError, "got none. First problem: missing image: a.png"):
            load_index(self.folder, "train")

    def test_unknown_split(self):
        with self.assertRaisesRegex(InputError, "'tset'"):
            load_index(self.folder, "tset")

    def test_dev_needs_a_fraction(self):
        with self.assertRaisesRegex(InputError, "dev_fraction"):
            load_index(self.folder, "dev")

    def test_dev_and_train_share_out_the_images(self):
        boxes = [annotation([1, 1, 2, 2], image_id=i) for i in range(1, 201)]
        write_set(self.folder, boxes, images=[(name, 4, 4) for name in NAMES])
        parts = {split: load_index(self.folder, split, ReadOptions(dev_fraction=0.25)) for split in ("train", "dev")}
        ids = {split: {record.image_id for record in index.records} for split, index in parts.items()}
        self.assertEmpty(ids["train"] & ids["dev"])
        self.assertLen(ids["train"] | ids["dev"], 200)
        # 200 draws at 1/4: 50 expected, standard deviation sqrt(200 * 1/4 * 3/4) = 6.1; five of them: 31.
        self.assertBetween(len(ids["dev"]), 50 - 31, 50 + 31)
        for split, index in parts.items():
            self.assertEqual({entry["image_id"] for entry in index.truth["annotations"]}, ids[split])
        # What is added later moves nobody, and a larger fraction only adds to dev.
        larger = load_index(self.folder, "dev", ReadOptions(dev_fraction=0.5))
        self.assertContainsSubset(ids["dev"], {record.image_id for record in larger.records})

    def test_dev_of_a_set_that_was_chosen_by_hash(self):
        names = [f"{i:05}.png" for i in range(1000)]
        chosen = sorted(names, key=lambda name: hashlib.sha1(name.encode()).digest())[:200]
        write_set(self.folder, [], images=[(name, 4, 4) for name in chosen])
        dev = load_index(self.folder, "dev", ReadOptions(dev_fraction=0.25))
        self.assertBetween(dev.num_images, 50 - 31, 50 + 31)  # as above; by sha1 it would be all

    def test_val_is_whole_whatever_the_fraction(self):
        write_set(self.folder, [], images=[(name, 4, 4) for name in NAMES[:20]], split="val")
        self.assertLen(load_index(self.folder, "val", ReadOptions(dev_fraction=0.5)).records, 20)

    def test_check_fills_the_store(self):
        write_set(self.folder, [])
        store = ImageStore((10, 10), cache="memory")
        (record,) = load_index(self.folder, "train", store=store).records
        pathlib.Path(record.path).unlink()  # From here on only the store has it.
        self.assertEqual(store.get(record.path).shape, (5, 10, 3))

    def test_images_are_not_opened_without_check(self):
        self.write_damaged()
        with mock.patch("kyolo.data.load.read_image", side_effect=AssertionError):
            index = load_index(self.folder, "train", check_images=False)
        self.assertLen(index.records, 5)
        self.assertEqual(index.problems.images, 5)
        self.assertEqual([*index.problems.problems], ["box without area"])
        checked = check_index(index, "train")
        expected = load_index(self.folder, "train")
        self.assertEqual(checked.fingerprint(), expected.fingerprint())
        self.assertEqual(checked.problems.to_dict(), expected.problems.to_dict())

    @parameterized.parameters(MemoryError(), tf.errors.ResourceExhaustedError(None, None, "OOM"))
    def test_memory_that_runs_out_is_no_corrupt_image(self, error):
        write_set(self.folder, [])
        with (
            mock.patch("kyolo.data.load.read_image", side_effect=error),
            self.assertRaisesRegex(InputError, "split 'train': memory ran out while decoding.*Set data.cache=disk"),
        ):
            load_index(self.folder, "train")

    @parameterized.product(form=("coco", "yolo", "voc"), beyond=(0.0, 0.004, 0.4, 4.0))
    def test_clipped_boxes_are_counted(self, form, beyond):
        """One box of 10 x 5 pixels inside, one that leaves the image of 40 x 20 by `beyond` at the right."""
        corners = [(1, 2, 11, 7), (30 + beyond, 2, 40 + beyond, 7)]
        if form == "coco":
            boxes = [annotation([x1, y1, x2 - x1, y2 - y1], id=x1) for x1, y1, x2, y2 in corners]
            write_set(self.folder, boxes)
        elif form == "yolo":
            rows = [
                f"0 {(x1 + x2) / 80} {(y1 + y2) / 40} {(x2 - x1) / 40} {(y2 - y1) / 20}" for x1, y1, x2, y2 in corners
            ]
            write_yolo(self.folder, {"a": "\n".join(rows)})
        else:
            write_voc(self.folder, {"a": [("cell", *box) for box in corners]})
        problems = load_index(self.folder, "train").problems
        self.assertEqual(problems.boxes, 2)
        self.assertLen(problems.notes.get("box clipped to its image", ()), int(beyond > 0.01))
        self.assertEqual("note: box clipped to its image" in problems.table(), beyond > 0.01)

    def test_quick_check_prints_nothing(self):
        write_set(self.folder, [])
        errors = io.StringIO()
        with contextlib.redirect_stderr(errors):
            load_index(self.folder, "train")
        self.assertEqual(errors.getvalue(), "")

    def test_table(self):
        self.write_damaged()
        table = load_index(self.folder, "train").problems.table(max_names=1)
        rows = [" ".join(line.split()) for line in table.splitlines()]
        self.assertIn("skipped: corrupt image 2 cut.jpg, ...", rows)
        self.assertEqual(
            rows[0],
            f"WARNING: 5 of 6 boxes are not trained on, first: box without area: {FILE}: annotation 6 of good.jpg",
        )
        self.assertIn("cell 1", rows)

    def test_order_is_that_of_the_names(self):
        names = NAMES[:30]
        write_set(self.folder, [], images=[(name, 4, 4) for name in reversed(names)])
        records = load_index(self.folder, "train").records
        self.assertEqual([pathlib.Path(record.path).name for record in records], list(names))
        self.assertAllEqual([record.image_id for record in records], np.arange(30, 0, -1))

    def test_val_is_cut_off_where_there_is_none(self):
        write_set(self.folder, [], images=[(name, 4, 4) for name in NAMES])
        with self.assertRaisesRegex(InputError, "--val-fraction"):
            load_index(self.folder, "val")
        options = ReadOptions(val_fraction=0.2, dev_fraction=0.2)
        parts = {split: load_index(self.folder, split, options).records for split in ("train", "val", "dev")}
        ids = {split: {record.image_id for record in records} for split, records in parts.items()}
        self.assertLen(ids["train"] | ids["val"] | ids["dev"], 200)
        self.assertEqual(sum(map(len, ids.values())), 200)
        for split in ("val", "dev"):
            # 40 expected, standard deviation sqrt(200 * 1/5 * 4/5) = 5.7; five of them: 29.
            self.assertBetween(len(ids[split]), 40 - 29, 40 + 29)
        # val does not know of dev.
        alone = load_index(self.folder, "val", ReadOptions(val_fraction=0.2)).records
        self.assertEqual({record.image_id for record in alone}, ids["val"])

    def test_fraction_of_a_set_that_has_val(self):
        for split in ("train", "val"):
            write_set(self.folder, [], split=split)
        with self.assertRaisesRegex(InputError, "has a val split"):
            load_index(self.folder, "val", ReadOptions(val_fraction=0.2))

    def test_nothing_left_to_train_on(self):
        write_set(self.folder, [])
        with self.assertRaisesRegex(InputError, "below 1, got 1.1"):
            load_index(self.folder, "train", ReadOptions(val_fraction=0.5, dev_fraction=0.6))

    def test_where_there_is_no_set(self):
        with self.assertRaisesRegex(InputError, "nowhere: expected the folder of a data set, found nothing"):
            load_index(self.folder / "nowhere", "train")
        (self.folder / "notes.txt").write_text("")
        with self.assertRaisesRegex(InputError, "COCO.*YOLO.*Pascal VOC.*found notes.txt. Pass the folder"):
            load_index(self.folder, "train")

    def test_missing_split_tells_those_that_are_there(self):
        write_set(self.folder, [])
        with self.assertRaisesRegex(InputError, "expected the split 'test', found train"):
            load_index(self.folder, "test")

    def test_precedence_of_the_formats(self):
        """COCO json, then YOLO, then VOC; the option decides where it is given."""
        image = [("a.png", 40, 20)]
        write_yolo(self.folder, {"a": "0 0.5 0.5 0.5 0.5"}, images=image, names=("yolo",))
        write_voc(self.folder, {"a": [("voc", 1, 2, 3, 4)]}, images=image)
        self.assertEqual(load_index(self.folder, "train").class_names, ("yolo",))
        write_set(self.folder, [], images=image)
        self.assertEqual(load_index(self.folder, "train").class_names, ("cell",))
        for name in ("yolo", "voc"):
            self.assertEqual(load_index(self.folder, "train", ReadOptions(format=name)).class_names, (name,))


if __name__ == "__main__":
    tf.test.main()
