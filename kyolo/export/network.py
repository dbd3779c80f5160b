"""The graphs that are exported: from the network's input to boxes and scores, or on to detections."""

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import numpy as np
import tensorflow as tf

from kyolo.boxes.nms import NMSSettings, batched_nms
from kyolo.evaluation.detect import Detections

WITHOUT_GRADIENTS = tf.saved_model.SaveOptions(experimental_custom_gradients=False)  # nobody trains an export

Outputs = dict[str, tf.Tensor]


def network_module(detector: Any, functions: dict[str, tuple[Callable, tf.TensorSpec]]) -> tf.Module:
    """What is saved: graphs, the variables that they read, and no Keras object.

    Args:
        detector: the `Detector` that the functions call.
        functions: by the names of the signatures, from a tensor to a dict of tensors, and what that tensor is; its name
            is the input's.

    Returns:
        A module whose `graphs` are the signatures.
    """
    module = tf.Module()
    module.variables_read = [variable.value for variable in detector.variables]
    module.graphs = {
        name: tf.function(function, input_signature=[tensor]) for name, (function, tensor) in functions.items()
    }
    return module


def raw_outputs(detector: Any, images: tf.Tensor) -> Outputs:
    """`boxes` (B, A, 4) xyxy in 0..1 of the network's input and `scores` (B, A, K) of every anchor point.

    Args:
        detector: a `Detector`.
        images: (B, H, W, 3) RGB 0..255, of static H and W.
    """
    height, width = images.shape[1:3]
    boxes, scores = detector.decode(detector(images, training=False), image_size=(height, width))
    boxes = boxes / tf.constant([width, height, width, height], tf.float32)
    return {"boxes": tf.clip_by_value(boxes, 0.0, 1.0), "scores": scores}


def detection_outputs(raw: Outputs, settings: NMSSettings) -> Outputs:
    """`boxes` (B, N, 4), `scores` (B, N), `labels` (B, N) and `num_detections` (B,) from `raw_outputs`."""
    boxes, scores, labels, count = batched_nms(raw["boxes"], raw["scores"], **asdict(settings))
    return {"boxes": boxes, "scores": scores, "labels": labels, "num_detections": count}


def find(detector: Any, image: np.ndarray, settings: NMSSettings) -> Detections:
    """Detections in one network input, (H, W, 3) 0..255: boxes (n, 4) in 0..1 of it, scores and labels (n,)."""
    found = detection_outputs(raw_outputs(detector, image[None]), settings)
    count = int(found.pop("num_detections")[0])
    return {name: value[0, :count].numpy() for name, value in found.items()}


def task_outputs(detections: Outputs) -> Outputs:
    """The four tensors that MediaPipe's ObjectDetector takes, all float32, from `detection_outputs`.

    `locations` (1, N, 4) as ymin, xmin, ymax, xmax in 0..1, `categories` (1, N), `scores` (1, N), `count` (1,).
    """
    return {
        "locations": tf.gather(detections["boxes"], [1, 0, 3, 2], axis=-1),
        "categories": tf.cast(detections["labels"], tf.float32),
        "scores": detections["scores"],
        "count": tf.cast(detections["num_detections"], tf.float32),
    }
