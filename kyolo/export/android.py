"""Everything that an Android app needs of a detector, in one folder."""

import contextlib
import importlib.resources
import io
import json
import os
import string
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter
from PIL import Image

import kyolo
from kyolo.boxes.nms import NMSSettings
from kyolo.data import letterbox
from kyolo.errors import InputError
from kyolo.export.errors import ExportError
from kyolo.export.metadata import check_labels
from kyolo.export.network import find
from kyolo.export.parity import ParityReport, tolerance
from kyolo.export.tflite import NMS_DEFAULTS, to_tflite
from kyolo.files import new_output, write_text

CHECKS = 3
GPU, INT8, MEDIAPIPE = "detector_gpu.tflite", "detector_int8.tflite", "detector_mediapipe.tflite"
FILE_PRECISIONS = {GPU: "float16", INT8: "int8", MEDIAPIPE: "float16"}
MEANINGS = {
    "images": "RGB pixels 0..255, the image fitted to the input",
    "boxes": "x1, y1, x2, y2 in 0..1 of the input",
    "scores": "0..1; without a suppression one for each point and class",
    "labels": "line of labels.txt, from 0",
    "num_detections": "how many of the rows before are detections, by falling score; zeros follow",
    "locations": "y1, x1, y2, x2 in 0..1 of the input",
    "categories": "line of labels.txt, from 0",
    "count": "how many of the rows before are detections, by falling score; zeros follow",
}
FITS = {
    "letterbox": "s = min(W / w, H / h); resized to round(w s) x round(h s), halves to even, bilinear; centred on grey "
    "114 of W x H, an odd pixel to the right or bottom; x_image = (x_input - left) w / round(w s), y alike, cut at the "
    "image",
    "stretch": "resized to W x H, bilinear; x_image = x_input w / W, y alike, cut at the image",
}
FIT_KOTLIN = {
    "letterbox": """\
        val scale = minOf(width.toDouble() / bitmap.width, height.toDouble() / bitmap.height)
        val fittedWidth = maxOf(Math.rint(bitmap.width * scale).toInt(), 1)
        val fittedHeight = maxOf(Math.rint(bitmap.height * scale).toInt(), 1)
        val left = ((width - fittedWidth) / 2).toFloat()
        val top = ((height - fittedHeight) / 2).toFloat()
        val scaleX = fittedWidth.toFloat() / bitmap.width
        val scaleY = fittedHeight.toFloat() / bitmap.height""",
    "stretch": """\
        val (left, top) = 0f to 0f
        val scaleX = width.toFloat() / bitmap.width
        val scaleY = height.toFloat() / bitmap.height""",
}
STRETCH_NOTES = {
    "letterbox": "This detector is for letterboxed images: it loses accuracy there.",
    "stretch": "So does the rule in `contract.json`.",
}


def to_android(
    detector: Any,
    path: str | os.PathLike,
    *,
    images: Sequence[np.ndarray],
    calibration: Sequence[np.ndarray],
    **settings: Any,
) -> dict[str, ParityReport]:
    """Write a folder for an Android app: three `.tflite` files, labels, a contract, a check, and Kotlin that uses them.

    `detector_gpu.tflite` has weights in half precision, no suppression, and only ops that the GPU delegate takes;
    `detector_int8.tflite` takes uint8 pixels and lists detections; `detector_mediapipe.tflite` is for MediaPipe Tasks.

    Args:
        detector: a `Detector` in float32; its averaged weights are used where it keeps them.
        path: folder to write, in one go; it must not exist.
        images: real images, (h, w, 3) uint8, on which the files are compared with the detector; the first three become
            the check.
        calibration: real images of the training set, a hundred or more, whose values set the ranges of int8.
        **settings: `confidence`, `iou`, `max_detections`, `multi_label` of the suppression. Default: `NMS_DEFAULTS`.

    Returns:
        How far each file is from the detector, by its name.

    Raises:
        InputError: `path` exists, images are missing, or the extra `mediapipe` is not installed.
        ExportError: a file does not give the detector's results, or is not for the GPU; nothing is left behind.

    Example:
        ```python
        to_android(detector, "app", images=val_images, calibration=train_images)
        ```
    """
    if not len(images):
        raise InputError("images: expected some to compare the files on, received none")
    nms = replace(NMS_DEFAULTS, **settings)
    image_size, fit, class_names = detector.image_size, detector.image_fit, detector.class_names
    check_labels(class_names)
    shared = {"images": images, "calibration": calibration}
    options: dict[str, dict[str, Any]] = {
        GPU: {},
        INT8: {"input_type": "uint8", "nms": nms},
        MEDIAPIPE: {"nms": nms, "metadata": True},
    }
    with new_output(path, folder=True) as folder:
        folder.mkdir()
        reports = {
            name: to_tflite(detector, folder / name, precision=FILE_PRECISIONS[name], **options[name], **shared)
            for name in options
        }
        _check_gpu(folder / GPU)
        (folder / "labels.txt").write_text("".join(f"{name}\n" for name in class_names), encoding="utf-8")
        contract = {
            "image_size": list(image_size),
            "fit": {"kind": fit, "rule": FITS[fit]},
            "class_names": list(class_names),
            "suppression": asdict(nms),
            "files": {name: _tensors(folder / name) | {"precision": FILE_PRECISIONS[name]} for name in options},
        }
        write_text(folder / "contract.json", json.dumps(contract, indent=2) + "\n")
        inputs = [letterbox(image, image_size, fit)[0].numpy() for image in images[:CHECKS]]
        _write_check(detector, folder / "check", inputs, nms)
        (folder / "README.md").write_text(_readme(detector, nms), encoding="utf-8")
        return reports


def _check_gpu(path: Path) -> None:
    with contextlib.redirect_stdout(io.StringIO()) as found:
        tf.lite.experimental.Analyzer.analyze(model_path=str(path), gpu_compatibility=True)
    if "Your model looks compatible with GPU delegate" not in found.getvalue():
        complaints = [line for line in found.getvalue().splitlines() if "GPU" in line]
        raise ExportError(f"{path.name}: expected ops that the GPU delegate takes, received {' '.join(complaints)}")


def _tensors(path: Path) -> dict[str, Any]:
    """Names, shapes, types and meanings of a file's tensors, in the file's order."""
    interpreter = Interpreter(model_path=str(path))
    runner = interpreter.get_signature_runner()
    by_side = {"inputs": runner.get_input_details(), "outputs": runner.get_output_details()}
    order = {detail["index"]: i for i, detail in enumerate(interpreter.get_output_details())}
    return {
        side: [
            {
                "name": name,
                "shape": detail["shape"].tolist(),
                "type": np.dtype(detail["dtype"]).name,
                "scale_and_zero_point": list(detail["quantization"]) if detail["quantization"][0] else None,
                "meaning": MEANINGS[name],
            }
            for name, detail in sorted(details.items(), key=lambda item: order.get(item[1]["index"], 0))
        ]
        for side, details in by_side.items()
    }


def _write_check(detector: Any, folder: Path, inputs: Sequence[np.ndarray], nms: NMSSettings) -> None:
    folder.mkdir()
    expected = []
    with detector.ema_weights():
        for i, image in enumerate(inputs):
            Image.fromarray(image).save(folder / f"{i}.png")
            found = {name: array.tolist() for name, array in find(detector, image, nms).items()}
            expected.append(
                {"image": f"{i}.png", **found, "names": [detector.class_names[label] for label in found["labels"]]}
            )
    tolerances = {
        name: asdict(tolerance(precision, inputs[0].shape[:2])) | {"box_unit": "pixels of the input"}
        for name, precision in FILE_PRECISIONS.items()
    }
    content = {"tolerances": tolerances, "images": expected}
    write_text(folder / "expected.json", json.dumps(content, indent=2) + "\n")


def _readme(detector: Any, nms: NMSSettings) -> str:
    template = importlib.resources.files("kyolo.export").joinpath("android_readme.md").read_text(encoding="utf-8")
    return string.Template(template).substitute(
        version=kyolo.__version__,
        num_classes=len(detector.class_names),
        classes=", ".join(detector.class_names),
        height=detector.image_size[0],
        width=detector.image_size[1],
        max_detections=nms.max_detections,
        confidence=nms.confidence,
        iou=nms.iou,
        stretch_note=STRETCH_NOTES[detector.image_fit],
        fit_kotlin=FIT_KOTLIN[detector.image_fit],
    )
