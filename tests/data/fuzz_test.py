"""Whatever stands in the files of a data set, reading it gives a sound index or one clear error."""

import contextlib
import io
import json
import logging
import time
import unicodedata

import numpy as np
import pytest
import tensorflow as tf
from absl.testing import absltest
from PIL import Image

from kyolo.data import ReadOptions, ShardedIndex, convert, load_index, read_image
from kyolo.data.example import parse_example
from kyolo.data.images import read_image_size
from kyolo.errors import InputError
from kyolo.evaluation.coco import coco_metrics
from tests.data import mutations
from tests.data.sets import annotation, voc_xml, write_images, write_set, write_yolo
from tests.test_case import TestCase

MAX_SECONDS = 5.0  # of CPU time: other programs may hold the machine
IMAGES = [("a.png", 40, 20), ("b.png", 20, 30)]
NO_LINE = ("Cc", "Cs", "Zl", "Zp")  # Unicode: control characters, lone surrogates, line breaks.


class QuickFuzzTest(TestCase):
    """A few examples of every format."""

    examples = 25

    def setUp(self):
        super().setUp()
        self.slowest = self.indices = 0

    def fuzz(self, check, *strategies):
        start = time.perf_counter()
        mutations.run(check, *strategies, examples=self.examples)
        seconds = time.perf_counter() - start
        counts = f"{self.examples} examples, {self.indices} sets read"
        logging.info("%s: %s, %.1f s, slowest %.3f s", self.id(), counts, seconds, self.slowest)
        self.assertGreater(self.indices, 0, "nothing but errors: the examples are too wild to test much")

    def check(self, **options):
        """Reads the set and checks what comes back."""
        stdout, start = io.StringIO(), time.process_time()
        with contextlib.redirect_stdout(stdout):
            try:
                index = load_index(self.folder, "train", ReadOptions(**options))
                index = index.load() if isinstance(index, ShardedIndex) else index
            except InputError as error:
                index = None
                self.assert_line(str(error))
                self.assertIn(str(self.folder), str(error))
        seconds = time.process_time() - start
        self.slowest = max(self.slowest, seconds)
        self.assertLess(seconds, MAX_SECONDS)
        self.assertEqual(stdout.getvalue(), "")
        if index is not None:
            self.indices += 1
            self.check_index(index)

    def check_index(self, index):
        for record in index.records:
            x1, y1, x2, y2 = record.boxes.T
            self.assertEqual((record.boxes.dtype, record.labels.dtype), (np.float32, np.int32))
            self.assertTrue(np.isfinite(record.boxes).all())
            self.assertTrue(((x1 >= 0) & (x1 < x2) & (x2 <= record.width)).all(), record.boxes)
            self.assertTrue(((y1 >= 0) & (y1 < y2) & (y2 <= record.height)).all(), record.boxes)
            self.assertTrue(((record.labels >= 0) & (record.labels < len(index.class_names))).all())
            self.assertLess(abs(record.image_id), 2**63)
        self.assertLen(set(index.class_names), len(index.class_names))
        for text in (*index.class_names, *index.problems.table().splitlines()):
            self.assert_line(text)
        report, problems = index.problems, index.problems.to_dict()
        kinds = len(report.problems) + len(report.notes) + (2 * report.boxes < report.boxes_in_files)
        self.assertLen(report.table().split("\n"), 3 + len(index.class_names) + kinds)
        self.assertTrue(report.boxes or not report.boxes_in_files)
        for kind, found in [*problems["problems"].items(), *problems["notes"].items()]:
            for text in (kind, *found["names"]):
                self.assert_line(text)
        json.dumps(problems, allow_nan=False)
        json.dumps(index.truth, allow_nan=False)
        self.assertIn(coco_metrics(index.truth, [])["ap"], (None, 0.0))

    def assert_line(self, text):
        """Text that stands on one line and that every stream takes."""
        self.assertIsInstance(text, str)
        self.assertEmpty(
            [character for character in text if unicodedata.category(character) in NO_LINE], f"{text!r:.300}"
        )

    def test_coco_json(self):
        write_set(self.folder, [], images=IMAGES)
        file = self.folder / "annotations/instances_train.json"

        def check(content):
            file.write_bytes(content)
            self.check()

        self.fuzz(check, mutations.damaged(mutations.coco_texts()))

    def test_yolo_labels(self):
        write_yolo(self.folder, {"b": ""}, images=IMAGES, names=("cell", "wall"))

        def check(content):
            (self.folder / "train/labels/a.txt").write_bytes(content)
            self.check()

        self.fuzz(check, mutations.damaged(mutations.yolo_texts()))

    def test_data_yaml(self):
        write_yolo(self.folder, {"a": "0 0.5 0.5 0.5 0.5\n1 0.5 0.5 0.2 0.2\n"}, images=IMAGES)

        def check(yaml, names):
            (self.folder / "list.txt").write_bytes(names)
            (self.folder / "data.yaml").write_bytes(yaml)
            self.check()
            self.check(allow_outside=True)

        self.fuzz(check, mutations.damaged(mutations.yaml_texts()), mutations.damaged(mutations.lists()))

    def test_image_lists(self):
        write_yolo(self.folder, {"a": "0 0.5 0.5 0.5 0.5\n1 0.5 0.5 0.2 0.2\n"}, images=IMAGES)
        (self.folder / "data.yaml").write_text("train: list.txt\nnames: [cell, wall]\n")

        def check(names):
            (self.folder / "list.txt").write_bytes(names)
            self.check()
            self.check(allow_outside=True)

        self.fuzz(check, mutations.damaged(mutations.lists()))

    def test_voc_xml(self):
        write_images(self.folder / "train", IMAGES)
        (self.folder / "train/b.xml").write_text(voc_xml([], 20, 30))

        def check(content):
            (self.folder / "train/a.xml").write_bytes(content)
            self.check()

        self.fuzz(check, mutations.damaged(mutations.voc_texts()))

    def test_lists_of_voc(self):
        write_images(self.folder / "JPEGImages", IMAGES)
        (self.folder / "Annotations").mkdir()
        (self.folder / "ImageSets/Main").mkdir(parents=True)
        for name, width, height in IMAGES:
            xml = voc_xml([("cell", 1, 1, 5, 5), ("wall", 1, 1, 6, 6)], width, height)
            (self.folder / f"Annotations/{name[0]}.xml").write_text(xml)

        def check(images, names):
            (self.folder / "ImageSets/Main/train.txt").write_bytes(images)
            (self.folder / "labels.txt").write_bytes(names)
            self.check()

        self.fuzz(check, *[mutations.damaged(mutations.lists())] * 2)

    def test_tfrecords(self):
        boxes = [annotation([1, 2, 8.5, 9]), annotation([0, 0, 4, 4], image_id=2), annotation([1, 1, 3, 3], iscrowd=1)]
        write_set(self.folder / "set", boxes, images=IMAGES)
        self.folder /= "records"
        convert(self.folder.parent / "set", self.folder, "tfrecord")
        file = self.folder / "tfrecord.json"
        text = file.read_bytes()
        records = [record.numpy() for record in tf.data.TFRecordDataset(str(next(self.folder.glob("*.tfrecord"))))]

        def check(damage):
            file.write_bytes(damage(text))
            self.check()
            for record in records:
                self.check_record(damage(record))

        self.fuzz(check, mutations.damages())

    def check_record(self, content):
        try:
            example = parse_example(content, "a.tfrecord, record 0 of 1", num_classes=1)
        except InputError as error:
            self.assert_line(str(error))
            self.assertIn("record 0", str(error))
            return
        self.indices += 1
        x1, y1, x2, y2 = example.record.boxes.T
        self.assertTrue(((x1 >= 0) & (x1 < x2) & (x2 <= example.image["width"])).all())
        self.assertTrue(((y1 >= 0) & (y1 < y2) & (y2 <= example.image["height"])).all())
        self.assertLessEqual(set(example.record.labels.tolist()), {0})
        json.dumps(example.annotations([1]), allow_nan=False)

    def test_images(self):
        pixels = Image.fromarray(np.random.default_rng(0).integers(0, 255, (24, 36, 3), np.uint8))
        exif = Image.Exif()
        exif[0x0112] = 6  # height and width are swapped

        def check(damage):
            for kind in ("jpg", "png", "webp", "bmp", "gif"):
                file = self.folder / f"a.{kind}"
                pixels.save(file, exif=damage(exif.tobytes()))  # BMP and GIF have none
                self.check_image(file)
                pixels.save(file, exif=exif)
                file.write_bytes(damage(file.read_bytes()))
                self.check_image(file)

        self.fuzz(check, mutations.damages())

    def check_image(self, file):
        start = time.perf_counter()
        try:
            image = read_image(file)
        except InputError as error:
            self.assert_line(str(error))
            self.assertIn(file.name, str(error))
        else:
            self.indices += 1
            self.assertEqual(image.dtype, np.uint8)
            self.assertEqual(image.shape, (*read_image_size(file), 3))
            self.assertGreater(image.size, 0)
        self.slowest = max(self.slowest, time.perf_counter() - start)


@pytest.mark.slow
class FuzzTest(QuickFuzzTest):
    """Many examples of every format."""

    examples = 500


if __name__ == "__main__":
    absltest.main()
