"""Detections in image files."""

import glob
import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import tensorflow as tf

from kyolo.data import letterbox, read_image
from kyolo.errors import InputError
from kyolo.evaluation.detect import NMSSettings, Predictor

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif")  # what read_image decodes


def find_images(paths: Iterable[str | os.PathLike]) -> list[str]:
    """Expand images, folders and glob patterns to image files, each once, in the order given.

    Args:
        paths: of each an image (of any suffix), a folder (its images, by name, without those of its subfolders) or a
            glob pattern ("scans/**/*.png"; what it matches by name).

    Returns:
        Paths of files.

    Raises:
        InputError: a path is missing, or a folder or pattern holds no image.
    """
    found: dict[str, None] = {}
    for path in map(os.fspath, paths):
        if os.path.isfile(path):
            files = [path]
        elif os.path.isdir(path):
            files = _images_among(os.path.join(path, name) for name in os.listdir(path))
        elif glob.has_magic(path):
            files = _images_among(glob.glob(path, recursive=True))
        else:
            raise InputError(f"{path}: expected an image, a folder or a glob pattern, received a path that is missing")
        if not files:
            raise InputError(f"{path}: expected images ({', '.join(IMAGE_SUFFIXES)}), received none; check the path")
        found.update(dict.fromkeys(files))
    if not found:
        raise InputError("expected at least one image, folder or glob pattern, received none")
    return list(found)


def predict_paths(
    detector: Any,
    paths: Sequence[str | os.PathLike],
    *,
    image_size: tuple[int, int],
    fit: str = "letterbox",
    class_names: Sequence[str],
    batch_size: int = 16,
    **settings: Any,
) -> Iterator[dict[str, Any]]:
    """Detect in image files of any size, one batch in memory at a time.

    What it yields with the settings of `evaluate` and the same batch size gives the same AP.

    Args:
        detector: a `Detector` (its averaged weights are used where it keeps them) or a `TFLiteDetector`.
        paths: image files, as from `find_images`.
        image_size: (H, W) of the network's input.
        fit: "letterbox" or "stretch", as in training.
        class_names: name of each label.
        batch_size: images that run together.
        **settings: `confidence`, `iou`, `max_detections`, `multi_label`, as in `NMSSettings`, whose defaults hold.

    Yields:
        An image's dict, in order: image (path), boxes [[x1, y1, x2, y2], ...] in pixels of the original image, scores,
        labels (0-based), names; plain lists by falling score.

    Raises:
        InputError: a file is no image.

    Example:
        >>> paths = find_images(["pictures/"])
        >>> for found in predict_paths(detector, paths, image_size=(320, 320), class_names=["cell"], confidence=0.5):
        ...     print(found["image"], found["boxes"])
    """
    predictor = Predictor(detector, NMSSettings(**settings))

    def network_input(path: str | os.PathLike) -> tuple[tf.Tensor, tf.Tensor, tuple[int, int]]:
        image = read_image(path)
        return *letterbox(image, image_size, fit), image.shape[:2]

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for start in range(0, len(paths), batch_size):
            batch_paths = paths[start : start + batch_size]
            batch = tuple(tf.stack(part) for part in zip(*pool.map(network_input, batch_paths), strict=True))
            with detector.ema_weights():
                batch_detections = list(predictor.predict([batch]))
            for path, detections in zip(batch_paths, batch_detections, strict=True):
                found = {name: array.tolist() for name, array in detections.items()}
                names = [class_names[label] for label in found["labels"]]
                yield {"image": os.fspath(path), **found, "names": names}


def _images_among(paths: Iterable[str]) -> list[str]:
    return sorted(path for path in paths if Path(path).suffix.lower() in IMAGE_SUFFIXES and os.path.isfile(path))
