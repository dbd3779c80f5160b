"""kyolo convert, and what training makes of the same images in every format."""

import json

import numpy as np
from absl.testing import absltest

from kyolo.data import Augmentation, write_shapes
from tests.data.sets import annotation, write_set, write_yolo
from tests.data.streams import endless
from tests.test_case import TestCase


class ConvertTest(TestCase):
    def test_writes_and_reports(self):
        write_set(self.folder / "set", [annotation([1, 1, 0, 3]), annotation([1, 1, 5, 3])])
        code, stdout, stderr = self.run_kyolo(
            "convert", self.folder / "set", "--to", "yolo", "--output", self.folder / "out", "--json"
        )
        self.assertEqual(code, 0, stderr)
        document = json.loads(stdout)
        self.assertEqual((document["format"], document["train"]["images"]), ("yolo", 1))
        self.assertIn("box without area", stderr)
        self.assertTrue((self.folder / "out/images/train/a.png").is_file())

    def test_bad_input(self):
        write_set(self.folder / "set", [annotation([1, 1, 0, 3]), annotation([1, 1, 5, 3])])
        out = ("--to", "voc", "--output", self.folder / "out")
        self.assert_bad_input(["convert", self.folder / "nowhere", *out], "nowhere", "expected the folder")
        self.assert_bad_input(["convert", self.folder / "set", *out, "--format", "voc"], "Pascal VOC", "found")
        self.assert_bad_input(["convert", self.folder / "set", *out, "--strict"], "box without area")
        self.assert_bad_input(
            ["convert", self.folder / "set", *out, "--val-fraction", "1.5"], "data.val_fraction", "1.5"
        )
        self.assert_bad_input(["convert", self.folder / "set", *out, "--shards", "2"], "tfrecord", "2 of voc")
        self.assertFalse((self.folder / "out").exists())

    def test_no_box_left(self):
        write_yolo(self.folder / "set", {"a": "0 0.5 0.5 0.5 0.5 0.9\n"})
        out = ("--to", "coco", "--output", self.folder / "out")
        what = "expected boxes to train on, got none: all 1 in"
        self.assert_bad_input(
            ["convert", self.folder / "set", *out], what, "train/labels/a.txt:1", "Remove the last column"
        )
        self.assertFalse((self.folder / "out").exists())

    def test_damaged_tfrecords(self):
        write_set(self.folder / "set", [])
        records = ("--to", "tfrecord", "--output", self.folder / "records", "--shards", "1")
        self.assertEqual(self.run_kyolo("convert", self.folder / "set", *records)[0], 0)
        shard = self.folder / "records/train-00000-of-00001.tfrecord"
        shard.write_bytes(shard.read_bytes()[:-1])
        again = ("--to", "coco", "--output", self.folder / "out")
        self.assert_bad_input(["convert", self.folder / "records", *again], shard, "bytes")
        self.assertFalse((self.folder / "out").exists())


class FormatsTrainAlikeTest(TestCase):
    def test_batches_are_equal_to_the_last_bit(self):
        write_shapes(self.folder / "coco", train=12, val=4, image_size=64)
        expected = self.batches("coco")
        for name in ("yolo", "voc"):
            out = self.folder / name
            self.assertEqual(self.run_kyolo("convert", self.folder / "coco", "--to", name, "--output", out)[0], 0)
            for one, other in zip(expected, self.batches(name), strict=True):
                np.testing.assert_equal(other, one, err_msg=name)

    def batches(self, name):
        """All of two epochs, with mosaic in the first only, of the set in a format."""
        stream = endless(
            self.folder / name, image_size=64, batch_size=4, epochs=2, augment=Augmentation(mosaic=1.0, close_mosaic=1)
        )
        return list(stream.take(2 * stream.steps_per_epoch).as_numpy_iterator())


if __name__ == "__main__":
    absltest.main()
