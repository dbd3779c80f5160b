"""The stream of training batches, and the epochs that `Detector.fit` is given of it."""

import math
from dataclasses import dataclass
from functools import partial

import numpy as np
import tensorflow as tf

from kyolo.data.batches import described, padded_batches
from kyolo.data.images import ImageStore
from kyolo.data.mosaic import mosaic
from kyolo.data.samples import IndexedSamples, Samples
from kyolo.data.sampling import BatchSizes, ImageOrder, repeat_factors
from kyolo.data.sharded_index import Index, ShardedIndex
from kyolo.data.share import Share
from kyolo.data.stream import map_in_order, train_stream
from kyolo.data.transforms import Augmentation, augment_image
from kyolo.fit_progress import FitProgress, current_fit

NEVER = np.int64(2**40)  # a step that no training comes to


class TrainStream:
    """The endless batches of training: position p holds image p % N of the permutation of pass p // N.

    Everything random at a position is a stateless function of (seed, p), so that a training can begin at any step.

    Args:
        index: the split that is trained on.
        store: of its images; its size and fit are the network's.
        augment: as for `make_dataset`, which tells of all arguments.
        batch_size: images per batch, of all replicas together.
        seed: of shuffling and augmentation.
        repeat_threshold: see `make_dataset`.
        stride: see `make_dataset`.

    Attributes:
        images_per_epoch: N.
        steps_per_epoch: batches of an epoch, ceil(N / batch_size).

    Raises:
        ValueError: see `make_dataset`.
    """

    def __init__(
        self,
        index: Index,
        store: ImageStore,
        augment: Augmentation | None,
        *,
        batch_size: int,
        seed: int = 0,
        repeat_threshold: float | None = None,
        stride: int = 32,
    ):
        if isinstance(index, ShardedIndex) and repeat_threshold is not None:
            raise ValueError(
                "repeat_threshold: expected None with TFRecords, which are read in the order of their files"
            )
        labels = None if repeat_threshold is None else [record.labels for record in index.records]
        factors = None if labels is None else repeat_factors(labels, repeat_threshold)
        self.index, self.store, self.batch_size, self.seed = index, store, batch_size, seed
        self.close_mosaic = augment.close_mosaic if augment else 0
        sizes = augment and augment.multi_scale
        sizes = BatchSizes(store.image_size, augment.multi_scale, stride, seed) if sizes else None
        self._recipe = _Recipe(augment, seed, sizes, batch_size)
        self._order = ImageOrder(index.num_images, seed, factors)
        self._indexed = None if isinstance(index, ShardedIndex) else IndexedSamples(index, store, self._order)
        self.images_per_epoch = self._order.length
        self.steps_per_epoch = math.ceil(self._order.length / batch_size)

    def batches(self, epochs: int, start_step: int = 0, share: Share = Share()) -> tf.data.Dataset:  # noqa: B008 (frozen)
        """Make the endless batches of a training of known length.

        Args:
            epochs: length of the training, for `augment.close_mosaic`.
            start_step: batches to leave out.
            share: the part of each batch that this worker reads, for `tf.distribute`; its pieces come one after the
                other. Default: all of it.
        """
        end = max(epochs - self.close_mosaic, 0) * self.steps_per_epoch * self.batch_size
        samples = self._samples(start_step, end, share)
        batches = padded_batches(samples, share.piece_size(self.batch_size), pieces=share.count)
        batches = batches.apply(tf.data.experimental.assert_cardinality(tf.data.INFINITE_CARDINALITY))
        return self._described(batches)

    def epoch(self) -> tf.data.Dataset:
        """Make the batches of one epoch, another one in every pass; see `make_dataset`."""
        passes = _Passes(self.steps_per_epoch, self.close_mosaic)
        images = self.steps_per_epoch * self.batch_size

        @tf.autograph.experimental.do_not_convert
        def samples(step: tf.Tensor, last_step: tf.Tensor) -> tf.data.Dataset:
            step, last_step = tf.ensure_shape(step, ()), tf.ensure_shape(last_step, ())
            return self._samples(step, last_step * self.batch_size, Share()).take(images)

        begin = tf.data.Dataset.range(1).map(lambda _: tf.numpy_function(passes.begin, [], [tf.int64] * 2))
        batches = padded_batches(begin.flat_map(samples), self.batch_size)
        return self._described(batches.apply(tf.data.experimental.assert_cardinality(self.steps_per_epoch)))

    def _samples(self, start_step: int | tf.Tensor, mosaic_end: int | tf.Tensor, share: Share) -> tf.data.Dataset:
        """Make the endless samples from a step on; from position `mosaic_end` on without mosaic and at one size."""
        make = partial(self._recipe.sample, mosaic_end=mosaic_end)
        samples, order = self._indexed, self._order
        if samples is None:
            where = {"batch_size": self.batch_size, "seed": self.seed, "start_step": start_step, "share": share}
            return train_stream(self.index, self.store.image_size, self.store.fit, make, **where)
        positions = share.positions(self.batch_size, start_step)
        return map_in_order(positions, lambda position: make(samples, order.number(position), position))

    def _described(self, batches: tf.data.Dataset) -> tf.data.Dataset:
        return described(batches, self.index, self.images_per_epoch, self.steps_per_epoch)


class _Passes:
    """Numbers the passes over a training set, and asks the `fit` that runs when mosaic ends.

    Args:
        steps: batches of a pass.
        close_mosaic: last epochs of a training without mosaic.
    """

    def __init__(self, steps: int, close_mosaic: int):
        self.steps, self.close_mosaic = steps, close_mosaic
        self._fit: FitProgress | None = None
        self._number = 0  # of the next pass, in this fit

    def begin(self) -> tuple[np.int64, np.int64]:
        """Return the step of the endless stream at which the next pass begins, and the step at which mosaic ends."""
        fit = current_fit()
        if fit is not self._fit:
            self._fit, self._number = fit, 0
        number = self._number
        if fit is None:
            self._number += 1
            return np.int64(number * self.steps), NEVER
        per_epoch = fit.steps_per_epoch or self.steps
        if fit.steps_per_epoch is None and fit.num_batches and fit.num_batches % self.steps == 0:
            per_epoch = fit.num_batches  # several passes, by `repeat`
        # The training reads ahead by one epoch at most. Further passes are a callback's, or a validation's on this set.
        number = min(number, math.ceil((fit.epoch + 1 - fit.initial_epoch) * per_epoch / self.steps))
        self._number = number + 1
        start = fit.initial_epoch * per_epoch + number * self.steps
        end = max(fit.epochs - self.close_mosaic, 0) * per_epoch
        # A data set that gives only a part of the batches does not see all steps, but it sees the epoch.
        end = min(end, start) if fit.epoch >= fit.epochs - self.close_mosaic else end
        return np.int64(start), np.int64(end)


@dataclass(frozen=True)
class _Recipe:
    """How a sample of the train stream is made."""

    augment: Augmentation | None
    seed: int
    sizes: BatchSizes | None
    batch_size: int

    def sample(self, samples: Samples, number: tf.Tensor, position: tf.Tensor, mosaic_end: int | tf.Tensor):
        """Return what is at a position, where the image `number` is the first."""
        if self.augment is None:
            return samples.plain(number)
        seeds = tf.random.split(tf.stack([tf.constant(self.seed, tf.int64), position]), 2)
        mosaic_on = position < mosaic_end
        canvas, boxes, labels, numbers = self._canvas(samples, seeds[0], number, mosaic_on)
        size = self._size(samples.image_size, position, mosaic_on)
        image, boxes, labels = augment_image(canvas, boxes, labels, self.augment, seeds[1], samples.image_size, size)
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

    def _size(self, image_size: tuple[int, int], position: tf.Tensor, varies: tf.Tensor) -> tf.Tensor | None:
        """Height and width of the position's batch, where they vary."""
        if self.sizes is None:
            return None
        return tf.where(varies, self.sizes.size(position // self.batch_size), image_size)
