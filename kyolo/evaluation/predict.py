"""Detections in image files and arrays."""

import glob
import itertools
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import tensorflow as tf

from kyolo.data import read_image
from kyolo.data.images import SUFFIXES
from kyolo.errors import InputError
from kyolo.evaluation.detect import NMSSettings, Predictor

Item = TypeVar("Item")


def find_images(paths: Iterable[str | os.PathLike]) -> list[str]:
    """Expand images, folders and glob patterns to image files, each once, in the order given.

    Args:
        paths: one or several, each an image (of any suffix), a folder (its images, by name, without those of its
            subfolders) or a glob pattern ("scans/**/*.png"; what it matches by name).

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
    if isinstance(paths, str | os.PathLike):
        paths = [paths]
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
            _refuse_without_files(path, kind, suffixes)
        found.update(dict.fromkeys(files))
    if not found:
        raise InputError(f"expected at least one {kind}, folder or glob pattern, received none")
    return list(found)


def predict_paths(
    detector: Any,
    paths: Sequence[str | os.PathLike],
    *,
    batch_size: int = 16,
    on_error: Callable[[str, InputError], None] | None = None,
    **settings: Any,
) -> Iterator[dict[str, Any]]:
    """Detect in image files of any size, one batch in memory at a time.

    With the settings of `evaluate` and the same batch size, the results have the same AP.

    Args:
        detector: a `Detector` or a `TFLiteDetector`.
        paths: image files, as from `find_images`.
        batch_size: images that run together.
        on_error: called with the path of an image that cannot be read, and the error; the image is then left out.
            Default: None, the error is raised.
        **settings: `confidence`, `iou`, `max_detections`, `multi_label`. Default: those of `detector.nms`.

    Yields:
        One dict per image, in order: image (path), boxes [[x1, y1, x2, y2], ...] in pixels of the original image,
        scores, labels (0-based), names; plain lists by falling score.

    Raises:
        InputError: a file is no image.

    Example:
        >>> for found in predict_paths(detector, find_images([image_file]), confidence=0.9):
        ...     print(found["boxes"])
        []
    """
    predictor = Predictor(detector, nms_settings(detector, settings))
    images = _read_images(paths, batch_size, on_error)
    for (path, _), found in predict_each(predictor, images, lambda item: item[1], batch_size=batch_size):
        yield {"image": path, **as_lists(found)}


def predict(
    detector: Any, paths: Iterable[str | os.PathLike], *, batch_size: int = 16, **settings: Any
) -> Iterator[dict[str, Any]]:
    """Detect in images, folders and glob patterns: `find_images`, then `predict_paths`."""
    return predict_paths(detector, find_images(paths), batch_size=batch_size, **settings)


def nms_settings(detector: Any, settings: dict[str, Any]) -> NMSSettings:
    """Return the thresholds of a detector with some changed.

    Raises:
        ValueError: a setting is unknown.
    """
    known = [field.name for field in fields(NMSSettings)]
    for name in settings:
        if name not in known:
            raise ValueError(f"{name}: expected one of {', '.join(known)}. Remove it.")
    return replace(detector.nms, **settings)


def detect_images(detector: Any, images: Any, *, batch_size: int = 16, **settings: Any) -> Any:
    """Detect in arrays and files; see `Detector.detect`."""
    many = isinstance(images, list | tuple) or getattr(images, "ndim", 3) == 4
    predictor = detector.predictor(nms_settings(detector, settings))
    items = list(images) if many else [images]
    found = [each for _, each in predict_each(predictor, items, _read_any, batch_size=batch_size)]
    return found if many else found[0]


def _read_any(image: Any) -> np.ndarray:
    """Return an image file's or array's pixels, (H, W, 3) uint8."""
    if isinstance(image, str | os.PathLike):
        return read_image(image)
    pixels = np.asarray(image)
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[-1] != 3 or 0 in pixels.shape:
        raise InputError(
            f"images: expected paths or uint8 RGB arrays (H, W, 3), got {pixels.dtype} {pixels.shape}. "
            f"Scale the pixels to 0..255 and convert them to uint8."
        )
    return pixels


def predict_each(
    predictor: Predictor, items: Iterable[Item], read: Callable[[Item], np.ndarray], *, batch_size: int
) -> Iterator[tuple[Item, dict[str, Any]]]:
    """Detect in whatever is an image or can be read as one; items are taken as they are needed, one batch ahead.

    Args:
        predictor: the detector and its settings.
        items: paths, or frames of a video.
        read: returns an item's image, (H, W, 3) uint8 RGB; called in several threads at once.
        batch_size: images that run together.

    Yields:
        Each item, in order, with arrays `boxes`, `scores`, `labels` and the list `names`, as in `Detector.detect`.
    """
    class_names = predictor.detector.class_names

    def network_input(item: Item) -> tuple[tf.Tensor, tf.Tensor, tuple[int, int]]:
        image = read(item)
        return *predictor.fit_image(image), image.shape[:2]

    items = iter(items)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        while chunk := list(itertools.islice(items, batch_size)):
            batch = tuple(tf.stack(part) for part in zip(*pool.map(network_input, chunk), strict=True))
            with predictor.detector.ema_weights():
                detections = list(predictor.predict([batch]))
            for item, found in zip(chunk, detections, strict=True):
                yield item, {**found, "names": [class_names[label] for label in found["labels"]]}


def as_lists(found: dict[str, Any]) -> dict[str, Any]:
    """Return detections that JSON can hold."""
    return {name: values.tolist() if isinstance(values, np.ndarray) else values for name, values in found.items()}


def _read_images(
    paths: Iterable[str | os.PathLike], batch_size: int, on_error: Callable[[str, InputError], None] | None
) -> Iterator[tuple[str, np.ndarray]]:
    """Yield path and image of those that can be read, a batch in memory at a time."""

    def read(path: str) -> np.ndarray | InputError:
        try:
            return read_image(path)
        except InputError as error:
            return error

    remaining = map(os.fspath, paths)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        while chunk := list(itertools.islice(remaining, batch_size)):
            for path, image in zip(chunk, pool.map(read, chunk), strict=True):
                if not isinstance(image, InputError):
                    yield path, image
                elif on_error is None:
                    raise image
                else:
                    on_error(path, image)


def files_below(folder: str, suffixes: Sequence[str]) -> list[str]:
    """Return a file of each suffix that lies in a subfolder of `folder`, at any depth."""
    below = _with_suffix(glob.iglob(os.path.join(glob.escape(folder), "*", "**", "*"), recursive=True), suffixes)
    return list({Path(path).suffix: path for path in below}.values())


def _refuse_without_files(path: str, kind: str, suffixes: Sequence[str]) -> None:
    below = files_below(path, suffixes) if os.path.isdir(path) else []
    if below:
        suffix = Path(below[0]).suffix if len(below) == 1 else ""
        pattern = os.path.join(glob.escape(path), "**", f"*{suffix}")
        raise InputError(
            f"{path}: expected {kind}s, got subfolders with {kind}s ({below[0]}), which are not searched. "
            f'Pass "{pattern}" (with the quotes) to search them.'
        )
    raise InputError(f"{path}: expected {kind}s ({', '.join(suffixes)}), got none. Check the path.")


def _with_suffix(paths: Iterable[str], suffixes: Sequence[str]) -> list[str]:
    return sorted(path for path in paths if Path(path).suffix.lower() in suffixes and os.path.isfile(path))
