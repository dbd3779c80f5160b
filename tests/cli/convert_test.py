"""kyolo convert, and what training makes of the same images in every format."""

import json

import numpy as np
import pytest
from absl.testing import absltest

from kyolo.data.shapes import write_shapes
from tests.data.sets import write_set
from tests.test_case import ROOT, TestCase


class ConvertTest(TestCase):
    def test_writes_and_reports(self):
        write_set(self.folder / "set", [{"image_id": 1, "category_id": 1, "bbox": [1, 1, 0, 3]}])
        code, stdout, stderr = self.run_kyolo(
            "convert", self.folder / "set", "--to", "yolo", "--output", self.folder / "out", "--json"
        )
        self.assertEqual(code, 0, stderr)
        document = json.loads(stdout)
        self.assertEqual((document["format"], document["train"]["images"]), ("yolo", 1))
        self.assertIn("box without area", stderr)
        self.assertTrue((self.folder / "out/images/train/a.png").is_file())

    def test_bad_input(self):
        write_set(self.folder / "set", [{"image_id": 1, "category_id": 1, "bbox": [1, 1, 0, 3]}])
        out = ("--to", "voc", "--output", self.folder / "out")
        self.assert_bad_input(["convert", self.folder / "nowhere", *out], "nowhere", "expected a folder")
        self.assert_bad_input(["convert", self.folder / "set", *out, "--format", "voc"], "Pascal VOC", "found")
        self.assert_bad_input(["convert", self.folder / "set", *out, "--strict"], "box without area")
        self.assert_bad_input(
            ["convert", self.folder / "set", *out, "--val-fraction", "1.5"], "data.val_fraction", "1.5"
        )
        self.assert_bad_input(["convert", self.folder / "set", *out, "--shards", "2"], "tfrecord", "2 of voc")
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


@pytest.mark.slow
class FormatsTrainAlikeTest(TestCase):
    def test_weights_are_equal_to_the_last_bit(self):
        write_shapes(self.folder / "coco", train=12, val=4, image_size=64)
        for name in ("yolo", "voc"):
            out = self.folder / name
            self.assertEqual(self.run_kyolo("convert", self.folder / "coco", "--to", name, "--output", out)[0], 0)
        weights = {name: self.train(name) for name in ("coco", "yolo", "voc")}
        for name in ("yolo", "voc"):
            self.assertEqual(weights[name].keys(), weights["coco"].keys())
            for key, array in weights["coco"].items():
                np.testing.assert_array_equal(weights[name][key], array, err_msg=key)

    def train(self, name):
        settings = ("train.epochs=1", "train.schedule.warmup_epochs=0", "train.batch_size=4", "train.tensorboard=false")
        settings += ("model.levels=[P4, P5]",)
        code, _, stderr = self.run_kyolo(
            *("train", "--config", ROOT / "configs/quickstart.yaml", "--data", self.folder / name),
            *("--output", self.folder / f"run_{name}", "--set", "data.image_size=64", "--set", "augment.mosaic=1.0"),
            *(part for setting in settings for part in ("--set", setting)),
        )
        self.assertEqual(code, 0, stderr)
        with np.load(self.folder / f"run_{name}/weights/last.npz") as file:
            return {key: file[key] for key in file.files if key != "state"}


if __name__ == "__main__":
    absltest.main()
