"""From a batch of network inputs to detections in pixels of the original images: the one way that all take."""

from collections.abc import Iterable, Iterator
from dataclasses import asdict
from typing import Any

import numpy as np
import tensorflow as tf

from kyolo.boxes.nms import NMSSettings, batched_nms
from kyolo.data.transforms import letterbox as letterbox_image

Detections = dict[str, np.ndarray]


def detect(
    detector: Any, images: tf.Tensor, letterbox: tf.Tensor, size: tf.Tensor, settings: NMSSettings
) -> dict[str, tf.Tensor]:
    """Run the network, decode, apply NMS, and map the boxes to pixels of the original images. Graph or eager.

    Boxes that lie in the padding of the letterbox are dropped before the detections are counted.

    Args:
        detector: a `Detector`, or what is called and decodes like one (`TFLiteDetector`).
        images: network inputs, RGB 0..255.
        letterbox: scale_x, scale_y, pad_x, pad_y of each image: x_network = x_original * scale_x + pad_x.
        size: original height and width of each image, pixels.
        settings: thresholds of the suppression.

    Input shape:
        images (B, H, W, 3), letterbox (B, 4), size (B, 2); H and W static.

    Returns:
        boxes (B, N, 4) xyxy pixels of the original images, scores (B, N), labels int32 (B, N), num_detections int32
        (B,); zeros after the last detection.
    """
    height, width = images.shape[1:3]
    boxes, scores = detector.decode(detector(images, training=False), image_size=(height, width))
    network_size = tf.constant([width, height, width, height], tf.float32)
    letterbox = tf.cast(letterbox, tf.float32)
    scale, pad = (tf.tile(part, [1, 2]) for part in tf.split(letterbox, 2, axis=-1))  # (B, 4)
    limit = tf.tile(tf.cast(size, tf.float32)[:, ::-1], [1, 2])  # (B, 4): width, height, width, height
    image = tf.concat([tf.zeros_like(limit[:, :2]), limit[:, 2:]], axis=-1)  # (B, 4): the whole image as a box
    window = (image * scale + pad) / network_size
    boxes, scores, labels, num_detections = batched_nms(boxes / network_size, scores, window=window, **asdict(settings))
    # Pads are not negative, so zeros after the last detection stay zeros.
    boxes = (boxes * network_size - pad[:, None]) / scale[:, None]
    boxes = tf.clip_by_value(boxes, 0.0, limit[:, None])
    return {"boxes": boxes, "scores": scores, "labels": labels, "num_detections": num_detections}


class Predictor:
    """Runs a detector over batches with one traced graph; `evaluate` and `predict_paths` stand on it.

    Keep it as long as the detector is used: a new one traces again. It reads the weights that the detector has at each
    call.

    Args:
        detector: a `Detector` or a `TFLiteDetector`.
        settings: thresholds of NMS. Default: the detector's `nms`.

    Example:
        >>> predictor = Predictor(detector, NMSSettings(confidence=0.5))
        >>> image, letterbox = predictor.fit_image(np.zeros((48, 100, 3), "uint8"))
        >>> [detections] = predictor.predict([(image[None], letterbox[None], [(48, 100)])])
        >>> detections["boxes"].shape
        (0, 4)
    """

    def __init__(self, detector: Any, settings: NMSSettings | None = None):
        self.detector = detector
        self.settings = settings or detector.nms
        # A graph takes a tenth of the time that eager operations take.
        self.fit_image = tf.function(
            lambda image: letterbox_image(image, detector.image_size, detector.image_fit),
            input_signature=[tf.TensorSpec([None, None, 3], tf.uint8)],
            autograph=False,
        )
        self._detect = tf.function(
            lambda images, letterbox, size: detect(detector, images, letterbox, size, self.settings),
            autograph=False,  # which would hide our errors in its own
        )

    def predict(self, batches: Iterable[tuple[tf.Tensor, tf.Tensor, tf.Tensor]]) -> Iterator[Detections]:
        """Detections of each image of the batches, in order.

        A batch smaller than an earlier one of the same call is filled up with its last image, so that the last batch of
        a data set does not trace the graph again.

        Args:
            batches: of (images (B, H, W, 3), letterbox (B, 4), size (B, 2)), as `detect` takes them.

        Yields:
            One dict an image: boxes (n, 4) xyxy pixels of the original image, scores (n,), labels (n,), by falling
            score, without padding.
        """
        largest = 0
        for batch in batches:
            count = len(batch[0])
            largest = max(largest, count)
            detections = self._detect(*(_fill_up(tensor, largest) for tensor in batch))
            detections = {name: tensor.numpy() for name, tensor in detections.items()}
            for i, n in enumerate(detections.pop("num_detections")[:count]):
                yield {name: array[i, :n] for name, array in detections.items()}


def _fill_up(tensor: tf.Tensor, batch_size: int) -> tf.Tensor:
    """Repeat the last row up to the batch size: unlike zeros, its letterbox and size can be divided by."""
    tensor = tf.convert_to_tensor(tensor)
    return tf.concat([tensor, tf.repeat(tensor[-1:], batch_size - len(tensor), axis=0)], axis=0)
