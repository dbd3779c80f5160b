"""Detections in image files."""

import glob
import itertools
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import tensorflow as tf

from kyolo.data import letterbox, read_image
from kyolo.data.images import SUFFIXES
from kyolo.errors import InputError
from kyolo.evaluation.detect import NMSSettings, Predictor

Item = TypeVar("Item")


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
    return find_files(paths, "image", SUFFIXES)


def find_files(paths: Iterable[str | os.PathLike], kind: str, suffixes: Sequence[str]) -> list[str]:
    """Expand files, folders and glob patterns as `find_images` does, to files of one kind.

    Args:
        paths: what to expand.
        kind: "image" or another noun, for messages.
        suffixes: of the files that are taken from folders and patterns, in lower case.

    Returns:
        Paths of files.

    Raises:
        InputError: a path is missing, or a folder or pattern holds no such file.
    """
    found: dict[str, None] = {}
    for path in map(os.fspath, paths):
        if os.path.isfile(path):
            files = [path]
        elif os.path.isdir(path):
            files = _with_suffix((os.path.join(path, name) for name in os.listdir(path)), suffixes)
        elif glob.has_magic(path):
            files = _with_suffix(glob.glob(path, recursive=True), suffixes)
        else:
            raise InputError(
                f"{path}: expected {kind}s by file, folder or glob pattern, received a path that is missing"
            )
        if not files:
            raise InputError(f"{path}: expected {kind}s ({', '.join(suffixes)}), received none; check the path")
        found.update(dict.fromkeys(files))
    if not found:
        raise InputError(f"expected at least one {kind}, folder or glob pattern, received none")
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
    predictions = predict_each(
        predictor,
        paths,
        read_image,
        image_size=image_size,
        fit=fit,
        class_names=class_names,
        batch_size=batch_size,
    )
    for path, found in predictions:
        yield {"image": os.fspath(path), **found}


def predict_each(
    predictor: Predictor,
    items: Iterable[Item],
    read: Callable[[Item], np.ndarray],
    *,
    image_size: tuple[int, int],
    fit: str,
    class_names: Sequence[str],
    batch_size: int,
) -> Iterator[tuple[Item, dict[str, Any]]]:
    """Detect in whatever is an image or can be read as one; items are taken as they are needed, one batch ahead.

    Args:
        predictor: the detector and its settings; its averaged weights are used where it keeps them.
        items: paths, or frames of a video.
        read: gives an item's image, (H, W, 3) uint8 RGB; called in several threads at once.
        image_size: (H, W) of the network's input.
        fit: "letterbox" or "stretch".
        class_names: name of each label.
        batch_size: images that run together.

    Yields:
        Each item, in order, with boxes, scores, labels and names as in `predict_paths`.
    """

    @tf.function(input_signature=[tf.TensorSpec([None, None, 3], tf.uint8)])  # a tenth of the time it takes eagerly
    def fit_to_network(image: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return letterbox(image, image_size, fit)

    def network_input(item: Item) -> tuple[tf.Tensor, tf.Tensor, tuple[int, int]]:
        image = read(item)
        return *fit_to_network(image), image.shape[:2]

    items = iter(items)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        while chunk := list(itertools.islice(items, batch_size)):
            batch = tuple(tf.stack(part) for part in zip(*pool.map(network_input, chunk), strict=True))
            with predictor.detector.ema_weights():
                detections = list(predictor.predict([batch]))
            for item, arrays in zip(chunk, detections, strict=True):
                found = {name: array.tolist() for name, array in arrays.items()}
                yield item, {**found, "names": [class_names[label] for label in found["labels"]]}


def _with_suffix(paths: Iterable[str], suffixes: Sequence[str]) -> list[str]:
    return sorted(path for path in paths if Path(path).suffix.lower() in suffixes and os.path.isfile(path))
