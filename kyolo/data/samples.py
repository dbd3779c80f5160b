"""What the samples of a data set are made of: images with their boxes, by number, as tensors."""

import abc

import numpy as np
import tensorflow as tf

from kyolo.data.images import OUT_OF_MEMORY, ImageStore
from kyolo.data.index import DatasetIndex
from kyolo.data.sampling import ImageOrder
from kyolo.data.transforms import letterbox_parameters, pad_image
from kyolo.errors import InputError

Element = dict[str, tf.Tensor]


class Samples(abc.ABC):
    """Images, boxes and labels by number. Boxes are in pixels of the fitted images.

    Args:
        image_size: (H, W) of the network's input.
    """

    def __init__(self, image_size: tuple[int, int]):
        self.image_size = image_size

    @abc.abstractmethod
    def join(self, number: tf.Tensor, uniform: tf.Tensor) -> tf.Tensor:
        """(4,) numbers: an image and those of its mosaic; (3,) numbers in 0..1 may choose them."""

    @abc.abstractmethod
    def images(self, numbers: tf.Tensor) -> list[tf.Tensor]:
        """(n,) int64 -> n fitted images, (h, w, 3) uint8."""

    @abc.abstractmethod
    def boxes(self, number: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Boxes (n, 4) float32 xyxy and labels (n,) int32 of an image."""

    @abc.abstractmethod
    def about(self, number: tf.Tensor) -> Element:
        """image_id, letterbox and size of an image, as in a batch."""

    @abc.abstractmethod
    def ids(self, numbers: tf.Tensor) -> tf.Tensor:
        """(n,) numbers -> (n,) int64 ids."""

    def truth(self, numbers: tf.Tensor, boxes: tf.Tensor, labels: tf.Tensor) -> Element:
        """The second half of a batch element that was made of (4,) images."""
        return {
            "boxes": boxes,
            "labels": labels,
            "mask": tf.ones_like(labels, tf.bool),
            **self.about(numbers[0]),
            "source_ids": self.ids(numbers),
        }

    def letterboxed(self, number: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """An image on the network's input size, with its boxes and labels."""
        (image,) = self.images(number[None])
        boxes, labels = self.boxes(number)
        return pad_image(image, self.image_size), boxes + tf.tile(self.about(number)["letterbox"][2:], [2]), labels

    def plain(self, number: tf.Tensor) -> tuple[tf.Tensor, Element]:
        """A batch element without augmentation."""
        image, boxes, labels = self.letterboxed(number)
        return image, self.truth(tf.repeat(number, 4), boxes, labels)


class IndexedSamples(Samples):
    """The images of an index, all boxes of which are in memory."""

    def __init__(self, index: DatasetIndex, store: ImageStore, order: ImageOrder):
        super().__init__(store.image_size)
        records = index.records
        self.order = order
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
        store.plan(index.image_sizes())
        self._fetch = lambda numbers: [_get(store, records[number].path) for number in numbers]

    def join(self, number: tf.Tensor, uniform: tf.Tensor) -> tf.Tensor:
        return tf.concat([number[None], self.order.draw(uniform)], axis=0)

    def images(self, numbers: tf.Tensor) -> list[tf.Tensor]:
        images = tf.numpy_function(self._fetch, [numbers], [tf.uint8] * numbers.shape[0], stateful=False)
        return [tf.ensure_shape(image, (None, None, 3)) for image in images]

    def boxes(self, number: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        rows = slice(self._ends[number], self._ends[number + 1])
        return self._boxes[rows], self._labels[rows]

    def about(self, number: tf.Tensor) -> Element:
        return {key: values[number] for key, values in self._about.items()}

    def ids(self, numbers: tf.Tensor) -> tf.Tensor:
        return tf.gather(self._about["image_id"], numbers)


def _get(store: ImageStore, path: str) -> np.ndarray:
    """Return an image; raise InputError when memory runs out, which tf.data would hide in an error of its own."""
    try:
        return store.get(path)
    except MemoryError as error:
        raise InputError(f"{path}: {OUT_OF_MEMORY}") from error
