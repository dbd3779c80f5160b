"""What is drawn for the train stream as a whole: which image stands where, and the size of each batch.

Everything here is a stateless function of the seed and of the place in the stream.
"""

import math
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from kyolo.errors import ArgumentError

SHIFT, SIZE = 1, 2  # what a random number is for


def repeat_factors(labels: Sequence[np.ndarray], threshold: float) -> np.ndarray:
    """How often each image is shown in an epoch, so that rare classes are seen more often.

    r(c) = max(1, sqrt(threshold / f(c))) for a class that a fraction f(c) of the images has; of an image's classes the
    largest r counts, and an image without boxes has 1.

    Args:
        labels: (n,) int class ids of the boxes of each image.
        threshold: fraction of the images under which a class is rare.

    Returns:
        (N,) float64, at least 1.

    Example:
        >>> repeat_factors([[0], [0, 0], [0, 1], []], threshold=1.0).tolist()  # f: 3/4 and 1/4
        [1.1547005383792515, 1.1547005383792515, 2.0, 1.0]

    Reference:
        Gupta, Dollar and Girshick, LVIS, arXiv 1908.03195, repeat factor sampling.
    """
    classes = [np.unique(np.asarray(image, np.int64)) for image in labels]
    present, number = np.unique(np.concatenate(classes), return_inverse=True)
    fractions = np.bincount(number, minlength=len(present)) / len(classes)
    factors = dict(zip(present, np.maximum(1.0, np.sqrt(threshold / fractions)), strict=True))
    return np.array([max((factors[label] for label in image), default=1.0) for image in classes])


class ImageOrder:
    """Which image stands at a position of the endless train stream.

    The stream is a row of epochs, each of `length` positions in an order of its own. Without factors each image stands
    once in an epoch. With them an epoch has as many positions as the sum of the factors, rounded up, and image i stands
    at r(i) of them on average, never at fewer than r(i) rounded down: on a line where image i covers a length of r(i),
    marks are set at equal distances of at most 1, shifted at random in each epoch; they fall on the epoch's images.

    Args:
        count: number of images.
        seed: of the order.
        factors: (N,) `repeat_factors`, or None.
    """

    def __init__(self, count: int, seed: int, factors: np.ndarray | None = None):
        self.seed = seed
        self._ends = None if factors is None else np.cumsum(factors)  # of the images on the line
        self.length = count if factors is None else math.ceil(self._ends[-1])

    def number(self, position: tf.Tensor) -> tf.Tensor:
        """Number of the image at a position, () int64."""
        epoch = position // self.length
        seed = tf.cast(tf.stack([self.seed, epoch]), tf.uint32)
        last = tf.constant(self.length - 1, tf.int64)
        mark = tf.random.experimental.index_shuffle(position % self.length, seed, last)
        if self._ends is None:
            return mark
        shift = tf.random.stateless_uniform((), _key(self.seed, epoch, SHIFT), dtype=tf.float64)
        return self._at(((tf.cast(mark, tf.float64) + shift) * (self._ends[-1] / self.length))[None])[0]

    def draw(self, uniform: tf.Tensor) -> tf.Tensor:
        """Numbers of images, each as likely as it is frequent in the stream: (n,) float32 in 0..1 -> (n,) int64."""
        if self._ends is None:
            return tf.minimum(tf.cast(uniform * self.length, tf.int64), self.length - 1)
        return self._at(tf.cast(uniform, tf.float64) * self._ends[-1])

    def _at(self, places: tf.Tensor) -> tf.Tensor:
        """The images on the line at places (n,)."""
        return tf.searchsorted(self._ends, places, side="right", out_type=tf.int64)


class BatchSizes:
    """The input sizes of multi-scale training: one size a batch.

    Args:
        image_size: (H, W) of the network's input, pixels.
        spread: m: heights are the multiples of `stride` between (1 - m) H and (1 + m) H; the width follows, rounded to
            such a multiple.
        stride: the network's largest.
        seed: of the choice.

    Raises:
        ValueError: H or W is no multiple of `stride`.
    """

    def __init__(self, image_size: tuple[int, int], spread: float, stride: int, seed: int):
        height, width = image_size
        if height % stride or width % stride:
            raise ArgumentError("image_size", f"expected multiples of the stride {stride}, got {image_size}.")
        heights = [side for side in range(stride, 2 * height, stride) if abs(side - height) <= spread * height + 1e-6]
        widths = [max(round(width * side / height / stride), 1) * stride for side in heights]
        self.sizes = list(zip(heights, widths, strict=True))
        self.seed = seed

    def size(self, step: tf.Tensor) -> tf.Tensor:
        """(2,) int32 height and width of the batch of a step; each size is equally likely."""
        key = _key(self.seed, step, SIZE)
        return tf.constant(self.sizes)[tf.random.stateless_uniform((), key, maxval=len(self.sizes), dtype=tf.int32)]


def _key(seed: int, number: tf.Tensor, purpose: int) -> tf.Tensor:
    """A seed for stateless draws that no position of the stream has."""
    return tf.random.fold_in(tf.stack([tf.constant(seed, tf.int64), number]), purpose)
