import json
import pathlib

import numpy as np
import pytest
from absl.testing import absltest, parameterized

from kyolo.data import ReadOptions, ShardedIndex, convert, load_index
from kyolo.data.shapes import write_shapes
from kyolo.errors import InputError
from tests.data.sets import annotation, write_set, write_voc, write_yolo
from tests.test_case import TestCase

FORMATS = ("coco", "yolo", "voc", "tfrecord")
SPLITS = ("train", "val")


class ConvertTest(TestCase):
    def write_odd(self):
        """Decimals, a crowd, a box over the border, an image and a class without boxes, a folder in a name."""
        images = [("images/b/1.png", 40, 20), ("a.png", 33, 21), ("none.png", 8, 8)]
        (self.folder / "odd/train/images/b").mkdir(parents=True)
        boxes = [
            annotation([1.1, 2.2, 3.3, 4.4], id=1),
            annotation([30, -2.5, 15, 6.000000001], category_id=7, id=2),
            annotation([0.1, 0.2, 20.7, 1 / 3], image_id=2, id=3),
            annotation([5, 5, 9, 9], image_id=2, id=4, iscrowd=1),
        ]
        categories = [{"id": i, "name": name} for i, name in ((1, "a & <b>"), (7, "no"), (9, "never"))]
        write_set(self.folder / "odd", boxes, images=images, categories=categories)
        return self.folder / "odd"

    def assert_same(self, left, right):
        self.assertEqual(left.class_names, right.class_names)
        contents = [self.contents(index) for index in (left, right)]
        left, right = (index.load() if isinstance(index, ShardedIndex) else index for index in (left, right))
        for one, other in zip(left.records, right.records, strict=True):
            self.assertEqual((one.height, one.width), (other.height, other.width))
            self.assertEqual(contents[0][one.image_id], contents[1][other.image_id])
            np.testing.assert_array_equal(one.boxes, other.boxes)
            np.testing.assert_array_equal(one.labels, other.labels)

    def contents(self, index):
        """The files of the images by id."""
        if isinstance(index, ShardedIndex):
            return {example.image_id: example.content for example in index.examples()}
        return {record.image_id: pathlib.Path(record.path).read_bytes() for record in index.records}

    @parameterized.parameters(*FORMATS)
    def test_there_and_back(self, name):
        source = self.write_odd()
        convert(source, self.folder / "there", name)
        convert(self.folder / "there", self.folder / "back", "coco")
        before, there, back = (load_index(self.folder / part, "train") for part in ("odd", "there", "back"))
        self.assert_same(before, there)
        self.assert_same(before, back)
        # What is scored: 1/3 has more than 9 decimals, all others come back as they were, to the last bit.
        entries = [entry for entry in before.truth["annotations"] if name != "yolo" or not entry["iscrowd"]]
        paths = [{image["id"]: image["file_name"] for image in index.truth["images"]} for index in (before, back)]
        found = sorted((paths[1][e["image_id"]], e["bbox"], e["iscrowd"]) for e in back.truth["annotations"])
        expected = sorted((paths[0][e["image_id"]], e["bbox"], e["iscrowd"]) for e in entries)
        for (name_found, box, crowd), (name_expected, expected_box, expected_crowd) in zip(
            found, expected, strict=True
        ):
            self.assertEqual((name_found, crowd), (name_expected, expected_crowd))
            self.assertEqual([round(side, 9) for side in box], [round(side, 9) for side in expected_box])

    @parameterized.parameters([[-10, 0, 12, 10]], [[-5, 0, 60, 10]], [[30, -50, 40, 100]])
    def test_boxes_that_stick_far_out_train_alike(self, bbox):
        write_set(self.folder / "set", [annotation(bbox)])
        for name in FORMATS:
            convert(self.folder / "set", self.folder / name, name)
            self.assert_same(load_index(self.folder / "set", "train"), load_index(self.folder / name, "train"))

    def test_same_names_in_several_folders(self):
        for split in ("one", "two"):
            write_yolo(self.folder / "set", {"a": "0 0.5 0.5 0.5 0.5"}, split=split)
        (self.folder / "set/data.yaml").write_text("train: [one/images, two/images]\nnames: [a]\n")
        for name in FORMATS:
            convert(self.folder / "set", self.folder / name, name)
            self.assertEqual(load_index(self.folder / name, "train").num_images, 2)

    def test_what_is_no_format_or_split(self):
        write_set(self.folder / "set", [])
        with self.assertRaisesRegex(InputError, "coco, yolo, voc, tfrecord, received 'foo'"):
            convert(self.folder / "set", self.folder / "out", "foo")
        with self.assertRaisesRegex(InputError, "coco, yolo, voc, tfrecord, received 'foo'"):
            ReadOptions(format="foo")
        with self.assertRaisesRegex(InputError, "no dev_fraction"):
            convert(self.folder / "set", self.folder / "out", "yolo", ReadOptions(dev_fraction=0.1))
        for to, shards in (("coco", 2), ("tfrecord", 0)):
            with self.assertRaisesRegex(InputError, f"1 or more, received {shards} of {to}"):
                convert(self.folder / "set", self.folder / "out", to, shards=shards)
        self.assertFalse((self.folder / "out").exists())

    def test_yolo_cannot_hold_crowds(self):
        report = convert(self.write_odd(), self.folder / "out", "yolo")["train"]
        self.assertEqual(report.problems["left out: crowd"], ("a.png",))
        self.assertEqual((report.crowds, report.boxes, report.boxes_in_files), (0, 3, 4))

    def test_crowds_are_difficult_in_voc(self):
        convert(self.write_odd(), self.folder / "out", "voc")
        index = load_index(self.folder / "out", "train")
        self.assertEqual(sorted(entry["iscrowd"] for entry in index.truth["annotations"]), [0, 0, 0, 1])

    @parameterized.product(name=("bccd", "deeppcb"), to=FORMATS)
    @pytest.mark.slow
    def test_real_sets_there_and_back(self, name, to):
        source = self.real_data(name)
        convert(source, self.folder / "there", to)
        convert(self.folder / "there", self.folder / "back", "coco")
        for split in SPLITS:
            contents = [
                json.loads((folder / f"annotations/instances_{split}.json").read_text())
                for folder in (source, self.folder / "back")
            ]
            names = [[category["name"] for category in content["categories"]] for content in contents]
            self.assertEqual(*names)
            files = [{image["id"]: image["file_name"] for image in content["images"]} for content in contents]
            self.assertEqual(set(files[0].values()), set(files[1].values()))
            boxes = [
                [(paths[entry["image_id"]], entry["category_id"], *entry["bbox"]) for entry in content["annotations"]]
                for content, paths in zip(contents, files, strict=True)
            ]
            self.assertCountEqual(*boxes)
            self.assert_same(load_index(source, split), load_index(self.folder / "back", split))

    @parameterized.product(
        name=("a", "b.jfif", "c.2024", ".d.jpg", ".hidden/e.jpg", "val/f.jpg", "SegmentationClass/g.jpg", "h.i.JPG"),
        to=("yolo", "voc"),
    )
    def test_every_name_is_read_back(self, name, to):
        """Names without a suffix, hidden ones, and folders that the readers leave out or take for another split."""
        file = self.folder / "set/train" / name
        file.parent.mkdir(parents=True)
        content = write_set(self.folder / "set", [annotation([1, 1, 5, 5])], images=[("x.jpg", 40, 20)])
        (self.folder / "set/train/x.jpg").rename(file)
        content["images"][0]["file_name"] = name
        (self.folder / "set/annotations/instances_train.json").write_text(json.dumps(content))
        report = convert(self.folder / "set", self.folder / "out", to)["train"]
        for folder in (self.folder / "set", self.folder / "out"):
            index = load_index(folder, "train", ReadOptions(strict=True))
            self.assertEqual((index.num_images, index.problems.boxes), (1, 1))
        (found,) = (image["file_name"] for image in index.truth["images"])
        self.assertEqual("image renamed" in report.notes, found != name)

    def test_two_images_that_get_one_name(self):
        write_set(self.folder / "set", [annotation([1, 1, 5, 5])], images=[("a.jpg", 8, 8), ("b.jpg", 8, 8)])
        content = json.loads((self.folder / "set/annotations/instances_train.json").read_text())
        (self.folder / "set/train/b.jpg").rename(self.folder / "set/train/a")
        content["images"][1]["file_name"] = "a"
        (self.folder / "set/annotations/instances_train.json").write_text(json.dumps(content))
        with self.assertRaisesRegex(InputError, "different names"):
            convert(self.folder / "set", self.folder / "out", "yolo")

    @parameterized.parameters(*FORMATS)
    def test_classes_of_all_splits_keep_their_names(self, to):
        """red and blue change places in val, which has a class of its own too."""
        for split, names in (("train", ("red", "blue")), ("val", ("green", "blue", "red"))):
            categories = [{"id": number, "name": name} for number, name in enumerate(names, 1)]
            boxes = [annotation([number, 1, 5, 5], category_id=number) for number in range(1, len(names) + 1)]
            write_set(self.folder / "set", boxes, categories=categories, split=split)
        convert(self.folder / "set", self.folder / "out", to)
        for split, expected in (("train", {1: "red", 2: "blue"}), ("val", {1: "green", 2: "blue", 3: "red"})):
            index = load_index(self.folder / "out", split)
            self.assertEqual(index.class_names, ("red", "blue", "green"))
            self.assertEqual(index.category_ids, (1, 2, 3))
            (record,) = (index.load() if isinstance(index, ShardedIndex) else index).records
            labels = zip(record.boxes[:, 0].astype(int).tolist(), record.labels, strict=True)
            self.assertEqual({x: index.class_names[label] for x, label in labels}, expected)

    @parameterized.parameters(*FORMATS)
    def test_nothing_is_written_without_a_box(self, to):
        write_yolo(self.folder / "set", {"a": "0 0.5 0.5 0.5 0.5 0.9"})
        with self.assertRaisesRegex(InputError, "expected boxes to train on.*row of 6 columns"):
            convert(self.folder / "set", self.folder / "out", to)
        self.assertFalse((self.folder / "out").exists())

    def test_images_are_links_unless_copied(self):
        write_set(self.folder / "set", [annotation([1, 1, 5, 5])])
        for copy in (False, True):
            convert(self.folder / "set", self.folder / f"out{copy}", "voc", copy=copy)
            same = (self.folder / f"out{copy}/train/a.png").samefile(self.folder / "set/train/a.png")
            self.assertEqual(same, not copy)

    def test_records_hold_the_images_themselves(self):
        with self.assertRaisesRegex(InputError, "no copies of images .--copy. with tfrecord"):
            convert(self.folder / "set", self.folder / "out", "tfrecord", copy=True)

    def test_val_fraction_makes_two_splits(self):
        write_shapes(self.folder / "set", train=40, val=1, image_size=32)
        (self.folder / "set/annotations/instances_val.json").unlink()
        convert(self.folder / "set", self.folder / "out", "yolo", ReadOptions(val_fraction=0.3))
        counts = [len(load_index(self.folder / "out", split).records) for split in SPLITS]
        self.assertEqual(sum(counts), 40)
        self.assertGreater(min(counts), 2)

    def test_same_name_twice(self):
        write_set(self.folder / "set", [annotation([1, 1, 5, 5])], images=[("a.png", 8, 8), ("a.jpg", 8, 8)])
        with self.assertRaisesRegex(InputError, "different names"):
            convert(self.folder / "set", self.folder / "out", "voc")
        self.assertFalse((self.folder / "out").exists())
        self.assertLen(convert(self.folder / "set", self.folder / "out", "coco"), 1)

    def test_images_from_outside_stay_inside(self):
        content = write_set(self.folder / "set", [])
        (self.folder / "set/train/a.png").rename(self.folder / "a.png")
        content["images"][0]["file_name"] = "../../a.png"
        (self.folder / "set/annotations/instances_train.json").write_text(json.dumps(content))
        convert(self.folder / "set", self.folder / "out", "coco", ReadOptions(allow_outside=True))
        self.assertTrue((self.folder / "out/train/a.png").is_file())
        self.assertLen(load_index(self.folder / "out", "train").records, 1)

    def test_output_that_exists(self):
        write_voc(self.folder / "set", {"a": [("cell", 1, 2, 3, 4)]})
        with self.assertRaisesRegex(InputError, "exists"):
            convert(self.folder / "set", self.folder / "set", "coco")


if __name__ == "__main__":
    absltest.main()
