"""The tf.data pipeline: from an index to batches. Every random choice is a function of (seed, position)."""

import contextlib
import math
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass

import tensorflow as tf

from kyolo.data.images import ImageStore
from kyolo.data.load import load_index
from kyolo.data.mosaic import mosaic
from kyolo.data.samples import IndexedSamples, Samples
from kyolo.data.sampling import BatchSizes, ImageOrder, repeat_factors
from kyolo.data.sharded_index import UNREADABLE, Index, ShardedIndex
from kyolo.data.share import Share
from kyolo.data.stream import map_in_order, plain_stream, train_stream
from kyolo.data.transforms import Augmentation, augment_image
from kyolo.errors import InputError

FIRST_BUCKET = 16  # Padded number of boxes: 16, 32, 64, ...


def make_dataset(  # noqa: PLR0913 (the one place where data set, network size and recipe meet)
    source: str | os.PathLike | Index,
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
    repeat_threshold: float | None = None,
    stride: int = 32,
    share: Share = Share(),  # noqa: B008 (frozen)
) -> tf.data.Dataset:
    """Batches for training or evaluation.

    The train stream is endless, shuffled, augmented, and its batches are full: position p holds image p % N of the
    permutation of pass p // N, and everything random in it is a stateless function of (seed, p). An interrupted
    training goes on bit by bit with `start_step`. Other splits are finite, in order and not augmented; their last batch
    may be smaller.

    With `repeat_threshold` images with rare classes stand in a pass more than once, see `kyolo.data.sampling`, and N is
    the number of all those; the images that a mosaic is filled with are drawn from them too.

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
        repeat_threshold: fraction of the images below which a class is rare; None: each image once a pass. Train only.
        stride: the network's largest, for `augment.multi_scale`. Default 32, that of P5.
        share: the part of each batch of the train stream that this worker reads, for `tf.distribute`; its pieces come
            one after the other. Default: all of it.

    Returns:
        A dataset with the attributes `index`, `images_per_epoch` (N) and `steps_per_epoch`, of (images, truth): images
        (B, H, W, 3) uint8 RGB; truth["boxes"] (B, G, 4) float32 xyxy pixels of the images, truth["labels"] (B, G)
        int32, truth["mask"] (B, G) bool, True for real boxes; truth["image_id"] (B,) int64, truth["letterbox"] (B, 4)
        float32 scale_x, scale_y, pad_x, pad_y with x_network = x_original * scale_x + pad_x, truth["size"] (B, 2) int32
        original height and width (the last three are those of the first image where augmentation moved or joined
        images); truth["source_ids"] (B, 4) int64, ids of the images that went into each: those of a mosaic from the top
        left to the bottom right, or one four times. G is the smallest of 16, 32, 64, ... that holds the batch's largest
        number of boxes.

    Raises:
        InputError: see `load_index`.
        ValueError: `augment.multi_scale` with an image size that is no multiple of the stride, or `repeat_threshold`
            with TFRecords.

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
    index = load_index(source, split, store=store) if isinstance(source, str | os.PathLike) else source
    streamed = isinstance(index, ShardedIndex)
    repeats = split == "train" and repeat_threshold is not None
    if streamed and repeats:
        raise ValueError("repeat_threshold: expected None with TFRecords, which are read in the order of their files")
    factors = repeat_factors([record.labels for record in index.records], repeat_threshold) if repeats else None
    order = ImageOrder(index.num_images, seed, factors)
    steps_per_epoch = math.ceil(order.length / batch_size)
    if split == "train":
        mosaic_end = max(epochs - (augment.close_mosaic if augment else 0), 0) * steps_per_epoch * batch_size
        sizes = BatchSizes(image_size, augment.multi_scale, stride, seed) if augment and augment.multi_scale else None
        recipe = _Recipe(augment, seed, mosaic_end, sizes, batch_size)
        if streamed:
            start = {"batch_size": batch_size, "seed": seed, "start_step": start_step, "share": share}
            dataset = train_stream(index, image_size, fit, recipe.sample, **start)
        else:
            samples = IndexedSamples(index, store, order)
            positions = share.positions(batch_size, start_step)
            dataset = map_in_order(positions, lambda position: recipe.sample(samples, order.number(position), position))
    elif streamed:
        dataset = plain_stream(index, image_size, fit)
    else:
        samples = IndexedSamples(index, store, order)
        dataset = map_in_order(tf.data.Dataset.range(order.length), samples.plain)
    dataset = dataset.padded_batch(share.piece_size(batch_size), drop_remainder=split == "train").map(_pad_to_bucket)
    if split == "train":
        dataset = dataset.apply(tf.data.experimental.assert_cardinality(tf.data.INFINITE_CARDINALITY))
    options = tf.data.Options()
    # Nothing is left to tune, and the thread that would do it sleeps for up to a minute: an iterator's end waits.
    options.autotune.enabled = False
    dataset = dataset.prefetch(2 * share.count).with_options(options)
    dataset.index, dataset.images_per_epoch, dataset.steps_per_epoch = index, order.length, steps_per_epoch
    return dataset


@dataclass(frozen=True)
class _Recipe:
    """How a sample of the train stream is made; from position `mosaic_end` on without mosaic and at one size."""

    augment: Augmentation | None
    seed: int
    mosaic_end: int
    sizes: BatchSizes | None
    batch_size: int

    def sample(self, samples: Samples, number: tf.Tensor, position: tf.Tensor):
        """What stands at a position, where the image `number` is the first."""
        if self.augment is None:
            return samples.plain(number)
        seeds = tf.random.split(tf.stack([tf.constant(self.seed, tf.int64), position]), 2)
        canvas, boxes, labels, numbers = self._canvas(samples, seeds[0], number, position < self.mosaic_end)
        image, boxes, labels = augment_image(
            canvas, boxes, labels, self.augment, seeds[1], samples.image_size, self._size(samples.image_size, position)
        )
        return image, samples.truth(numbers, boxes, labels)

    def _canvas(self, samples: Samples, seed: tf.Tensor, number: tf.Tensor, mosaic_on: tf.Tensor):
        """The image to be warped, with boxes, labels and (4,) sources: four joined images, or one letterboxed."""
        height, width = samples.image_size
        draws = tf.random.stateless_uniform((6,), seed)

        def joined():
            numbers = samples.join(number, draws[3:])
            boxes, labels = zip(*(samples.boxes(numbers[tile]) for tile in range(4)), strict=True)
            centre = tf.cast((0.5 + draws[1:3]) * tf.constant([width, height], tf.float32), tf.int32)
            canvas, boxes = mosaic(samples.images(numbers), boxes, centre, samples.image_size)
            return tf.ensure_shape(canvas, (None, None, 3)), boxes, tf.concat(labels, axis=0), numbers

        def single():
            return *samples.letterboxed(number), tf.repeat(number, 4)

        return tf.cond(mosaic_on & (draws[0] < self.augment.mosaic), joined, single)

    def _size(self, image_size: tuple[int, int], position: tf.Tensor) -> tf.Tensor | None:
        """Height and width of the position's batch, where they vary."""
        if self.sizes is None:
            return None
        return tf.where(position < self.mosaic_end, self.sizes.size(position // self.batch_size), image_size)


def _pad_to_bucket(images: tf.Tensor, truth: dict[str, tf.Tensor]):
    """Pads the boxes of a batch to the next of 16, 32, 64, ...: few different shapes, no box dropped."""
    count = tf.shape(truth["labels"])[1]
    buckets = FIRST_BUCKET * 2 ** tf.range(20)
    missing = tf.reduce_min(tf.boolean_mask(buckets, buckets >= count)) - count
    padded = {key: tf.pad(truth[key], [[0, 0], [0, missing]]) for key in ("labels", "mask")}
    boxes = tf.pad(truth["boxes"], [[0, 0], [0, missing], [0, 0]])
    return images, {**truth, **padded, "boxes": boxes}


@contextlib.contextmanager
def input_errors(*indices: Index) -> Iterator[None]:
    """Raises InputError for a bad image or record; tf.data hides it in an error of its own.

    Args:
        *indices: of the data sets that are read, so that a damaged file of TFRecords can be named.
    """
    try:
        yield
    except tf.errors.OpError as error:
        found = re.search(r"InputError: ([^\n]+)", error.message)
        if found is not None:
            raise InputError(found[1]) from error
        if isinstance(error, UNREADABLE):
            for index in indices:
                if isinstance(index, ShardedIndex):
                    index.find_damage()
        raise
