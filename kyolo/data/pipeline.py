"""The tf.data pipeline: from an index to batches. Every random choice is a function of (seed, position)."""

import math
import os
from functools import partial

import numpy as np
import tensorflow as tf

from kyolo.data.images import ImageStore
from kyolo.data.index import DatasetIndex
from kyolo.data.load import load_index
from kyolo.data.transforms import (
    Augmentation,
    augment_image,
    letterbox_parameters,
    mosaic,
    pad_image,
)

FIRST_BUCKET = 16  # Padded number of boxes: 16, 32, 64, ...


def make_dataset(  # noqa: PLR0913 (the one place where data set, network size and recipe meet)
    source: str | os.PathLike | DatasetIndex,
    split: str = "train",
    *,
    image_size: int | tuple[int, int] = 640,
    batch_size: int = 16,
    fit: str = "letterbox",
    augment: Augmentation | None = Augmentation(),  # noqa: B008 (frozen)
    seed: int = 0,
    epochs: int = 100,
    cache: str | ImageStore | None = "memory",
    start_step: int = 0,
) -> tf.data.Dataset:
    """Batches for training or evaluation.

    The train stream is endless, shuffled, augmented, and its batches are full: position p holds image p % N of the
    permutation of pass p // N, and everything random in it is a stateless function of (seed, p). An interrupted
    training goes on bit by bit with `start_step`. Other splits are finite, in order and not augmented; their last batch
    may be smaller.

    Args:
        source: folder of a data set (see `load_index`), or an index.
        split: "train" for the train stream; "val" or "dev".
        image_size: network input, pixels: one number or (H, W). Default 640.
        batch_size: images a batch. Default 16.
        fit: "letterbox" keeps the aspect and pads grey, "stretch" does not.
        augment: strengths of the augmentation, by default the YOLOv8 recipe's; None for none. Train only.
        seed: of shuffling and augmentation.
        epochs: length of the training, for `augment.close_mosaic`. An epoch has ceil(N / batch_size) steps.
        cache: "memory", "disk" or None (decode each time); or a store that `load_index` has filled already.
        start_step: number of batches to leave out at the beginning of the train stream.

    Returns:
        A dataset with the attributes `index` and `steps_per_epoch`, of (images, truth): images (B, H, W, 3) uint8 RGB;
        truth["boxes"] (B, G, 4) float32 xyxy pixels of the images, truth["labels"] (B, G) int32, truth["mask"] (B, G)
        bool, True for real boxes; truth["image_id"] (B,) int64, truth["letterbox"] (B, 4) float32 scale_x, scale_y,
        pad_x, pad_y with x_network = x_original * scale_x + pad_x, truth["size"] (B, 2) int32 original height and width
        (the last three are those of the first image where augmentation moved or joined images). G is the smallest of
        16, 32, 64, ... that holds the batch's largest number of boxes.

    Raises:
        InputError: see `load_index`.

    Example:
        ```python
        train = make_dataset("path/to/set", "train", image_size=320)
        detector.fit(train, steps_per_epoch=train.steps_per_epoch, epochs=100)
        ```
    """
    image_size = (image_size, image_size) if isinstance(image_size, int) else tuple(image_size)
    store = cache if isinstance(cache, ImageStore) else ImageStore(image_size, fit=fit, cache=cache)
    if (store.image_size, store.fit) != (image_size, fit):
        raise ValueError(f"Wrong store: expected {(image_size, fit)}, received {(store.image_size, store.fit)}")
    index = source if isinstance(source, DatasetIndex) else load_index(source, split, store=store)
    samples = _Samples(index, store)
    steps_per_epoch = math.ceil(len(index.records) / batch_size)
    if split == "train":
        mosaic_end = max(epochs - (augment.close_mosaic if augment else 0), 0) * steps_per_epoch * batch_size
        dataset = tf.data.Dataset.range(start_step * batch_size, np.iinfo(np.int64).max)
        make_sample = partial(_train_sample, samples, augment, seed, mosaic_end)
    else:
        dataset = tf.data.Dataset.range(len(index.records))
        make_sample = partial(_plain_sample, samples)
    make_sample = tf.autograph.experimental.do_not_convert(make_sample)  # It has no branches: half the tracing time.
    dataset = dataset.map(make_sample, num_parallel_calls=os.cpu_count(), deterministic=True)
    dataset = dataset.padded_batch(batch_size, drop_remainder=split == "train").map(_pad_to_bucket)
    if split == "train":
        dataset = dataset.apply(tf.data.experimental.assert_cardinality(tf.data.INFINITE_CARDINALITY))
    options = tf.data.Options()
    # Nothing is left to tune, and the thread that would do it sleeps for up to a minute: an iterator's end waits.
    options.autotune.enabled = False
    dataset = dataset.prefetch(2).with_options(options)
    dataset.index, dataset.steps_per_epoch = index, steps_per_epoch
    return dataset


class _Samples:
    """Images, boxes and labels by number, as tensors. Boxes are in pixels of the fitted images."""

    def __init__(self, index: DatasetIndex, store: ImageStore):
        records = index.records
        self.image_size = store.image_size
        self.count = len(records)
        sizes = np.array([(record.height, record.width) for record in records], np.int32)
        parameters = letterbox_parameters(sizes.T, store.image_size, store.fit)  # (N, 4)
        counts = [len(record.labels) for record in records]
        scales = np.repeat(np.tile(parameters[:, :2], 2), counts, axis=0)  # x, y, x, y of every box
        self._boxes = tf.constant(np.concatenate([record.boxes for record in records]) * scales)
        self._labels = tf.constant(np.concatenate([record.labels for record in records]))
        self._ends = tf.constant(np.concatenate([[0], np.cumsum(counts)]), tf.int64)
        self._about = {
            "image_id": tf.constant([record.image_id for record in records], tf.int64),
            "letterbox": parameters,
            "size": tf.constant(sizes),
        }
        self._fetch = lambda numbers: [store.get(records[number].path) for number in numbers]

    def images(self, numbers: tf.Tensor) -> list[tf.Tensor]:
        """(n,) int64 -> n fitted images, (h, w, 3) uint8."""
        images = tf.numpy_function(self._fetch, [numbers], [tf.uint8] * numbers.shape[0], stateful=False)
        return [tf.ensure_shape(image, (None, None, 3)) for image in images]

    def boxes(self, number: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Boxes (n, 4) float32 xyxy and labels (n,) int32 of an image."""
        rows = slice(self._ends[number], self._ends[number + 1])
        return self._boxes[rows], self._labels[rows]

    def truth(self, number: tf.Tensor, boxes: tf.Tensor, labels: tf.Tensor) -> dict[str, tf.Tensor]:
        """The second half of a batch element."""
        about = {key: values[number] for key, values in self._about.items()}
        return {"boxes": boxes, "labels": labels, "mask": tf.ones_like(labels, tf.bool), **about}

    def letterboxed(self, number: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """An image on the network's input size, with its boxes and labels."""
        (image,) = self.images(number[None])
        boxes, labels = self.boxes(number)
        return pad_image(image, self.image_size), boxes + tf.tile(self._about["letterbox"][number, 2:], [2]), labels


def _plain_sample(samples: _Samples, number: tf.Tensor):
    """An image without augmentation."""
    image, boxes, labels = samples.letterboxed(number)
    return image, samples.truth(number, boxes, labels)


def _train_sample(samples: _Samples, augment: Augmentation | None, seed: int, mosaic_end: int, position: tf.Tensor):
    """What stands at a position of the train stream."""
    count = samples.count
    shuffle_seed = tf.cast(tf.stack([seed, position // count]), tf.uint32)
    number = tf.random.experimental.index_shuffle(position % count, shuffle_seed, tf.constant(count - 1, tf.int64))
    if augment is None:
        return _plain_sample(samples, number)
    seeds = tf.random.split(tf.stack([tf.constant(seed, tf.int64), position]), 2)
    image, boxes, labels = _canvas(samples, augment, seeds[0], number, position < mosaic_end)
    image, boxes, labels = augment_image(image, boxes, labels, augment, seeds[1], samples.image_size)
    return image, samples.truth(number, boxes, labels)


def _canvas(samples: _Samples, augment: Augmentation, seed: tf.Tensor, number: tf.Tensor, mosaic_on: tf.Tensor):
    """The image to be warped, with boxes and labels: four joined images, or one letterboxed."""
    height, width = samples.image_size
    draws = tf.random.stateless_uniform((6,), seed)

    def joined():
        others = tf.cast(draws[3:] * samples.count, tf.int64)
        numbers = tf.concat([number[None], tf.minimum(others, samples.count - 1)], axis=0)
        boxes, labels = zip(*(samples.boxes(numbers[tile]) for tile in range(4)), strict=True)
        centre = tf.cast((0.5 + draws[1:3]) * tf.constant([width, height], tf.float32), tf.int32)
        canvas, boxes = mosaic(samples.images(numbers), boxes, centre, samples.image_size)
        return tf.ensure_shape(canvas, (None, None, 3)), boxes, tf.concat(labels, axis=0)

    return tf.cond(mosaic_on & (draws[0] < augment.mosaic), joined, lambda: samples.letterboxed(number))


def _pad_to_bucket(images: tf.Tensor, truth: dict[str, tf.Tensor]):
    """Pads the boxes of a batch to the next of 16, 32, 64, ...: few different shapes, no box dropped."""
    count = tf.shape(truth["labels"])[1]
    buckets = FIRST_BUCKET * 2 ** tf.range(20)
    missing = tf.reduce_min(tf.boolean_mask(buckets, buckets >= count)) - count
    padded = {key: tf.pad(truth[key], [[0, 0], [0, missing]]) for key in ("labels", "mask")}
    boxes = tf.pad(truth["boxes"], [[0, 0], [0, missing], [0, 0]])
    return images, {**truth, **padded, "boxes": boxes}
