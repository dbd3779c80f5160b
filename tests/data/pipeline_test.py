import dataclasses
import os
import pathlib

import numpy as np
import pytest
import tensorflow as tf
from absl.testing import parameterized
from PIL import Image

from kyolo.data import Augmentation, ImageStore, ReadOptions, load_index, make_dataset
from kyolo.data.transforms import GREY
from tests.data.sets import annotation, write_set
from tests.data.streams import endless

STILL = Augmentation(
    mosaic=0.0, translate=0.0, scale=0.0, hue=0.0, saturation=0.0, value=0.0, flip_horizontal=0.0, flip_vertical=0.0
)
COUNT = 7  # Images of the set.


def batches(dataset, count):
    return [
        (images.numpy(), {key: value.numpy() for key, value in truth.items()}) for images, truth in dataset.take(count)
    ]


class PipelineTest(tf.test.TestCase, parameterized.TestCase):
    def setUp(self):
        super().setUp()
        self.folder = pathlib.Path(self.get_temp_dir())
        self.images = [(f"{number}.png", 40 + number, 30) for number in range(COUNT)]
        # Image i (from 1) has i boxes, of class i % 2.
        self.annotations = [
            annotation([4 * n, 5, 8, 10 + i], image_id=i, category_id=i % 2 + 1)
            for i in range(1, COUNT + 1)
            for n in range(i)
        ]
        categories = [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}]
        for split in ("train", "val"):
            write_set(self.folder, self.annotations, images=self.images, categories=categories, split=split)

    def make(self, split="train", **options):
        options = {"image_size": 32, "batch_size": 3, **options}
        return endless(self.folder, **options) if split == "train" else make_dataset(self.folder, split, **options)

    def assert_same(self, left, right):
        for (images, truth), (other_images, other_truth) in zip(left, right, strict=True):
            self.assertAllEqual(images, other_images)
            self.assertAllEqual(sorted(truth), sorted(other_truth))
            for key, value in truth.items():
                self.assertAllEqual(value, other_truth[key])

    @parameterized.parameters("train", "val")
    def test_no_thread_tunes_the_pipeline(self, split):
        """The end of an iterator would wait until such a thread wakes up: 57 s and 66 s were measured."""
        self.assertFalse(self.make(split).options().autotune.enabled)

    def test_batch(self):
        dataset = self.make()
        self.assertEqual(dataset.steps_per_epoch, 3)  # ceil(7 / 3)
        self.assertLen(dataset.index.records, COUNT)
        self.assertEqual(dataset.cardinality(), tf.data.INFINITE_CARDINALITY)
        spec, truth = dataset.element_spec
        self.assertEqual((spec.shape, spec.dtype), ((3, 32, 32, 3), tf.uint8))
        shapes = {key: (tuple(value.shape), value.dtype) for key, value in truth.items()}
        expected = {
            "boxes": ((3, None, 4), tf.float32),
            "labels": ((3, None), tf.int32),
            "mask": ((3, None), tf.bool),
            "image_id": ((3,), tf.int64),
            "letterbox": ((3, 4), tf.float32),
            "size": ((3, 2), tf.int32),
            "source_ids": ((3, 4), tf.int64),
        }
        self.assertEqual(shapes, expected)
        for _, truth in batches(dataset, 10):
            most = truth["mask"].sum(axis=1).max()  # A mosaic has up to 4 x 7 boxes.
            self.assertEqual(truth["boxes"].shape, (3, 16 if most <= 16 else 32, 4))
            self.assertAllInRange(truth["boxes"], 0, 32)
            self.assertAllEqual(truth["boxes"][~truth["mask"]], np.zeros(((~truth["mask"]).sum(), 4)))

    @parameterized.parameters("letterbox", "stretch")
    def test_val_is_in_order_whole_and_maps_back(self, fit):
        result = batches(self.make("val", fit=fit, image_size=(32, 48), augment=None), 99)
        self.assertEqual([len(images) for images, _ in result], [3, 3, 1])
        ids = np.concatenate([truth["image_id"] for _, truth in result])
        self.assertAllEqual(ids, np.arange(1, COUNT + 1))
        for _, truth in result:
            for row, image_id in enumerate(truth["image_id"]):
                boxes = truth["boxes"][row][truth["mask"][row]]
                scale, pad = np.tile(truth["letterbox"][row, :2], 2), np.tile(truth["letterbox"][row, 2:], 2)
                expected = [[4 * n, 5, min(4 * n + 8, 40 + image_id - 1), 15 + image_id] for n in range(image_id)]
                self.assertAllClose((boxes - pad) / scale, expected, atol=1e-4)
                self.assertAllEqual(truth["labels"][row][truth["mask"][row]], [image_id % 2] * image_id)
                self.assertAllEqual(truth["size"][row], [30, 40 + image_id - 1])

    def test_start_step_continues_bit_by_bit(self):
        augment = Augmentation(degrees=5.0, shear=2.0, mosaic=0.7, close_mosaic=2, multi_scale=0.5)
        options = {"epochs": 4, "augment": augment, "stride": 16, "repeat_threshold": 0.6}
        whole = batches(self.make(**options), 14)
        # Within an epoch of 3 steps (8 images), at its end, across the permutation's end, after the mosaics' end.
        for step in (1, 3, 8, 13):
            self.assert_same(batches(self.make(start_step=step, **options), 14 - step), whole[step:])

    def test_rare_classes_repeat(self):
        # Image i (from 1) has class i % 2: class 1 is in 4 of 7 images, class 0 in 3. With a threshold of 6/7 images 2,
        # 4 and 6 are shown sqrt(6 / 3) times, the others sqrt(6 / 4): 4.24 + 4.90, rounded up to 10 images.
        dataset = self.make(augment=None, batch_size=5, repeat_threshold=6 / 7)
        self.assertEqual((dataset.images_per_epoch, dataset.steps_per_epoch), (10, 2))
        epochs = np.reshape([truth["image_id"] for _, truth in batches(dataset, 40)], (20, 10))
        counts = np.stack([np.bincount(epoch, minlength=COUNT + 1)[1:] for epoch in epochs])
        self.assertAllInRange(counts, 1, 2)
        # 2^0.5 x 10 / 9.14 and 1.5^0.5 x 10 / 9.14; the mean of 60 numbers of 1 or 2 strays by 0.065.
        self.assertAllClose([counts[:, 1::2].mean(), counts[:, 0::2].mean()], [1.547, 1.340], atol=0.15)
        plain = self.make("val", augment=None, repeat_threshold=6 / 7)
        self.assertEqual(plain.images_per_epoch, COUNT)

    def test_source_ids_name_the_images_that_are_seen(self):
        for number in range(COUNT):  # image i (from 1) has the colour 119 + i
            Image.new("RGB", (40 + number, 30), (120 + number, 0, 0)).save(self.folder / f"train/{number}.png")
        augment = Augmentation(**{**vars(STILL), "mosaic": 0.5})
        complete, joined = [], []
        for images, truth in batches(self.make(augment=augment), 20):
            for image, ids, first in zip(images, truth["source_ids"], truth["image_id"], strict=True):
                self.assertEqual(ids[0], first)
                seen = {int(colour) - 119 for colour in np.unique(image[..., 0]) if colour != GREY}
                self.assertContainsSubset(seen, ids)
                complete.append(seen == set(ids))  # a tile may lie outside
                joined.append(len(set(ids)) > 1)
        self.assertGreater(np.mean(complete), 0.8)
        self.assertBetween(np.mean(joined), 0.3, 0.7)
        for _, truth in batches(self.make("val", augment=None), 2):
            self.assertAllEqual(truth["source_ids"], np.tile(truth["image_id"][:, None], 4))

    def test_every_batch_has_one_size(self):
        augment = Augmentation(multi_scale=0.5, close_mosaic=2)
        dataset = self.make(augment=augment, stride=16, epochs=5)
        self.assertEqual(dataset.element_spec[0].shape, (3, None, None, 3))
        sizes = [images.shape[1:3] for images, _ in batches(dataset, 15)]
        self.assertEqual(set(sizes[:9]), {(16, 16), (32, 32), (48, 48)})
        self.assertEqual(set(sizes[9:]), {(32, 32)})  # the last two of five epochs

    def test_equal_seeds_and_caches_give_equal_streams(self):
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("XDG_CACHE_HOME", str(self.folder / "cache"))
            streams = [batches(self.make(seed=5, cache=cache), 4) for cache in ("memory", None, "disk", "disk")]
        for stream in streams[1:]:
            self.assert_same(stream, streams[0])
        other = batches(self.make(seed=6), 4)
        self.assertNotAllEqual(other[0][0], streams[0][0][0])

    def test_every_pass_shows_every_image_once(self):
        result = batches(self.make(augment=None, batch_size=COUNT), 5)
        orders = [tuple(truth["image_id"]) for _, truth in result]
        for order in orders:
            self.assertAllEqual(sorted(order), np.arange(1, COUNT + 1))
        self.assertGreater(len(set(orders)), 1)
        for images, truth in result:
            self.assertAllEqual(truth["mask"].sum(axis=1), truth["image_id"])  # image i has i boxes
            self.assertEqual(images.dtype, np.uint8)

    def test_mosaic_stops_for_the_last_epochs(self):
        # Each image has a colour of its own; a mosaic that does not move shows several.
        for number in range(COUNT):
            Image.new("RGB", (40 + number, 30), (120 + number, 0, 0)).save(self.folder / f"train/{number}.png")
        augment = Augmentation(**{**vars(STILL), "mosaic": 1.0, "close_mosaic": 2})
        colours = [  # of each position: 9 an epoch
            len(set(np.unique(image[..., 0])) - {GREY})
            for images, _ in batches(self.make(epochs=5, augment=augment), 15)
            for image in images
        ]
        self.assertAllEqual(colours[27:], [1] * 18)  # The last two of five epochs; each colour is 120 or more.
        # Without mosaic there is one colour; all four tiles show the same image once in 7^3 times.
        self.assertGreater(np.mean(np.array(colours[:27]) > 1), 0.8)

    @parameterized.parameters((0.0, 220), (0.5, 210))
    def test_augmented_boxes_lie_on_their_figures(self, multi_scale, white):
        # One white rectangle an image, before the grey that pads; no two of them touch. A pixel of the source becomes
        # up to 96 / 40 x 1.5 = 3.6 px, over which an edge fades: 1 px inside, 0.5 + 1 / 3.6 of the step from 114 to 255
        # are reached, 223. In a batch of 128 px it becomes up to 4.8 px: 213.
        boxes = [annotation([9, 8, 21, 15], image_id=image_id) for image_id in range(1, COUNT + 1)]
        write_set(self.folder, boxes, images=self.images)
        for number in range(COUNT):
            pixels = np.full((30, 40 + number, 3), GREY, np.uint8)
            pixels[8:23, 9:30] = 255
            Image.fromarray(pixels).save(self.folder / f"train/{number}.png")
        augment = Augmentation(**{**vars(STILL), "mosaic": 0.7, "scale": 0.5, "translate": 0.2, "flip_vertical": 0.5})
        augment = dataclasses.replace(augment, multi_scale=multi_scale)
        elsewhere = []
        for images, truth in batches(self.make(image_size=96, augment=augment), 12):
            for image, boxes, mask in zip(images[..., 0], truth["boxes"], truth["mask"], strict=True):
                free = np.ones(image.shape, bool)
                for x1, y1, x2, y2 in boxes[mask]:
                    inner = image[int(np.ceil(y1 + 1)) : int(y2 - 1), int(np.ceil(x1 + 1)) : int(x2 - 1)]
                    self.assertGreater(inner.min(initial=255), white)
                    free[max(int(y1) - 1, 0) : int(y2) + 2, max(int(x1) - 1, 0) : int(x2) + 2] = False
                elsewhere.append(np.mean(image[free] > GREY + 20))
        # White outside all boxes is what was dropped: at most a tenth of a figure that the border cuts.
        self.assertLess(np.mean(elsewhere), 0.002)

    def test_boxes_are_padded_to_buckets(self):
        for count, padded in ((16, 16), (17, 32), (33, 64)):
            boxes = [annotation([1, 1, 2 + i / 8, 5]) for i in range(count)]
            write_set(self.folder, boxes, images=self.images[:1])
            ((_, truth),) = batches(self.make(augment=None, batch_size=1), 1)
            self.assertEqual(truth["mask"].shape, (1, padded))
            self.assertEqual(truth["mask"].sum(), count)

    def test_the_centre_of_a_mosaic_does_not_follow_its_images(self):
        """The centre comes from draws of its own: it is not correlated with the partners, which are drawn too."""
        count = 120
        write_set(self.folder, [], images=[(f"{number:03}.png", 32, 32) for number in range(count)])
        for number in range(count):  # image `id` is filled with the red value `id`
            Image.new("RGB", (32, 32), (number + 1, 0, 0)).save(self.folder / f"train/{number:03}.png")
        augment = dataclasses.replace(STILL, mosaic=1.0, close_mosaic=0)
        centres, partners = [], []
        for images, truth in batches(self.make(augment=augment, batch_size=10), count // 10):
            for image, tiles in zip(images[..., 0], truth["source_ids"], strict=True):
                # The output is the middle 32 x 32 of the 64 x 64 canvas: the first tile fills it up to the centre.
                if image[0, 0] == tiles[0] and len(set(tiles)) == 4:
                    centres.append([(image[0] == tiles[0]).sum(), (image[:, 0] == tiles[0]).sum()])
                    partners.append(tiles[1:])
        self.assertGreater(len(centres), 90)
        self.assertGreater(np.std(centres), 5)  # uniform over 32 pixels: 9.2
        correlation = np.corrcoef(np.transpose(centres), np.transpose(partners))[:2, 2:]
        self.assertAllInRange(correlation, -0.35, 0.35)  # 3.3 standard deviations of 90 independent pairs

    def test_images_without_any_box(self):
        write_set(self.folder, [], images=self.images)
        for images, truth in batches(self.make(), 4):
            self.assertEqual(images.shape, (3, 32, 32, 3))
            self.assertEqual(truth["boxes"].shape, (3, 16, 4))
            self.assertFalse(truth["mask"].any())

    def test_one_image(self):
        write_set(self.folder, self.annotations[:1], images=self.images[:1])
        ((images, truth),) = batches(self.make(), 1)
        self.assertEqual(images.shape, (3, 32, 32, 3))
        self.assertAllEqual(truth["image_id"], [1, 1, 1])

    def test_index_and_store_are_reused(self):
        store = ImageStore((32, 32))
        index = load_index(self.folder, "train", store=store)
        expected = batches(self.make(), 2)
        for record in index.records:
            os.unlink(record.path)  # Nothing is decoded again.
        dataset = endless(index, image_size=32, batch_size=3, cache=store)
        self.assertIs(dataset.index, index)
        self.assert_same(batches(dataset, 2), expected)
        with self.assertRaisesRegex(ValueError, "store"):
            make_dataset(index, "train", image_size=64, cache=store)


class RealSetsTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.parameters(("train", 205, 2804, 3), ("val", 87, 1137, 3))
    def test_bccd(self, split, images, boxes, classes):
        folder = os.environ.get("KYOLO_DATA", "../shared/data")
        if not os.path.isdir(f"{folder}/bccd"):
            self.skipTest("no bccd under $KYOLO_DATA")
        report = load_index(
            f"{folder}/bccd", split, ReadOptions(strict=True)
        ).problems  # The numbers are the set's README's.
        self.assertEqual((report.images, report.boxes, len(report.boxes_per_class)), (images, boxes, classes))


if __name__ == "__main__":
    tf.test.main()
