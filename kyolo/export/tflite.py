"""A TFLite file for phones, boards and browsers, and the class that runs one."""

import contextlib
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter

from kyolo.errors import InputError
from kyolo.export.parity import ParityReport, compare_outputs
from kyolo.files import new_output


def to_tflite(
    detector: Any,
    path: str | os.PathLike,
    *,
    image_size: tuple[int, int],
    fit: str = "letterbox",
    images: Sequence[np.ndarray] = (),
) -> ParityReport | None:
    """Write a float32 `.tflite` file of static shape, of ops that every TFLite runtime has built in.

    Its signature takes `images`, float32 (1, H, W, 3) RGB 0..255, and returns `boxes` (1, A, 4) xyxy in 0..1 of the
    network's input, and `scores` (1, A, K) in 0..1: every anchor point, before the suppression, whose ops the GPU
    delegate does not take. The pixels come unscaled, so that an app copies them and nothing can be got wrong. They come
    as float32, as MediaPipe Tasks wants them for a float model; uint8 would put a CAST in front.

    Args:
        detector: a `Detector` in float32; its averaged weights are used where it keeps them.
        path: file to write, in one go; it must not exist.
        image_size: (H, W) of the network's input.
        fit: "letterbox" or "stretch": how `images` are brought to that size.
        images: real images, (h, w, 3) uint8, on which the export is compared with the detector before it is kept.

    Returns:
        How far the export is from the detector; None without images.

    Raises:
        InputError: `path` exists.
        ExportError: the export's boxes or scores are not the detector's; nothing is left behind.

    Example:
        >>> to_tflite(detector, "detector.tflite", image_size=(320, 320))
        >>> evaluate(TFLiteDetector("detector.tflite"), val)["ap"]
    """
    with new_output(path) as temporary, detector.ema_weights():
        temporary.write_bytes(_convert(detector, image_size))
        if not images:
            return None
        exported = TFLiteDetector(temporary)
        return compare_outputs(detector, exported, images, image_size=image_size, fit=fit).check()


class TFLiteDetector:
    """Runs a `.tflite` file that `to_tflite` wrote, wherever a `Detector` is evaluated or predicts.

    Args:
        path: the file.
        num_threads: of the interpreter.

    Attributes:
        image_size: (H, W) of the network's input.
        num_classes: K.

    Raises:
        InputError: the file is missing, or is not such a file.

    Example:
        >>> detector = TFLiteDetector("detector.tflite")
        >>> for found in predict_paths(detector, ["a.jpg"], image_size=detector.image_size, class_names=["cell"]):
        ...     print(found["boxes"])
    """

    def __init__(self, path: str | os.PathLike, *, num_threads: int = 2):
        if not Path(path).is_file():
            raise InputError(f"{path}: expected a .tflite file, received a path without one; check the path")
        try:
            self._interpreter = Interpreter(model_path=str(path), num_threads=num_threads)
            self._run = self._interpreter.get_signature_runner()
            (_, *image_size, _) = self._run.get_input_details()["images"]["shape"].tolist()
            outputs = self._run.get_output_details()
            self._shapes = {name: tuple(outputs[name]["shape"][1:].tolist()) for name in ("boxes", "scores")}
        except (ValueError, KeyError) as error:
            raise InputError(
                f"{path}: expected a .tflite file that kyolo exported, received one with other contents; export it anew"
            ) from error
        self.image_size = tuple(image_size)
        self.num_classes = self._shapes["scores"][-1]

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
            raise InputError(
                f"images: expected the size of the .tflite file, {self.image_size}, received {tuple(images.shape[1:3])}"
            )
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
        results = [self._run(images=image[None].astype(np.float32)) for image in images]
        return tuple(np.concatenate([result[name] for result in results]) for name in ("boxes", "scores"))


def _convert(detector: Any, image_size: tuple[int, int]) -> bytes:
    height, width = image_size
    module = tf.Module()
    module.variables_read = [variable.value for variable in detector.variables]

    @tf.function(input_signature=[tf.TensorSpec([1, height, width, 3], tf.float32, name="images")])
    def network(images):
        boxes, scores = detector.decode(detector(images, training=False), image_size=image_size)
        boxes = boxes / tf.constant([width, height, width, height], tf.float32)
        return {"boxes": tf.clip_by_value(boxes, 0.0, 1.0), "scores": scores}

    with tempfile.TemporaryDirectory() as folder:
        # Through a SavedModel: from the concrete function alone the converter does not freeze the weights.
        tf.saved_model.save(module, folder, signatures=network)
        converter = tf.lite.TFLiteConverter.from_saved_model(folder)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]  # any other op is an error
        return converter.convert()
