"""All that a detector can be exported as, measured side by side."""

import functools
import itertools
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from kyolo.data import letterbox
from kyolo.evaluation.coco import evaluate
from kyolo.export.conversion import PRECISIONS
from kyolo.export.errors import ExportError
from kyolo.export.network import raw_outputs
from kyolo.export.parity import CHECK_IMAGES, ParityReport
from kyolo.export.saved_model import RawSignature, to_saved_model
from kyolo.export.tflite import NMS_DEFAULTS, compare_found, to_tflite
from kyolo.export.tflite_detector import TFLiteDetector, TFLiteEndToEnd

WARM_UP = 5
FORMS = ("keras", "float32", "int8")
FIGURES = ("bytes", "median_ms", "p95_ms", "ap", "ap_lost", "protocol", "box_error", "score_error", "unmatched")


def measure_variants(
    detector: Any,
    folder: Path,
    val: tf.data.Dataset,
    *,
    calibration: Sequence[np.ndarray],
    threads: int,
    runs: int = 100,
    progress: Callable[[str], None] = lambda _: None,
) -> list[dict[str, Any]]:
    """Exports a detector in every way, and measures size, time, AP and distance of each.

    Times are those of one image, from pixels of the network's input to boxes and scores: of all variants in turn, image
    after image, so that a machine that slows down slows all. AP is that of the bare network, which the SavedModel has
    as the signature `raw`. Files with a suppression inside have none: they list what `NMS_DEFAULTS` says, and AP wants
    weaker detections; what they list is compared with what the detector finds.

    Args:
        detector: a `Detector` in float32; its averaged weights are used where it keeps them.
        folder: an empty one, for the files.
        val: data set from `make_dataset`, of the detector's image size and fit, for AP by the protocol of `evaluate`.
            The exports are compared and timed on its first images.
        calibration: real images of the training set.
        threads: of the TFLite interpreter; the Keras model and the SavedModel take TensorFlow's.
        runs: times that each variant is timed.
        progress: called with the name of each variant before it is made.

    Returns:
        A dict for each: `variant`; `error`, None or why there is no such file, and then all else is None; `bytes` (None
        for the Keras model), `median_ms`, `p95_ms`, `ap`, `ap_lost`, `protocol` of both, and `box_error`,
        `score_error` and `unmatched` of its detections and the Keras model's, as in `ParityReport`.
    """
    images = list(itertools.islice(val.index.images(), CHECK_IMAGES))
    inputs = [letterbox(image, detector.image_size, detector.image_fit)[0].numpy() for image in images]
    shared = {"images": images}
    variants: dict[str, Callable[[Path], _Variant]] = {
        "keras": lambda _: _Variant(detector, _graph(detector)),
        "saved_model": lambda path: _saved_model(detector, path, shared),
    }
    for precision, nms in itertools.product(PRECISIONS, (None, NMS_DEFAULTS)):
        options = {"precision": precision, "nms": nms, "calibration": calibration, **shared}
        variants[f"tflite {precision}" + " nms" * (nms is not None)] = functools.partial(
            _tflite, detector, inputs=inputs, threads=threads, options=options
        )
    rows: dict[str, dict[str, Any]] = {}
    calls: dict[str, Callable] = {}
    with detector.ema_weights():
        for name, make in variants.items():
            progress(name)
            try:
                variant = make(folder / (name.replace(" ", "_") + ".tflite" * name.startswith("tflite")))
            except ExportError as error:
                rows[name] = {"error": str(error), **dict.fromkeys(FIGURES)}
                continue
            rows[name], calls[name] = variant.row(val), variant.call
        progress("times")
        times = _time_in_turn(list(calls.values()), inputs, runs)
    for name, seconds in zip(calls, times, strict=True):
        ap, keras_ap = rows[name]["ap"], rows["keras"]["ap"]
        rows[name] |= {
            "median_ms": 1e3 * statistics.median(seconds),
            "p95_ms": 1e3 * float(np.quantile(seconds, 0.95)),
            "ap_lost": None if ap is None or keras_ap is None else keras_ap - ap,
        }
    return [{"variant": name, **row} for name, row in rows.items()]


@dataclass(frozen=True)
class _Variant:
    """A detector in one of its forms: what is scored if it can be, what is timed, where it lies, how far off it is."""

    scored: Any
    call: Callable
    path: Path | None = None
    report: ParityReport | None = None

    def row(self, val: tf.data.Dataset) -> dict[str, Any]:
        """All of its figures but the times."""
        metrics = {} if self.scored is None else evaluate(self.scored, val)
        return {
            "error": None,
            **dict.fromkeys(FIGURES),
            "bytes": None if self.path is None else _size(self.path),
            **{name: metrics.get(name) for name in ("ap", "protocol")},
            "box_error": 0.0 if self.report is None else self.report.box_error,
            "score_error": 0.0 if self.report is None else self.report.score_error,
            "unmatched": 0 if self.report is None else self.report.unmatched,
        }


def _saved_model(detector: Any, path: Path, shared: dict[str, Any]) -> _Variant:
    report = to_saved_model(detector, path, **shared)
    loaded = tf.saved_model.load(str(path / "1"))

    def serve(image: np.ndarray) -> np.ndarray:
        return loaded.signatures["serving_default"](images=tf.constant(image[None]))["scores"].numpy()

    return _Variant(RawSignature(loaded), serve, path, report)


def _tflite(
    detector: Any, path: Path, *, inputs: Sequence[np.ndarray], threads: int, options: dict[str, Any]
) -> _Variant:
    report = to_tflite(detector, path, **options)
    if options["nms"] is not None:
        return _Variant(None, TFLiteEndToEnd(path, num_threads=threads).run, path, report)
    if options["precision"] == "float32":  # its report is of all anchor points, the others' of detections
        report = compare_found(detector, path, inputs, None, "float32").check("float32", detector.image_size)
    exported = TFLiteDetector(path, num_threads=threads)
    return _Variant(exported, exported.run, path, report)


def time_forms(detectors: Sequence[Any], *, threads: int, runs: int) -> list[dict[str, float]]:
    """Times detectors that may not be trained: Keras, and `.tflite` in float32 and int8, on one image of noise.

    Args:
        detectors: `Detector`s in float32.
        threads: of the TFLite interpreter; Keras takes TensorFlow's.
        runs: times that each form is timed, all of all detectors in turn.

    Returns:
        For each detector the medians in milliseconds: `keras`, `float32`, `int8`.
    """
    calls: list[Callable] = []
    with tempfile.TemporaryDirectory() as folder:
        for number, detector in enumerate(detectors):
            image = np.random.default_rng(0).integers(0, 256, (*detector.image_size, 3), dtype=np.uint8)
            calls.append(functools.partial(_graph(detector), image))
            for precision in FORMS[1:]:
                path = Path(folder, f"{number}_{precision}.tflite")
                to_tflite(detector, path, precision=precision, calibration=[image])
                calls.append(functools.partial(TFLiteDetector(path, num_threads=threads).run, image))
        times = _time_in_turn([lambda _, call=call: call() for call in calls], [None], runs)
    medians = iter(1e3 * statistics.median(seconds) for seconds in times)
    return [{form: next(medians) for form in FORMS} for _ in detectors]


def _graph(detector: Any) -> Callable:
    graph = tf.function(lambda images: raw_outputs(detector, images))
    return lambda image: graph(tf.constant(image[None]))["scores"].numpy()


def _time_in_turn(calls: Sequence[Callable], inputs: Sequence[Any], runs: int) -> list[list[float]]:
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
