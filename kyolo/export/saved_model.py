"""A SavedModel that takes images of any size and returns detections: for servers, without kyolo."""

import contextlib
import json
import os
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import tensorflow as tf

from kyolo.boxes.nms import NMSSettings
from kyolo.data import letterbox
from kyolo.evaluation.detect import Detections, Predictor, detect
from kyolo.evaluation.predict import nms_settings
from kyolo.export.network import WITHOUT_GRADIENTS, network_module
from kyolo.export.parity import ParityReport, compare_detections, compare_outputs
from kyolo.files import new_output, write_text

VERSION = "1"  # TensorFlow Serving looks for versions in folders of their numbers, and takes the highest
CONTRACT_FILE = "assets.extra/detector.json"  # a folder that TensorFlow leaves to others


def to_saved_model(
    detector: Any,
    path: str | os.PathLike,
    *,
    images: Sequence[np.ndarray] = (),
    **settings: Any,
) -> ParityReport | None:
    """Write a SavedModel that does everything from images to detections, and loads without kyolo.

    It lies in the folder `1` of `path`, as TensorFlow Serving wants it, with three signatures:

    - `serving_default`: `images`, uint8 (B, H, W, 3) RGB, any B, H, W.
    - `encoded`: `images`, a vector of the bytes of B JPEG, PNG, BMP or GIF files. Orientation that EXIF tells is not
      followed, and of a GIF the first frame counts.
    - `raw`: `images`, float32 (B, H, W, 3) RGB 0..255, H and W multiples of the largest stride.

    The first two return `boxes` (B, N, 4) xyxy in pixels of these images, `scores` (B, N), `labels` int32 (B, N), by
    falling score with zeros after the last one, and `num_detections` int32 (B,). `raw` returns `boxes` (B, A, 4) xyxy
    in pixels and `scores` (B, A, K) of all anchor points. Class names and settings lie beside it in
    `assets.extra/detector.json`.

    Args:
        detector: a `Detector` in float32; its averaged weights are used where it keeps them.
        path: folder to write, in one go; it must not exist.
        images: real images, (h, w, 3) uint8, on which each signature is compared with the detector before any is kept.
        **settings: `confidence`, `iou`, `max_detections`, `multi_label`. Default: those of `detector.nms`.

    Returns:
        How far the export is from the detector; None without images.

    Raises:
        InputError: `path` exists.
        ExportError: the export's detections are not the detector's; nothing is left behind.

    Example:
        >>> to_saved_model(detector, folder / "exported", confidence=0.4)
        >>> serve = tf.saved_model.load(str(folder / "exported" / "1")).signatures["serving_default"]
        >>> sorted(serve(images=np.zeros((1, 48, 100, 3), "uint8")))
        ['boxes', 'labels', 'num_detections', 'scores']
    """
    settings = nms_settings(detector, settings)
    image_size, fit = detector.image_size, detector.image_fit
    with new_output(path, folder=True) as temporary, detector.ema_weights():
        version = temporary / VERSION
        module = _serving_module(detector, settings)
        tf.saved_model.save(module, str(version), signatures=module.graphs, options=WITHOUT_GRADIENTS)
        contract = {
            "class_names": list(detector.class_names),
            "image_size": list(image_size),
            "fit": fit,
            **asdict(settings),
        }
        (version / CONTRACT_FILE).parent.mkdir()
        write_text(version / CONTRACT_FILE, json.dumps(contract, indent=2) + "\n")
        if not images:
            return None
        loaded = tf.saved_model.load(str(version))  # whose signatures do not keep its variables alive
        inputs = [letterbox(image, image_size, fit)[0].numpy() for image in images]
        compare_outputs(detector, RawSignature(loaded), inputs).check("float32", image_size)
        predictor = Predictor(detector, settings)
        for name, bring in (("encoded", lambda image: tf.io.encode_png(image)[None]), ("serving_default", _batch)):
            pairs = (_both(predictor, loaded.signatures[name], image, bring(image)) for image in images)
            report = compare_detections(pairs, settings).check("float32", image_size)
        return report


class RawSignature:
    """The signature `raw` of a loaded SavedModel, where a `Detector` is evaluated or compared."""

    def __init__(self, loaded: Any):
        self._loaded = loaded

    def __call__(self, images: tf.Tensor, training: bool = False) -> dict[str, tf.Tensor]:
        """Run the network on (B, H, W, 3) RGB 0..255; `training` is not used."""
        del training
        return self._loaded.signatures["raw"](images=tf.cast(images, tf.float32))

    def decode(self, outputs: dict[str, tf.Tensor], image_size: tuple[int, int]) -> tuple[tf.Tensor, tf.Tensor]:
        """Return boxes (B, A, 4) xyxy in pixels of the network's input and scores (B, A, K), as the signature does."""
        del image_size
        return outputs["boxes"], outputs["scores"]

    def ema_weights(self) -> contextlib.AbstractContextManager:
        """Change nothing: there is one set of weights."""
        return contextlib.nullcontext()


def _batch(image: np.ndarray) -> tf.Tensor:
    return tf.constant(image[None])


def _both(predictor: Predictor, exported: Any, image: np.ndarray, given: tf.Tensor) -> tuple[Detections, Detections]:
    """The detector's detections and the export's in an image of any size, boxes in pixels of the network's input."""
    network_input, parameters = predictor.fit_image(image)
    (expected,) = predictor.predict([(network_input[None], parameters[None], [image.shape[:2]])])
    found = {name: np.asarray(value[0]) for name, value in exported(images=given).items()}
    count = found.pop("num_detections")
    found = {name: value[:count] for name, value in found.items()}
    scale = np.tile(parameters[:2], 2)
    return {**expected, "boxes": expected["boxes"] * scale}, {**found, "boxes": found["boxes"] * scale}


def _serving_module(detector: Any, settings: NMSSettings) -> tf.Module:
    image_size, fit = detector.image_size, detector.image_fit
    fitted = (tf.TensorSpec([*image_size, 3], tf.uint8), tf.TensorSpec([4], tf.float32), tf.TensorSpec([2], tf.int32))

    def fit_to_network(image: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        return *letterbox(image, image_size, fit), tf.shape(image)[:2]

    def detect_images(images: tf.Tensor) -> dict[str, tf.Tensor]:
        return detect(detector, *tf.map_fn(fit_to_network, images, fn_output_signature=fitted), settings)

    def detect_encoded(images: tf.Tensor) -> dict[str, tf.Tensor]:
        return detect(
            detector,
            *tf.map_fn(lambda file: fit_to_network(_decode(file)), images, fn_output_signature=fitted),
            settings,
        )

    def decode_points(images: tf.Tensor) -> dict[str, tf.Tensor]:
        size = tf.unstack(tf.shape(images)[1:3])
        boxes, scores = detector.decode(detector(images, training=False), image_size=size)
        return {"boxes": boxes, "scores": scores}

    any_size = [None, None, None, 3]
    return network_module(
        detector,
        {
            "serving_default": (detect_images, tf.TensorSpec(any_size, tf.uint8, name="images")),
            "encoded": (detect_encoded, tf.TensorSpec([None], tf.string, name="images")),
            "raw": (decode_points, tf.TensorSpec(any_size, tf.float32, name="images")),
        },
    )


def _decode(file: tf.Tensor) -> tf.Tensor:
    """An image from the bytes of a file of any format that TensorFlow has; JPEG as exactly as in training."""
    image = tf.cond(
        tf.io.is_jpeg(file),
        lambda: tf.io.decode_jpeg(file, channels=3, dct_method="INTEGER_ACCURATE"),
        lambda: tf.io.decode_image(file, channels=3, expand_animations=False),
    )
    return tf.ensure_shape(image, [None, None, 3])
