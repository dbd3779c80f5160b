import json
import os
import pathlib
import shutil
import tempfile
from unittest import mock

import numpy as np
import pytest
import tensorflow as tf
from absl.testing import parameterized
from PIL import Image

from kyolo.data import (
    Augmentation,
    ReadOptions,
    ShardedIndex,
    Share,
    convert,
    input_errors,
    load_index,
    make_dataset,
    shards,
    stream,
)
from kyolo.data.transforms import GREY
from kyolo.errors import InputError
from tests.data.sets import annotation, write_set
from tests.data.streams import endless

COUNT = 11  # Images of the set.
SHARDS = 3
STILL = Augmentation(translate=0.0, scale=0.0, hue=0.0, saturation=0.0, value=0.0, flip_horizontal=0.0)


def colour(image_id):
    return 120 + 10 * image_id


def write_source(folder):
    """Image i (from 1) is of one colour and has i boxes; the first has a crowd too. One name lies in a folder."""
    images = [(f"{number}.png", 40 + number, 30) for number in range(COUNT)]
    images[3] = ("images/3.png", 43, 30)
    boxes = [
        annotation([4 * n + 0.1, 5, 8, 10 + i / 3], image_id=i, category_id=7 * (i % 2 + 1), area=1 / 7)
        for i in range(1, COUNT + 1)
        for n in range(i)
    ]
    categories = [{"id": 7, "name": "a"}, {"id": 14, "name": "b"}]
    for split in ("train", "val"):
        (folder / split / "images").mkdir(parents=True)
        crowd = annotation([1, 1, 9, 9], category_id=7, iscrowd=1)
        write_set(folder, [*boxes, crowd], images=images, categories=categories, split=split)
        for image_id, (name, width, height) in enumerate(images, 1):
            Image.new("RGB", (width, height), (colour(image_id), 0, 0)).save(folder / split / name)


def batches(dataset, count=99):
    return [
        (images.numpy(), {key: value.numpy() for key, value in truth.items()}) for images, truth in dataset.take(count)
    ]


class TFRecordTest(tf.test.TestCase, parameterized.TestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.place = pathlib.Path(cls.enterClassContext(tempfile.TemporaryDirectory()))
        write_source(cls.place / "set")
        convert(cls.place / "set", cls.place / "records", "tfrecord", shards=SHARDS)

    def setUp(self):
        super().setUp()
        self.records = self.place / "records"
        # Windows of 4 records: a pass has three, the last of 3.
        self.enterContext(mock.patch.object(stream, "MAX_WINDOW", 4))

    def make(self, split="train", source=None, **options):
        options = {"image_size": 32, "batch_size": 4, **options}
        source = source or self.records
        return endless(source, **options) if split == "train" else make_dataset(source, split, **options)

    def copy(self):
        """Files of this test's own."""
        self.records = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory())) / "records"
        shutil.copytree(self.place / "records", self.records)

    def assert_same(self, left, right):
        for (images, truth), (other_images, other_truth) in zip(left, right, strict=True):
            self.assertAllEqual(images, other_images)
            self.assertAllEqual(sorted(truth), sorted(other_truth))
            for key, value in truth.items():
                self.assertAllEqual(value, other_truth[key], msg=key)


class ConvertTest(TFRecordTest):
    def test_files(self):
        names = [f"{split}-0000{number}-of-00003.tfrecord" for split in ("train", "val") for number in range(SHARDS)]
        self.assertEqual(sorted(os.listdir(self.records)), sorted([*names, "tfrecord.json"]))
        content = json.loads((self.records / "tfrecord.json").read_text())
        self.assertEqual(content["version"], 1)
        for split in ("train", "val"):
            entry = content["splits"][split]
            self.assertEqual([images for images, _ in entry["shards"]], [3, 4, 4])
            # 1 + 2 + ... + 11 = 66 boxes; images of even number have class a: 2 + 4 + ... + 10.
            self.assertEqual((entry["images"], entry["crowds"], entry["boxes_per_class"]), (11, 1, [30, 36]))

    def test_nothing_is_lost(self):
        for split in ("train", "val"):
            before, after = (load_index(self.place / name, split) for name in ("set", "records"))
            self.assertIsInstance(after, ShardedIndex)
            self.assertEqual((after.class_names, after.category_ids), (("a", "b"), (7, 14)))
            for key in ("images", "annotations", "categories"):
                expected = sorted(before.truth[key], key=lambda entry: entry["id"])
                self.assertEqual(sorted(after.truth[key], key=lambda entry: entry["id"]), expected)
            self.assertEqual(vars(after.problems), vars(before.problems))
            for one, other in zip(before.records, after.load().records, strict=True):
                self.assertEqual((one.image_id, one.height, one.width), (other.image_id, other.height, other.width))
                self.assertAllEqual(one.boxes, other.boxes)
                self.assertAllEqual(one.labels, other.labels)

    def test_what_training_asks_for(self):
        files, records = (load_index(self.place / name, "train") for name in ("set", "records"))
        for index in (files, records):
            self.assertEqual((index.num_images, index.most_boxes), (COUNT, COUNT))
            self.assertEqual(index.names([1, 4]), {1: "0.png", 4: "3.png"})
            self.assertStartsWith(index.fingerprint(), "11 images, 66 boxes, ")
        self.assertEqual(records.fingerprint(), load_index(self.records, "train").fingerprint())
        self.assertNotEqual(records.fingerprint(), load_index(self.records, "val").fingerprint())

    def test_images(self):
        files, records = (load_index(self.place / name, "val").images() for name in ("set", "records"))
        for left, right in zip(files, records, strict=True):
            self.assertAllEqual(left, right)

    def test_files_of_records_again(self):
        convert(self.records, self.copy_of("fewer"), "tfrecord", shards=2)
        before, after = (load_index(folder, "train") for folder in (self.records, self.copy_of("fewer")))
        self.assertEqual([shard.images for shard in after.shards], [5, 6])
        self.assertEqual(after.truth, before.truth)
        self.assertNotEqual(after.fingerprint(), before.fingerprint())  # for they are read in another order
        self.assertEqual(
            [example.content for example in after.examples()], [example.content for example in before.examples()]
        )

    def copy_of(self, name):
        return pathlib.Path(self.get_temp_dir()) / name

    def test_no_more_files_than_images_and_one_by_default(self):
        for count, expected in ((20, COUNT), (None, 1)):
            convert(self.place / "set", self.copy_of(f"set{count}"), "tfrecord", shards=count)
            self.assertLen(load_index(self.copy_of(f"set{count}"), "train").shards, expected)

    def test_training_records_are_in_a_random_order(self):
        ids = {
            split: [example.image_id for example in load_index(self.records, split).examples()]
            for split in ("train", "val")
        }
        by_name = [record.image_id for record in load_index(self.place / "set", "val").records]
        self.assertEqual(ids["val"], by_name)
        self.assertNotEqual(ids["train"], by_name)
        self.assertCountEqual(ids["train"], by_name)

    def test_interrupted(self):
        out = self.copy_of("out")
        with (
            mock.patch.object(shards, "serialize_example", side_effect=KeyboardInterrupt),
            self.assertRaises(KeyboardInterrupt),
        ):
            convert(self.place / "set", out, "tfrecord")
        self.assertFalse(out.exists())

    def test_classes_that_differ_are_joined_by_name(self):
        source = self.copy_of("set")
        shutil.copytree(self.place / "set", source)
        file = source / "annotations/instances_val.json"
        file.write_text(file.read_text().replace('"name": "b"', '"name": "c"'))
        convert(source, self.copy_of("out"), "tfrecord")
        counts = {
            split: dict(load_index(self.copy_of("out"), split).problems.boxes_per_class) for split in ("train", "val")
        }
        self.assertEqual(counts, {"train": {"a": 30, "b": 36, "c": 0}, "val": {"a": 30, "b": 0, "c": 36}})


class StreamTest(TFRecordTest):
    @parameterized.parameters("letterbox", "stretch")
    def test_val_equals_that_of_the_files(self, fit):
        options = {"fit": fit, "image_size": (32, 48)}
        self.assert_same(
            batches(self.make("val", **options)), batches(self.make("val", source=self.place / "set", **options))
        )

    def test_batches_are_those_of_the_files_but_for_the_order(self):
        streams = [self.make(source=self.place / name, augment=None) for name in ("records", "set")]
        self.assertEqual(streams[0].element_spec, streams[1].element_spec)
        self.assertEqual(streams[0].steps_per_epoch, streams[1].steps_per_epoch)
        self.assertEqual(streams[0].cardinality(), tf.data.INFINITE_CARDINALITY)
        samples = [{}, {}]
        for found, dataset in zip(samples, streams, strict=True):
            for images, truth in batches(dataset, 3):
                for row, image_id in enumerate(truth["image_id"]):
                    mask = truth["mask"][row]
                    found[image_id] = (images[row], truth["boxes"][row][mask], truth["labels"][row][mask])
        for image_id in samples[0]:
            for left, right in zip(samples[0][image_id], samples[1][image_id], strict=True):
                self.assertAllEqual(left, right)

    def test_every_pass_shows_every_image_once(self):
        orders = [tuple(truth["image_id"]) for _, truth in batches(self.make(batch_size=COUNT), 5)]
        for order in orders:
            self.assertAllEqual(sorted(order), np.arange(1, COUNT + 1))
        self.assertLen(set(orders), 5)

    @pytest.mark.slow
    def test_start_step_continues_bit_by_bit(self):
        augment = Augmentation(degrees=5.0, mosaic=0.7, multi_scale=0.5, close_mosaic=1)
        whole = batches(self.make(epochs=4, augment=augment, stride=8), 11)
        for step in (2, 9):  # In the last window of the first pass; in the fourth pass, after the mosaics' end.
            again = self.make(epochs=4, augment=augment, stride=8, start_step=step)
            self.assert_same(batches(again, 11 - step), whole[step:])

    def test_the_order_is_a_function_of_seed_and_position(self):
        streams = []
        for number, options in enumerate(({"seed": 5}, {"seed": 5, "start_step": 2}, {"seed": 6})):
            tf.random.set_seed(number)  # which must not count
            streams.append(batches(self.make(augment=None, **options), 4))
        self.assert_same(streams[0][2:], streams[1][:2])
        self.assertNotAllEqual(streams[0][0][1]["image_id"], streams[2][0][1]["image_id"])

    @pytest.mark.slow
    def test_workers_part_the_batches(self):
        index = load_index(self.records, "train")

        def samples(share, start_step=0):
            def ids(images, number, position):
                return position, images.ids(images.join(number, None))

            dataset = stream.train_stream(
                index, (32, 32), "letterbox", ids, batch_size=4, seed=0, start_step=start_step, share=share
            )
            return [(int(position), np.array(found).tolist()) for position, found in dataset.take(16 // share.replicas)]

        whole = samples(Share())
        self.assertEqual([position for position, _ in whole], list(range(16)))
        parts = [samples(Share(replicas=2, first=number)) for number in range(2)]
        self.assertEqual([position for position, _ in parts[1]], [2, 3, 6, 7, 10, 11, 14, 15])
        self.assertEqual(sorted(parts[0] + parts[1]), whole)
        self.assertEqual(samples(Share(replicas=2, first=1), start_step=2)[:4], parts[1][4:])
        firsts = {position: found[0] for position, found in whole}
        for position, found in whole[:4]:  # A mosaic joins what stands at the same place of the next three batches.
            self.assertEqual(found, [firsts[position + 4 * batch] for batch in range(4)])

    def test_mosaics(self):
        # Each image has a colour of its own, and a mosaic that does not move shows the middle of four.
        augment = Augmentation(**{**vars(STILL), "close_mosaic": 2})
        shown = []
        for images, truth in batches(self.make(epochs=4, augment=augment, batch_size=3), 16):  # 4 steps an epoch
            for image, image_id, sources in zip(images, truth["image_id"], truth["source_ids"], strict=True):
                shown.append((image_id, sources.tolist(), set(np.unique(image[..., 0]).tolist()) - {GREY}))
        for position, (image_id, sources, colours) in enumerate(shown):
            if position < 2 * 12:
                self.assertEqual(sources, [shown[position + 3 * batch][0] for batch in range(4)])
                self.assertContainsSubset(colours, map(colour, sources))
            else:
                self.assertEqual((sources, colours), ([image_id] * 4, {colour(image_id)}))
        self.assertGreater(np.mean([len(colours) > 1 for *_, colours in shown[:24]]), 0.8)


class DamageTest(TFRecordTest):
    def setUp(self):
        super().setUp()
        self.copy()
        self.shard = self.records / "train-00001-of-00003.tfrecord"  # 4 records

    def assert_refused(self, *parts, split="train", options=None):
        with self.assertRaises(InputError) as caught:
            load_index(self.records, split, options)
        for part in parts:
            self.assertIn(str(part), str(caught.exception))
        self.assertNotIn("\n", str(caught.exception))

    def assert_stops(self, *parts, split="train"):
        """Reading goes well at first, and stops with one line."""
        index = load_index(self.records, split)
        with self.assertRaises(InputError) as caught, input_errors(index):
            batches(self.make(split, index, augment=None), 6)
        for part in parts:
            self.assertIn(str(part), str(caught.exception))

    def flip(self, position):
        content = bytearray(self.shard.read_bytes())
        content[position] ^= 1
        self.shard.write_bytes(content)

    def test_truncated(self):
        content = self.shard.read_bytes()
        self.shard.write_bytes(content[:-1])
        self.assert_refused(self.shard, f"expected {len(content):,} bytes", f"received {len(content) - 1:,}")

    def test_missing(self):
        self.shard.unlink()
        self.assert_refused(self.shard, "no such file")
        self.assertEqual(load_index(self.records, "val").num_images, COUNT)

    def test_first_record(self):
        self.flip(100)
        self.assert_refused(f"{self.shard}, record 0 of 4", "damaged")

    def test_later_record(self):
        self.flip(-100)
        self.assert_stops(f"{self.shard}, record 3 of 4", "damaged")
        for name in ("coco", "tfrecord"):
            with self.assertRaisesRegex(InputError, "record 3 of 4"):
                convert(self.records, self.records.parent / "out", name)

    def test_later_record_of_val(self):
        self.shard = self.records / "val-00002-of-00003.tfrecord"
        self.flip(-100)
        self.assert_stops(f"{self.shard}, record 3 of 4", "damaged", split="val")

    def test_file_that_goes_away(self):
        index = load_index(self.records, "train")
        self.shard.unlink()
        with self.assertRaisesRegex(InputError, "train-00001-of-00003.tfrecord: expected a file"), input_errors(index):
            batches(self.make("train", index, augment=None), 6)

    def test_fewer_records_than_counted(self):
        content = json.loads((self.records / "tfrecord.json").read_text())
        content["splits"]["train"]["shards"][1][0] += 1
        content["splits"]["train"]["images"] += 1
        (self.records / "tfrecord.json").write_text(json.dumps(content))
        self.assert_stops(f"{self.shard}, record 4 of 5", "received none")

    @parameterized.parameters(
        (lambda content: content.update(version=2), "version 1, received 2"),
        (lambda content: content.pop("version"), "version 1, received None"),
        (lambda content: content.update(categories=[]), "categories"),
        (lambda content: content["categories"][0].update(id=14), "different ids"),
        (lambda content: content["categories"][0].update(name="b"), "class names"),
        (lambda content: content.update(splits={"other": {}}), "splits out of train, val, test"),
        (lambda content: content["splits"]["train"].update(images=12), "split 'train'"),
        (lambda content: content["splits"]["train"].update(crowds=-1), "split 'train'"),
        (lambda content: content["splits"]["train"].update(boxes_per_class=[1]), "split 'train'"),
        (lambda content: content["splits"]["train"].update(sha1="0"), "split 'train'"),
        (lambda content: content["splits"]["train"].pop("most_boxes"), "split 'train'"),
        (lambda content: content["splits"]["train"].update(shards=[[11, 0]]), "split 'train'"),
        (lambda content: content["splits"]["train"].update(shards=[11]), "split 'train'"),
        (lambda content: content["splits"]["train"].update(shards=[]), "split 'train'"),
    )
    def test_index_file(self, change, text):
        file = self.records / "tfrecord.json"
        content = json.loads(file.read_text())
        change(content)
        file.write_text(json.dumps(content))
        self.assert_refused(file, text)

    def test_index_file_that_is_no_json(self):
        file = self.records / "tfrecord.json"
        for text in ("", "[]", "{", '{"version": 1}'):
            file.write_text(text)
            self.assert_refused(file)

    def test_repeat_sampling(self):
        with self.assertRaisesRegex(ValueError, "repeat_threshold: expected None with TFRecords"):
            self.make(repeat_threshold=0.5)

    def test_fractions(self):
        for split, options in (("train", {"dev_fraction": 0.2}), ("dev", {"dev_fraction": 0.2})):
            self.assert_refused("no fraction", "kyolo convert", split=split, options=ReadOptions(**options))
        self.assertEqual(load_index(self.records, "val", ReadOptions(dev_fraction=0.2)).num_images, COUNT)
        self.assert_refused("no val_fraction", split="val", options=ReadOptions(val_fraction=0.2))


if __name__ == "__main__":
    tf.test.main()
