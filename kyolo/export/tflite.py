"""A TFLite file for phones, boards and browsers."""

import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from kyolo.boxes.nms import NMSSettings
from kyolo.data import letterbox
from kyolo.errors import InputError
from kyolo.evaluation.detect import Detections
from kyolo.export.conversion import PRECISIONS, convert, with_types
from kyolo.export.flatbuffer import describe
from kyolo.export.metadata import add_metadata, check_labels
from kyolo.export.network import WITHOUT_GRADIENTS, detection_outputs, find, network_module, raw_outputs, task_outputs
from kyolo.export.parity import ParityReport, compare_detections, compare_outputs
from kyolo.export.tflite_detector import TFLiteDetector, TFLiteEndToEnd
from kyolo.files import new_output

INTERFACE_TYPES = ("float32", "uint8", "int8")
NMS_DEFAULTS = NMSSettings(max_detections=100)


@dataclass(frozen=True)
class TFLiteOptions:
    """What a `.tflite` file is to be.

    Attributes:
        precision: "float32"; "float16": weights of half the size; "dynamic": weights int8, activations quantized as
            they come; "int8": weights and activations int8 up to the last convolutions, which `calibration` is for.
        input_type: of the pixels 0..255: "float32"; with int8 also "uint8", or "int8", which is 128 less.
        output_type: "float32"; with int8 also "uint8" (255 stands for 1) or "int8" (127 stands for 1, -128 for 0).
        nms: settings of a suppression inside the file; None for none. `NMS_DEFAULTS` lists 100 detections.
        metadata: with `nms`: the file is one for MediaPipe Tasks, with its four outputs `locations` (1, N, 4) as ymin,
            xmin, ymax, xmax, `categories` (1, N), `scores` (1, N), `count` (1,), all float32, and TFLite Metadata.
            Needs the extra `mediapipe`. Without it: the outputs that `to_tflite` tells.

    Raises:
        InputError: a value that there is not, or types of 8 bits for another precision than int8.
    """

    precision: str = "float32"
    input_type: str = "float32"
    output_type: str = "float32"
    nms: NMSSettings | None = None
    metadata: bool = False

    def __post_init__(self):
        allowed = {"precision": PRECISIONS, "input_type": INTERFACE_TYPES, "output_type": INTERFACE_TYPES}
        for name, values in allowed.items():
            if getattr(self, name) not in values:
                raise InputError(f"{name}: expected one of {', '.join(values)}, received {getattr(self, name)!r}")
        for name in ("input_type", "output_type"):
            if self.precision != "int8" and getattr(self, name) != "float32":
                raise InputError(
                    f"{name}: expected float32 with the precision {self.precision}, received {getattr(self, name)}; "
                    f"only precision int8 has others"
                )
        if self.metadata:
            self._check_task()

    def _check_task(self) -> None:
        types = (self.input_type, self.output_type)
        if self.nms is None or types[0] == "int8" or types[1] != "float32":
            raise InputError(
                f"metadata: expected nms, input_type float32 or uint8 and output_type float32, which MediaPipe "
                f"Tasks wants, received {'no nms' if self.nms is None else ' and '.join(types)}"
            )


def to_tflite(
    detector: Any,
    path: str | os.PathLike,
    *,
    images: Sequence[np.ndarray] = (),
    calibration: Sequence[np.ndarray] = (),
    **options: Any,
) -> ParityReport | None:
    """Write a `.tflite` file of static shape, of ops that every TFLite runtime has built in.

    Its signature takes `images` (1, H, W, 3) RGB 0..255, and returns `boxes` (1, A, 4) xyxy in 0..1 of the network's
    input, and `scores` (1, A, K) in 0..1: every anchor point, before the suppression, whose ops the GPU delegate does
    not take. With `nms` it returns detections: `boxes` (1, N, 4), `scores` (1, N), `labels` int32 (1, N), by falling
    score with zeros after the last one, and `num_detections` int32 (1,). The pixels come unscaled, so that an app
    copies them and nothing can be got wrong. The model's description is JSON of `class_names` and `fit`.

    Args:
        detector: a `Detector` in float32; its averaged weights are used where it keeps them.
        path: file to write, in one go; it must not exist.
        images: real images, (h, w, 3) uint8, on which the export is compared with the detector before it is kept.
        calibration: real images of the training set, a hundred or more, whose values set the ranges of int8.
        **options: `precision`, `input_type`, `output_type`, `nms`, `metadata`, as in `TFLiteOptions`.

    Returns:
        How far the export is from the detector; None without images.

    Raises:
        InputError: `path` exists, an option is wrong, or int8 has nothing to calibrate on.
        ExportError: the export's boxes or scores are not the detector's; nothing is left behind.

    Example:
        ```python
        to_tflite(detector, "detector.tflite", precision="int8", calibration=images)
        print(kyolo.evaluate(TFLiteDetector("detector.tflite"), val)["ap"])
        ```
    """
    options = TFLiteOptions(**options)
    if options.metadata:
        check_labels(detector.class_names)
    if options.precision == "int8" and not len(calibration):
        raise InputError("calibration: expected images of the training set for int8, received none")
    shown, inputs = (
        [np.asarray(letterbox(image, detector.image_size, detector.image_fit)[0]) for image in each]
        for each in (calibration if options.precision == "int8" else (), images)
    )
    with new_output(path) as temporary, detector.ema_weights():
        temporary.write_bytes(_converted(detector, options, shown))
        if not inputs:
            return None
        return _compare(detector, temporary, options, inputs).check(options.precision, detector.image_size)


def _compare(detector: Any, path: Path, options: TFLiteOptions, inputs: Sequence[np.ndarray]) -> ParityReport:
    if options.nms is None and options.precision == "float32":
        return compare_outputs(detector, TFLiteDetector(path), inputs)
    return compare_found(detector, path, inputs, options.nms, options.precision)


def compare_found(
    detector: Any, path: Path, inputs: Sequence[np.ndarray], nms: NMSSettings | None, precision: str
) -> ParityReport:
    """Compare what a file finds with what the detector finds.

    Args:
        detector: the `Detector`.
        path: the file.
        inputs: network inputs, (H, W, 3) 0..255.
        nms: settings of the suppression in the file; None where there is none: `NMS_DEFAULTS` for both.
        precision: of the file.

    Returns:
        The report, not checked.
    """
    exported = TFLiteDetector(path) if nms is None else TFLiteEndToEnd(path)
    size, settings = exported.image_size, nms or NMS_DEFAULTS

    def detections(network: Any, image: np.ndarray) -> Detections:
        found = network(image) if isinstance(network, TFLiteEndToEnd) else find(network, image, settings)
        return {**found, "boxes": found["boxes"] * np.array([size[1], size[0]] * 2, np.float32)}

    pairs = (tuple(detections(each, image) for each in (detector, exported)) for image in inputs)
    return compare_detections(pairs, settings, precision)


def _converted(detector: Any, options: TFLiteOptions, calibration: Sequence[np.ndarray]) -> bytes:
    def network(images: tf.Tensor) -> dict[str, tf.Tensor]:
        raw = raw_outputs(detector, images)
        if options.nms is None:
            return raw
        detections = detection_outputs(raw, options.nms)
        return task_outputs(detections) if options.metadata else detections

    images = tf.TensorSpec([1, *detector.image_size, 3], tf.float32, name="images")
    module = network_module(detector, {"serving_default": (network, images)})
    with tempfile.TemporaryDirectory() as folder:
        # Through a SavedModel: from the concrete function alone the converter does not freeze the weights.
        tf.saved_model.save(module, folder, signatures=module.graphs, options=WITHOUT_GRADIENTS)
        content = convert(Path(folder), options.precision, calibration)
    content = with_types(content, options.input_type, options.output_type)
    content = describe(content, detector.class_names, detector.image_fit)
    if not options.metadata:
        return content
    names = detector.class_names
    return add_metadata(content, names, f"Detector of {len(names)} classes, made with kyolo")
