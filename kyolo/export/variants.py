"""All that a detector can be exported as, measured side by side."""

import itertools
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from kyolo.data import letterbox
from kyolo.evaluation.coco import evaluate
from kyolo.export.conversion import PRECISIONS
from kyolo.export.network import raw_outputs
from kyolo.export.parity import ParityReport
from kyolo.export.saved_model import to_saved_model
from kyolo.export.tflite import NMS_DEFAULTS, to_tflite
from kyolo.export.tflite_detector import TFLiteDetector, TFLiteEndToEnd

CHECK_IMAGES = 8
WARM_UP = 5


def measure_variants(
    detector: Any,
    folder: Path,
    val: tf.data.Dataset,
    *,
    fit: str,
    calibration: Sequence[np.ndarray],
    threads: int,
    runs: int = 100,
) -> list[dict[str, Any]]:
    """Exports a detector in every way, and measures size, time, AP and distance of each.

    Times are those of one image, from pixels of the network's input to boxes and scores: of all variants in turn, image
    after image, so that a machine that slows down slows all. Those with a suppression list detections as `NMS_DEFAULTS`
    says, where AP wants weaker ones: they have none of their own.

    Args:
        detector: a `Detector` in float32; its averaged weights are used where it keeps them.
        folder: an empty one, for the files.
        val: data set from `make_dataset` that is scored by the protocol of `evaluate`. The exports are compared and
            timed on its first images.
        fit: "letterbox" or "stretch", as in `val`.
        calibration: real images of the training set.
        threads: of the TFLite interpreter; the Keras model and the SavedModel take TensorFlow's.
        runs: times that each variant is timed.

    Returns:
        A dict for each: `variant`, `bytes` (None for the Keras model), `median_ms`, `p95_ms`, `ap`, `ap_lost`,
        `box_error` and `score_error` (largest differences from the Keras model, as in `ParityReport`).

    Raises:
        ExportError: an export is not what was exported.
    """
    image_size = tuple(val.element_spec[0].shape[1:3])
    images = list(itertools.islice(val.index.images(), CHECK_IMAGES))
    shared = {"image_size": image_size, "fit": fit, "images": images}
    with detector.ema_weights():
        keras_ap = evaluate(detector, val)["ap"]
        rows = [{"variant": "keras", "bytes": None, "ap": keras_ap, "box_error": 0.0, "score_error": 0.0}]
        calls: list[Callable] = [_graph(detector, image_size)]

        path = folder / "saved_model"
        report = to_saved_model(detector, path, class_names=val.index.class_names, **shared)
        rows.append(_row("saved_model", path, None, report))
        calls.append(_signature(path / "1"))
        for precision, nms in itertools.product(PRECISIONS, (None, NMS_DEFAULTS)):
            name = f"tflite {precision}" + " nms" * (nms is not None)
            path = folder / f"{name.replace(' ', '_')}.tflite"
            report = to_tflite(detector, path, precision=precision, nms=nms, calibration=calibration, **shared)
            exported = (TFLiteDetector if nms is None else TFLiteEndToEnd)(path, num_threads=threads)
            rows.append(_row(name, path, None if nms else evaluate(exported, val)["ap"], report))
            calls.append(exported.run)
        inputs = [letterbox(image, image_size, fit)[0].numpy() for image in images]
        times = _time_in_turn(calls, inputs, runs)
    for row, seconds in zip(rows, times, strict=True):
        row["median_ms"] = 1e3 * statistics.median(seconds)
        row["p95_ms"] = 1e3 * float(np.quantile(seconds, 0.95))
        row["ap_lost"] = None if None in (row["ap"], keras_ap) else keras_ap - row["ap"]
    return rows


def _row(name: str, path: Path, ap: float | None, report: ParityReport) -> dict[str, Any]:
    errors = {"box_error": report.box_error, "score_error": report.score_error}
    return {"variant": name, "bytes": _size(path), "ap": ap, **errors}


def _graph(detector: Any, image_size: tuple[int, int]) -> Callable:
    graph = tf.function(lambda images: raw_outputs(detector, images, image_size))
    return lambda image: graph(tf.constant(image[None]))["scores"].numpy()


def _signature(path: Path) -> Callable:
    loaded = tf.saved_model.load(str(path))
    return lambda image: loaded.signatures["serving_default"](images=tf.constant(image[None]))["scores"].numpy()


def _time_in_turn(calls: Sequence[Callable], inputs: Sequence[np.ndarray], runs: int) -> list[list[float]]:
    seconds: list[list[float]] = [[] for _ in calls]
    for run in range(WARM_UP + runs):
        for call, spans in zip(calls, seconds, strict=True):
            start = time.perf_counter()
            call(inputs[run % len(inputs)])
            spans.append(time.perf_counter() - start)
    return [spans[WARM_UP:] for spans in seconds]


def _size(path: Path) -> int:
    files = [path] if path.is_file() else [each for each in path.rglob("*") if each.is_file()]
    return sum(each.stat().st_size for each in files)
