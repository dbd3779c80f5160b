"""The tf.data pipeline: from an index to batches. Every random choice is a function of (seed, position)."""

import contextlib
import math
import os
import re
from collections.abc import Iterator

import tensorflow as tf

from kyolo.data.batches import described, padded_batches
from kyolo.data.images import ImageStore
from kyolo.data.load import load_index
from kyolo.data.samples import IndexedSamples
from kyolo.data.sampling import ImageOrder
from kyolo.data.sharded_index import UNREADABLE, Index, ShardedIndex
from kyolo.data.stream import map_in_order, plain_stream
from kyolo.data.train_stream import TrainStream
from kyolo.data.transforms import Augmentation
from kyolo.errors import InputError


def make_dataset(  # noqa: PLR0913 (the one place where data set, network size and recipe meet)
    source: str | os.PathLike | Index,
    split: str = "train",
    *,
    image_size: int | tuple[int, int] = 640,
    batch_size: int = 16,
    fit: str = "letterbox",
    augment: Augmentation | None = Augmentation(),  # noqa: B008 (frozen)
    seed: int = 0,
    cache: str | ImageStore | None = "auto",
    repeat_threshold: float | None = None,
    stride: int = 32,
) -> tf.data.Dataset:
    """Make the batches of a split, for `Detector.fit` or for evaluation.

    A pass over the train split is an epoch: shuffled, augmented, ceil(N / batch_size) full batches. Every pass has its
    own order and its own draws, stateless functions of (seed, number of the pass, position): in a `fit` that begins at
    `initial_epoch=k`, the first pass is number k, so that a continued training sees what an uninterrupted one sees.
    `fit` also tells the data set how many epochs there are, and with them when `augment.close_mosaic` begins. `map`,
    `prefetch`, `take` and `repeat` change none of this. Passes outside a `fit` are numbered 0, 1, ... and keep mosaic.

    Other splits are in order and not augmented; their last batch may be smaller.

    With `repeat_threshold`, images with rare classes are in an epoch more than once, see `kyolo.data.sampling`; N
    counts them as often. The images that a mosaic is filled with are drawn in the same proportions.

    Args:
        source: folder of a data set (see `load_index`), or an index.
        split: "train"; "val" or "dev".
        image_size: network input in pixels, one number or (H, W). Default 640.
        batch_size: images per batch. Default 16.
        fit: "letterbox" keeps the aspect ratio and pads with grey, "stretch" does not.
        augment: strengths of the augmentation, by default the YOLOv8 recipe's; None for none. Train only.
        seed: of shuffling and augmentation.
        cache: "auto" (memory, else disk, else None), "memory", "disk" or None (decode each time); or a store that
            `load_index` has filled already.
        repeat_threshold: fraction of the images below which a class is rare; None: each image once per epoch. Train
            only.
        stride: the network's largest, for `augment.multi_scale`. Default 32, of P5.

    Returns:
        A dataset with the attributes `index`, `class_names`, `images_per_epoch` (N) and `steps_per_epoch`, of (images,
        truth): images (B, H, W, 3) uint8 RGB; truth["boxes"] (B, G, 4) float32 xyxy pixels of the images,
        truth["labels"] (B, G) int32, truth["mask"] (B, G) bool, True for real boxes; truth["image_id"] (B,) int64,
        truth["letterbox"] (B, 4) float32 scale_x, scale_y, pad_x, pad_y with x_network = x_original * scale_x + pad_x,
        truth["size"] (B, 2) int32 original height and width (the last three describe the first image where augmentation
        moved or combined images); truth["source_ids"] (B, 4) int64, ids of the images that went into each: those of a
        mosaic from the top left to the bottom right, or one four times. G is the smallest of 16, 32, 64, ... that holds
        the batch's largest number of boxes.

    Raises:
        InputError: see `load_index`.
        ValueError: `augment.multi_scale` with an image size that is no multiple of the stride, or `repeat_threshold`
            with TFRecords.

    Example:
        ```python
        train = make_dataset("path/to/set", "train", image_size=320)
        detector.fit(train, epochs=100)
        ```
    """
    image_size = (image_size, image_size) if isinstance(image_size, int) else tuple(image_size)
    store = cache if isinstance(cache, ImageStore) else ImageStore(image_size, fit=fit, cache=cache)
    if (store.image_size, store.fit) != (image_size, fit):
        raise ValueError(f"Wrong store: expected {(image_size, fit)}, received {(store.image_size, store.fit)}")
    index = load_index(source, split, store=store) if isinstance(source, str | os.PathLike) else source
    if split != "train":
        return plain_batches(index, store, batch_size)
    stream = TrainStream(
        index, store, augment, batch_size=batch_size, seed=seed, repeat_threshold=repeat_threshold, stride=stride
    )
    return stream.epoch()


def plain_batches(index: Index, store: ImageStore, batch_size: int) -> tf.data.Dataset:
    """Make the batches of a split in order, without augmentation; see `make_dataset`."""
    if isinstance(index, ShardedIndex):
        samples = plain_stream(index, store.image_size, store.fit)
    else:
        numbers = tf.data.Dataset.range(index.num_images)
        samples = map_in_order(numbers, IndexedSamples(index, store, ImageOrder(index.num_images, 0)).plain)
    batches = padded_batches(samples, batch_size, drop_remainder=False)
    return described(batches, index, index.num_images, math.ceil(index.num_images / batch_size))


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
