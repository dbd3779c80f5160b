"""COCO average precision of a detector on a data set.

The scorer is faster-coco-eval: pycocotools' figures, computed in C++.
"""

import contextlib
import io
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import tensorflow as tf
from faster_coco_eval import COCO, COCOeval_faster
from tqdm import tqdm

from kyolo._compat import dataset_inputs
from kyolo.data import Index, input_errors
from kyolo.evaluation.detect import NMSSettings, Predictor

SUMMARY = ("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large")  # as COCOeval.summarize orders its figures
COCO_MAX_DETECTIONS = (1, 10, 100)  # a class and image, COCOeval's defaults: AP counts the 100 best


def coco_metrics(truth: dict, results: list[dict]) -> dict[str, Any]:
    """Score detections as pycocotools' COCOeval does with its default parameters.

    Prints nothing, and leaves both arguments as they are. The figures are pycocotools' own, its one oddity included: it
    takes a truth box whose annotation id is 0 for one that was not found.

    Args:
        truth: COCO json of the split: images, annotations (with id, area, iscrowd) and categories.
        results: COCO results: image_id, category_id, bbox [x, y, width, height] in pixels, score.

    Returns:
        ap (IoU 0.50:0.95), ap50, ap75, ap_small, ap_medium, ap_large (areas below 32^2, up to 96^2, and above, pixels
        of the original image), and per_class {name: ap}; None where the truth holds nothing to find.
    """
    with contextlib.redirect_stdout(io.StringIO()):  # the scorer prints its progress
        evaluation = COCOeval_faster(_index(truth, truth["annotations"]), _index(truth, _with_areas(results)), "bbox")
        evaluation.params.maxDets = list(COCO_MAX_DETECTIONS)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()

    names = {category["id"]: category["name"] for category in truth["categories"]}
    precision = evaluation.eval["precision"][..., 0, -1]  # (IoU, recall, class) of all areas, 100 detections
    per_class = {names[category_id]: _mean(precision[..., k]) for k, category_id in enumerate(evaluation.params.catIds)}
    return {**dict(zip(SUMMARY, map(_defined, evaluation.stats), strict=False)), "per_class": per_class}


def coco_results(
    image_id: int, boxes: Sequence, scores: Sequence, labels: Sequence, category_ids: Sequence[int]
) -> list[dict]:
    """Detections of one image in COCO's results format, scores and boxes in full precision.

    Args:
        image_id: the image's COCO id.
        boxes: (n, 4) xyxy pixels of the original image.
        scores: (n,).
        labels: (n,), 0-based.
        category_ids: the COCO id of each label.

    Returns:
        One dict a detection: image_id, category_id, bbox [x, y, width, height], score.
    """
    x1, y1, x2, y2 = np.asarray(boxes, np.float64).reshape([-1, 4]).T
    bboxes = np.stack([x1, y1, x2 - x1, y2 - y1], axis=-1).tolist()
    rows = zip(bboxes, np.asarray(scores, np.float64).tolist(), np.asarray(labels).tolist(), strict=True)
    return [
        {"image_id": int(image_id), "category_id": int(category_ids[label]), "bbox": bbox, "score": score}
        for bbox, score, label in rows
    ]


def evaluate(
    detector: Any,
    dataset: tf.data.Dataset,
    *,
    confidence: float = 0.001,
    iou: float = 0.7,
    max_detections: int = 300,
    multi_label: bool = True,
) -> dict[str, Any]:
    """COCO AP of a detector on a data set, with its averaged weights where it keeps them.

    The defaults are the protocol that YOLO models are compared by.

    Args:
        detector: a `Detector` or a `TFLiteDetector`.
        dataset: from `kyolo.data.make_dataset`, split "val" or "dev". `map`, `prefetch` and `take` may follow.
        confidence: a detection's score is above it.
        iou: of two boxes of one class that overlap by more than this, the one with the lower score goes.
        max_detections: the most detections in an image.
        multi_label: whether a point may be several classes at once.

    Returns:
        What `coco_metrics` returns, and `protocol`: these settings and the scorer's.

    Example:
        >>> metrics = evaluate(detector, val)
        >>> 0 <= metrics["ap50"] <= 1
        True
    """
    return score(Predictor(detector, NMSSettings(confidence, iou, max_detections, multi_label)), dataset)


def score(predictor: Predictor, dataset: tf.data.Dataset) -> dict[str, Any]:
    """`evaluate` with a predictor that is kept: what scores more than once traces the detector's graph only once.

    On a terminal, a bar on stderr shows the progress of what takes more than 2 s.

    Args:
        predictor: the detector and its settings.
        dataset: as for `evaluate`.

    Returns:
        As `evaluate`.
    """
    truth, results = detect_split(predictor, dataset)
    return {**coco_metrics(truth, results), "protocol": _protocol(predictor)}


def detect_split(predictor: Predictor, dataset: tf.data.Dataset) -> tuple[dict, list[dict]]:
    """Detect in every image of a data set.

    Args:
        predictor: the detector and its settings.
        dataset: as for `evaluate`.

    Returns:
        The ground truth of the images as COCO json, and the detections as COCO results.

    Raises:
        ValueError: the detector has the classes of the data set in another order, or an image comes twice.
    """
    index = find_index(dataset)
    names = tuple(getattr(predictor.detector, "class_names", None) or ())
    if names != index.class_names and sorted(names) == sorted(index.class_names):
        raise ValueError(f"class_names: expected {list(names)} as in the detector, got {list(index.class_names)}.")
    image_ids: list[int] = []

    def network_inputs():
        for images, targets, *_ in dataset:
            image_ids.extend(targets["image_id"].numpy().tolist())
            yield images, targets["letterbox"], targets["size"]

    results: list[dict] = []
    bar = tqdm(desc="Evaluating", total=index.num_images, unit="image", delay=2.0, leave=False, disable=None)
    with predictor.detector.ema_weights(), bar, input_errors(index):
        for i, detections in enumerate(predictor.predict(network_inputs())):
            bar.update()
            results += coco_results(image_ids[i], **detections, category_ids=index.category_ids)
    if len(set(image_ids)) < len(image_ids):
        raise ValueError("dataset: expected each image once, got some twice. Remove repeat from the data set.")
    truth = index.truth
    if len(set(image_ids)) < index.num_images:
        truth = _part_of(truth, set(image_ids))
    return truth, results


def find_index(dataset: tf.data.Dataset) -> Index:
    """Return the index that a dataset of `make_dataset` was made from, also after `map`, `take` and the like.

    Raises:
        ValueError: `make_dataset` did not make it.
    """
    found = [dataset]
    while found:
        dataset = found.pop()
        if hasattr(dataset, "index"):
            return dataset.index
        found += dataset_inputs(dataset)
    raise ValueError("dataset: expected one of kyolo.data.make_dataset, got another. Its index has the ground truth.")


def _part_of(truth: dict, image_ids: set[int]) -> dict:
    """Return the ground truth of some images: a dataset cut by `take` is evaluated on what it gives."""
    return {
        **truth,
        "images": [image for image in truth["images"] if image["id"] in image_ids],
        "annotations": [annotation for annotation in truth["annotations"] if annotation["image_id"] in image_ids],
    }


def _protocol(predictor: Predictor) -> dict[str, Any]:
    """How a figure was measured: it is written beside every AP."""
    return {
        **asdict(predictor.settings),
        "nms": "per class",
        "scorer": "faster-coco-eval",
        "coco_max_detections": list(COCO_MAX_DETECTIONS),
    }


def _index(truth: dict, annotations: list[dict]) -> COCO:
    coco = COCO()
    coco.dataset = {
        "images": truth["images"],
        "categories": truth["categories"],
        "annotations": [dict(annotation) for annotation in annotations],  # COCOeval writes into them
    }
    coco.createIndex()
    return coco


def _with_areas(results: list[dict]) -> list[dict]:
    """As COCO.loadRes fills results in, which fails without any."""
    return [
        {**result, "id": i, "area": result["bbox"][2] * result["bbox"][3], "iscrowd": 0}
        for i, result in enumerate(results, start=1)
    ]


def _defined(value: float) -> float | None:
    return None if value < 0 else float(value)


def _mean(precision: np.ndarray) -> float | None:
    precision = precision[precision > -1]
    return float(precision.mean()) if precision.size else None
