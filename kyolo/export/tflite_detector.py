"""Runs the `.tflite` files that kyolo writes, where a `Detector` would stand."""

import contextlib
import os
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter

from kyolo.boxes.nms import NMSSettings
from kyolo.errors import InputError
from kyolo.export.flatbuffer import description

RAW = {"boxes", "scores"}
DETECTIONS = {"boxes", "scores", "labels", "num_detections"}
TASK = {"locations", "categories", "scores", "count"}  # MediaPipe's


class _File:
    """A file of one signature, whose values cross its border as floats, whatever their types in it.

    Args:
        path: the file.
        outputs: names of the outputs that it must have, for each kind of file.
        num_threads: of the interpreter.

    Raises:
        InputError: the file is missing, or is not such a file.
    """

    def __init__(self, path: str | os.PathLike, outputs: tuple[set[str], ...], num_threads: int):
        if not Path(path).is_file():
            raise InputError(f"{path}: expected a .tflite file, received a path without one; check the path")
        try:
            self._interpreter = Interpreter(model_path=str(path), num_threads=num_threads)
            self._run = self._interpreter.get_signature_runner()
            self._input = self._run.get_input_details()["images"]
            self.outputs = self._run.get_output_details()
        except (ValueError, KeyError, RuntimeError) as error:
            raise InputError(_refusal(path, "one with other contents")) from error
        if set(self.outputs) not in outputs:
            raise InputError(_refusal(path, f"one with the outputs {', '.join(sorted(self.outputs))}"))
        (_, *image_size, _) = self._input["shape"].tolist()
        self.image_size = tuple(image_size)
        self.class_names, self.image_fit = description(Path(path).read_bytes())

    def run(self, image: np.ndarray) -> dict[str, np.ndarray]:
        """Run the network on one image, (H, W, 3) 0..255, and return what it gives with the first axis."""
        if image.shape != (*self.image_size, 3):
            raise InputError(_wrong_size(self.image_size, image.shape[:2]))
        if self._input["dtype"] is np.int8:
            image = image.astype(np.int16) - 128
        found = self._run(images=image[None].astype(self._input["dtype"]))
        return {name: _dequantized(value, self.outputs[name]) for name, value in found.items()}


def _dequantized(value: np.ndarray, details: dict[str, Any]) -> np.ndarray:
    scale, zero_point = details["quantization"]
    return (value.astype(np.float32) - zero_point) * np.float32(scale) if scale else value


def _wrong_size(expected: tuple, received: tuple) -> str:
    return f"images: expected the size of the .tflite file, {expected}, received {received}"


def _refusal(path: str | os.PathLike, received: str) -> str:
    return f"{path}: expected a .tflite file that kyolo exported, received {received}; export it anew"


class TFLiteDetector:
    """Runs a `.tflite` file without a suppression wherever a `Detector` is evaluated or predicts.

    Args:
        path: a file that `to_tflite` wrote without `nms`.
        num_threads: of the interpreter.

    Attributes:
        image_size: (H, W) of the network's input.
        image_fit: "letterbox" or "stretch": how images are brought to it; "letterbox" if the file does not tell.
        class_names: name of each label; "0", "1", ... if the file does not tell.
        num_classes: K.
        nms: `NMSSettings` of predictions. Default: `NMSSettings()`.
        run: from one network input, (H, W, 3) 0..255, to `boxes` and `scores` as NumPy arrays, without TensorFlow.

    Raises:
        InputError: the file is missing, or is not such a file.

    Example:
        ```python
        detector = TFLiteDetector("detector.tflite")
        for found in kyolo.predict(detector, ["images/"]):
            print(found["boxes"])
        ```
    """

    def __init__(self, path: str | os.PathLike, *, num_threads: int = 2):
        self._file = _File(path, (RAW,), num_threads)
        self.run = self._file.run
        self._shapes = {name: tuple(self._file.outputs[name]["shape"][1:].tolist()) for name in ("boxes", "scores")}
        self.image_size, self.image_fit = self._file.image_size, self._file.image_fit or "letterbox"
        self.num_classes = self._shapes["scores"][-1]
        self.class_names = tuple(self._file.class_names) or tuple(map(str, range(self.num_classes)))
        self.nms = NMSSettings()

    def __call__(self, images: tf.Tensor, training: bool = False) -> dict[str, tf.Tensor]:
        """Run the network, one image at a time.

        Args:
            images: (B, H, W, 3) RGB 0..255.
            training: not used; a `Detector` has it.

        Returns:
            boxes (B, A, 4) xyxy in 0..1 of the network's input, scores (B, A, K).
        """
        del training
        if tuple(images.shape[1:3]) != self.image_size:
            raise InputError(_wrong_size(self.image_size, tuple(images.shape[1:3])))
        outputs = tf.numpy_function(self._run_batch, [images], [tf.float32, tf.float32])
        return {
            name: tf.ensure_shape(output, [images.shape[0], *shape])
            for output, (name, shape) in zip(outputs, self._shapes.items(), strict=True)
        }

    def decode(self, outputs: dict[str, tf.Tensor], image_size: tuple[int, int]) -> tuple[tf.Tensor, tf.Tensor]:
        """Bring the boxes to pixels, as `Detector.decode` returns them.

        Args:
            outputs: of a call.
            image_size: (H, W) of the network's input.

        Returns:
            boxes (B, A, 4) xyxy in pixels of the network's input, scores (B, A, K).
        """
        height, width = image_size
        return outputs["boxes"] * tf.constant([width, height, width, height], tf.float32), outputs["scores"]

    def ema_weights(self) -> contextlib.AbstractContextManager:
        """Change nothing: the file has one set of weights."""
        return contextlib.nullcontext()

    def _run_batch(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        results = [self._file.run(image) for image in images]
        return tuple(np.concatenate([result[name] for result in results]) for name in ("boxes", "scores"))


class TFLiteEndToEnd:
    """Runs a `.tflite` file that holds the suppression too.

    Args:
        path: a file that `to_tflite` wrote with `nms`, with `metadata` or without.
        num_threads: of the interpreter.

    Attributes:
        image_size: (H, W) of the network's input.
        image_fit: "letterbox" or "stretch": how images are brought to it; None where the file does not tell.
        class_names: name of each label; empty where the file does not tell.
        max_detections: the most that it lists.
        run: from one network input, (H, W, 3) 0..255, to the file's outputs as NumPy arrays.

    Raises:
        InputError: the file is missing, or is not such a file.

    Example:
        ```python
        found = TFLiteEndToEnd("detector.tflite")(image)
        print(found["boxes"], found["scores"], found["labels"])
        ```
    """

    def __init__(self, path: str | os.PathLike, *, num_threads: int = 2):
        self._file = _File(path, (DETECTIONS, TASK), num_threads)
        self.run = self._file.run
        self.image_size, self.image_fit = self._file.image_size, self._file.image_fit
        self.class_names = self._file.class_names
        self.max_detections = int(self._file.outputs["scores"]["shape"][-1])

    def __call__(self, image: np.ndarray) -> dict[str, np.ndarray]:
        """Detections in one network input, (H, W, 3) RGB 0..255.

        Returns:
            boxes (n, 4) xyxy in 0..1 of the network's input, scores (n,) by falling score, labels int32 (n,).
        """
        found = {name: value[0] for name, value in self._file.run(image).items()}
        if found.keys() == TASK:
            found = {
                "boxes": found["locations"][:, [1, 0, 3, 2]],
                "scores": found["scores"],
                "labels": found["categories"].astype(np.int32),
                "num_detections": found["count"],
            }
        count = int(found.pop("num_detections"))
        return {name: value[:count] for name, value in found.items()}
