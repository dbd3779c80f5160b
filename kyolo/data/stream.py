"""The streams of TFRecords: read from front to back, shuffled in windows, in memory that does not grow with the set.

Everything is a function of (seed, position), as it is where images are read one by one. Position p belongs to pass
p // N over the N records. A pass goes through the files in an order drawn from (seed, pass), `READERS` of them at a
time in turn; what they give is cut into windows, each of which is shuffled by (seed, pass, number of the window).
"""

import os
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import tensorflow as tf

from kyolo.data.samples import Element, Samples
from kyolo.data.sharded_index import ShardedIndex
from kyolo.data.share import Share
from kyolo.data.transforms import fit_image, letterbox_parameters

READERS = 16  # Files that are read in turn.
WINDOW_BYTES = 256 * 2**20  # Of the records that are shuffled with each other: two such windows are in memory.
MAX_WINDOW = 2**14  # Records.
TILES = 4  # Of a mosaic.

FIRST = np.int64(0)


class StreamedSamples(Samples):
    """The images of one sample: number 0 is the first, 1 to 3 are joined with it in a mosaic.

    Args:
        image_size: (H, W) of the network's input.
        get: takes a number and a key of `_decode`'s elements; returns the tensor. It is asked where the value is
            needed, so that a sample without mosaic copies one image only.
    """

    def __init__(self, image_size: tuple[int, int], get: Callable[[int, str], tf.Tensor]):
        super().__init__(image_size)
        self._get = get

    def join(self, number: np.ndarray, uniform: tf.Tensor) -> np.ndarray:  # noqa: ARG002 (the stream has chosen)
        return np.arange(TILES)

    def images(self, numbers: np.ndarray) -> list[tf.Tensor]:
        found = []
        for number in numbers:
            height, width = tf.unstack(self._get(number, "fitted_size"), num=2)
            found.append(self._get(number, "image")[:height, :width])
        return found

    def boxes(self, number: int) -> tuple[tf.Tensor, tf.Tensor]:
        count = self._get(number, "num_boxes")
        return self._get(number, "boxes")[:count], self._get(number, "labels")[:count]

    def about(self, number: int) -> Element:  # noqa: ARG002 (only the first is asked for)
        return {key: self._get(0, key) for key in ("image_id", "letterbox", "size")}

    def ids(self, numbers: tf.Tensor) -> tf.Tensor:
        return tf.gather(tf.stack([self._get(number, "image_id") for number in range(TILES)]), numbers)


def plain_stream(index: ShardedIndex, image_size: tuple[int, int], fit: str) -> tf.data.Dataset:
    """The samples of a split without augmentation, in the order of the files.

    Args:
        index: of the split.
        image_size: (H, W) of the network's input.
        fit: "letterbox" or "stretch".
    """
    elements = map_in_order(index.in_order(), partial(_decode, index, image_size, fit))
    return map_in_order(elements, lambda element: StreamedSamples(image_size, lambda _, key: element[key]).plain(FIRST))


def train_stream(  # noqa: PLR0913 (what a stream depends on)
    index: ShardedIndex,
    image_size: tuple[int, int],
    fit: str,
    make_sample: Callable[[Samples, np.int64, tf.Tensor], tuple],
    *,
    batch_size: int,
    seed: int,
    start_step: int | tf.Tensor = 0,
    share: Share = Share(),  # noqa: B008 (frozen)
) -> tf.data.Dataset:
    """The endless samples of training, one a position.

    Each record is the first image of one sample in every pass. The three that a mosaic joins to it are those at the
    same place of the next three batches: every image is decoded once and used in four batches.

    Args:
        index: of the split.
        image_size: (H, W) of the network's input.
        fit: "letterbox" or "stretch".
        make_sample: takes the images of a sample, the number of the first, 0, and the sample's position.
        batch_size: samples a step, of all replicas together.
        seed: of the order.
        start_step: steps to leave out; their records are read, not decoded.
        share: the part of each batch that is read. Default: all of it.
    """
    own = share.count * share.piece_size(batch_size)
    records = _shuffled(index, seed, start_step * batch_size).enumerate(start_step * batch_size)
    if share.count < share.replicas:
        records = records.filter(lambda position, _: share.has(position, batch_size))
    elements = map_in_order(
        records, lambda position, record: {**_decode(index, image_size, fit, *record), "position": position}
    )
    shapes = {**{key: spec.shape for key, spec in elements.element_spec.items()}, "image": (*image_size, 3)}
    batches = elements.padded_batch(own, shapes, drop_remainder=True)
    samples = _with_next(batches).flat_map(
        lambda *tiles: tf.data.Dataset.range(own).map(lambda row: (row, tiles)),
    )

    def sample(row: tf.Tensor, tiles: tuple[Element, ...]) -> tuple:
        position = tiles[0]["position"][row]
        return make_sample(StreamedSamples(image_size, lambda tile, key: tiles[tile][key][row]), FIRST, position)

    return map_in_order(samples, sample)


def _shuffled(index: ShardedIndex, seed: int, start: int | tf.Tensor) -> tf.data.Dataset:
    """The records of all passes from position `start` on, as `read_shard` gives them."""
    mean_bytes = sum(shard.num_bytes for shard in index.shards) / index.num_images
    window = int(np.clip(WINDOW_BYTES / mean_bytes, 1, MAX_WINDOW))
    readers = min(READERS, len(index.shards))
    first_pass, skipped = start // index.num_images, start % index.num_images

    @tf.autograph.experimental.do_not_convert
    def records_of_pass(number: tf.Tensor) -> tf.data.Dataset:
        pass_seed = tf.random.fold_in(tf.constant([seed, 0], tf.int64), number)
        shards = tf.random.experimental.stateless_shuffle(tf.range(len(index.shards), dtype=tf.int64), pass_seed)
        records = tf.data.Dataset.from_tensor_slices(shards).interleave(
            index.read_shard, cycle_length=readers, num_parallel_calls=readers, deterministic=True
        )
        left_out = tf.where(number == first_pass, tf.cast(skipped, tf.int64), 0)
        windows = records.batch(window).enumerate().skip(left_out // window).prefetch(1)
        return windows.map(partial(_shuffle, pass_seed)).unbatch().skip(left_out % window)

    return tf.data.Dataset.range(first_pass, np.iinfo(np.int64).max).flat_map(records_of_pass)


def _shuffle(seed: tf.Tensor, number: tf.Tensor, window: tuple[tf.Tensor, ...]) -> tuple[tf.Tensor, ...]:
    """A window of records in another order."""
    rows = tf.range(tf.shape(window[0])[0])
    rows = tf.random.experimental.stateless_shuffle(rows, tf.random.fold_in(seed, number))
    return tuple(tf.gather(column, rows) for column in window)


def _decode(
    index: ShardedIndex, image_size: tuple[int, int], fit: str, shard: tf.Tensor, number: tf.Tensor, record: tf.Tensor
) -> Element:
    """A record's image fitted to the network's size, with its boxes in pixels of that."""

    def parse(shard: np.ndarray, number: np.ndarray, record: bytes) -> tuple:
        example = index.parse(int(shard), int(number), record)
        size = np.array([example.image["height"], example.image["width"]], np.int32)
        return example.decode(), example.boxes, example.labels.astype(np.int32), np.int64(example.image_id), size

    kinds = [tf.uint8, tf.float32, tf.int32, tf.int64, tf.int32]
    image, boxes, labels, image_id, size = tf.numpy_function(parse, [shard, number, record], kinds, stateful=False)
    size = tf.ensure_shape(size, (2,))
    fitted = tf.ensure_shape(fit_image(tf.ensure_shape(image, (None, None, 3)), image_size, fit), (None, None, 3))
    letterbox = letterbox_parameters(tf.unstack(size), image_size, fit)
    labels = tf.ensure_shape(labels, (None,))
    return {
        "image": fitted,
        "fitted_size": tf.shape(fitted)[:2],
        "boxes": tf.ensure_shape(boxes, (None, 4)) * tf.tile(letterbox[:2], [2]),
        "labels": labels,
        "num_boxes": tf.shape(labels)[0],
        "image_id": tf.ensure_shape(image_id, ()),
        "letterbox": letterbox,
        "size": size,
    }


def _with_next(batches: tf.data.Dataset) -> tf.data.Dataset:
    """Each batch together with the three after it: (batch k, k + 1, k + 2, k + 3). None is copied."""
    empty = {
        key: tf.zeros([0 if side is None else side for side in spec.shape], spec.dtype)
        for key, spec in batches.element_spec.items()
    }
    joined = batches.scan((empty,) * (TILES - 1), lambda last, batch: ((*last[1:], batch), (*last, batch)))
    return joined.skip(TILES - 1)


def map_in_order(dataset: tf.data.Dataset, function: Callable[..., Any]) -> tf.data.Dataset:
    """Maps in parallel, in order. Functions without branches: AutoGraph would double the tracing time."""
    function = tf.autograph.experimental.do_not_convert(function)
    return dataset.map(function, num_parallel_calls=os.cpu_count(), deterministic=True)
