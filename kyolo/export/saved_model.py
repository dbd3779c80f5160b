"""A SavedModel that takes images of any size and returns detections: for servers, without kyolo."""

import json
import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from kyolo.data import letterbox
from kyolo.evaluation.detect import Detections, NMSSettings, Predictor, detect
from kyolo.export.parity import ParityReport, compare_detections
from kyolo.files import new_output

CONTRACT_FILE = "assets.extra/detector.json"  # a folder that TensorFlow leaves to others


def to_saved_model(
    detector: Any,
    path: str | os.PathLike,
    *,
    image_size: tuple[int, int],
    fit: str = "letterbox",
    class_names: Sequence[str],
    images: Sequence[np.ndarray] = (),
    **settings: Any,
) -> ParityReport | None:
    """Write a SavedModel that does everything from images to detections, and loads without kyolo.

    Its signature `serving_default` takes `images`, uint8 (B, H, W, 3) RGB, any B, H, W. It returns `boxes` (B, N, 4)
    xyxy in pixels of these images, `scores` (B, N), `labels` int32 (B, N), by falling score with zeros after the last
    one, and `num_detections` int32 (B,). Class names and settings lie beside it in `assets.extra/detector.json`.

    Args:
        detector: a `Detector` in float32; its averaged weights are used where it keeps them.
        path: folder to write, in one go; it must not exist.
        image_size: (H, W) of the network's input, to which images are brought inside.
        fit: "letterbox" or "stretch", as in training.
        class_names: name of each label.
        images: real images, (h, w, 3) uint8, on which the export is compared with the detector before it is kept.
        **settings: `confidence`, `iou`, `max_detections`, `multi_label`, as in `NMSSettings`, whose defaults hold.

    Returns:
        How far the export is from the detector; None without images.

    Raises:
        InputError: `path` exists.
        ExportError: the export's detections are not the detector's; nothing is left behind.

    Example:
        >>> to_saved_model(detector, "exported", image_size=(320, 320), class_names=["cell"], confidence=0.4)
        >>> found = tf.saved_model.load("exported").signatures["serving_default"](images=pictures)
    """
    settings = NMSSettings(**settings)
    with new_output(path, folder=True) as temporary, detector.ema_weights():
        module = _serving_module(detector, image_size, fit, settings)
        tf.saved_model.save(module, str(temporary), signatures={"serving_default": module.detect})
        contract = {"class_names": list(class_names), "image_size": list(image_size), "fit": fit, **asdict(settings)}
        _write_json(temporary / CONTRACT_FILE, contract)
        if not images:
            return None
        exported = tf.saved_model.load(str(temporary)).signatures["serving_default"]
        predictor = Predictor(detector, settings)
        pairs = (_both(predictor, exported, image, image_size, fit) for image in images)
        return compare_detections(pairs, settings).check()


def _both(
    predictor: Predictor, exported: Any, image: np.ndarray, image_size: tuple[int, int], fit: str
) -> tuple[Detections, Detections]:
    """The detector's detections and the export's in an image of any size, boxes in pixels of the network's input."""
    network_input, parameters = letterbox(image, image_size, fit)
    (expected,) = predictor.predict([(network_input[None], parameters[None], [image.shape[:2]])])
    found = {name: np.asarray(value[0]) for name, value in exported(images=tf.constant(image[None])).items()}
    count = found.pop("num_detections")
    found = {name: value[:count] for name, value in found.items()}
    scale = np.tile(parameters[:2], 2)
    return {**expected, "boxes": expected["boxes"] * scale}, {**found, "boxes": found["boxes"] * scale}


def _serving_module(detector: Any, image_size: tuple[int, int], fit: str, settings: NMSSettings) -> tf.Module:
    """What is saved: the graph and the variables it reads, and no Keras object."""
    module = tf.Module()
    module.variables_read = [variable.value for variable in detector.variables]
    fitted = (tf.TensorSpec([*image_size, 3], tf.uint8), tf.TensorSpec([4], tf.float32))

    @tf.function(input_signature=[tf.TensorSpec([None, None, None, 3], tf.uint8, name="images")])
    def detect_images(images):
        network_inputs, parameters = tf.map_fn(
            lambda image: letterbox(image, image_size, fit), images, fn_output_signature=fitted
        )
        size = tf.tile(tf.shape(images)[None, 1:3], [tf.shape(images)[0], 1])
        return detect(detector, network_inputs, parameters, size, settings)

    module.detect = detect_images
    return module


def _write_json(path: Path, content: dict) -> None:
    path.parent.mkdir()
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
