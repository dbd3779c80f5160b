"""Batches of samples: padded, made in advance, and told what they are of."""

import tensorflow as tf

from kyolo.data.sharded_index import Index

FIRST_BUCKET = 16  # Padded number of boxes: 16, 32, 64, ...


def padded_batches(
    samples: tf.data.Dataset, batch_size: int, *, drop_remainder: bool = True, pieces: int = 1
) -> tf.data.Dataset:
    """Make padded batches, some ready in advance: two for each of the pieces that replicas take in turn."""
    options = tf.data.Options()
    # Nothing is left to tune, and the thread that would do it sleeps for up to a minute: an iterator's end waits.
    options.autotune.enabled = False
    batches = samples.padded_batch(batch_size, drop_remainder=drop_remainder).map(_pad_to_bucket)
    return batches.prefetch(2 * pieces).with_options(options)


def described(batches: tf.data.Dataset, index: Index, images: int, steps: int) -> tf.data.Dataset:
    """Give a dataset the attributes that `make_dataset` promises."""
    batches.index, batches.class_names = index, index.class_names
    batches.images_per_epoch, batches.steps_per_epoch = images, steps
    return batches


def _pad_to_bucket(images: tf.Tensor, truth: dict[str, tf.Tensor]):
    """Pads the boxes of a batch to the next of 16, 32, 64, ...: few different shapes, no box dropped."""
    count = tf.shape(truth["labels"])[1]
    buckets = FIRST_BUCKET * 2 ** tf.range(20)
    missing = tf.reduce_min(tf.boolean_mask(buckets, buckets >= count)) - count
    padded = {key: tf.pad(truth[key], [[0, 0], [0, missing]]) for key in ("labels", "mask")}
    boxes = tf.pad(truth["boxes"], [[0, 0], [0, missing], [0, 0]])
    return images, {**truth, **padded, "boxes": boxes}
