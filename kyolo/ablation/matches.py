"""Average precision of any selection of images: detections are matched once, then counted with weights.

A bootstrap over images evaluates a detector on thousands of resamples of the validation images. The matching of
detections with ground truth does not depend on the resample, so each resample costs only cumulative sums.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from faster_coco_eval.core import mask

from kyolo.files import replace_file

THRESHOLDS = np.linspace(0.5, 0.95, 10)  # IoU
RECALLS = np.linspace(0.0, 1.0, 101)
MAX_DETECTIONS = 100  # per image and class, as COCO counts them


@dataclass(frozen=True)
class Matches:
    """Detections of a validation split, matched with its ground truth as COCOeval matches them (all areas).

    Attributes:
        images: (n,) int64, ids of all images of the split, ascending.
        objects: (n, k) int32, number of ground-truth boxes by image and class, crowds left out.
        image: (d,) int32, position in `images` of each detection.
        label: (d,) int32, class of each detection.
        score: (d,) float64.
        found: (d, 10) bool, whether the detection matches a ground-truth box, by IoU threshold 0.50, 0.55, ..., 0.95.
        ignored: (d, 10) bool, whether the detection matches a crowd and does not count.
    """

    images: np.ndarray
    objects: np.ndarray
    image: np.ndarray
    label: np.ndarray
    score: np.ndarray
    found: np.ndarray
    ignored: np.ndarray

    def save(self, path: Path) -> None:
        """Write the arrays as `.npz`."""
        with replace_file(path) as file:
            np.savez_compressed(file, allow_pickle=False, **vars(self))

    @classmethod
    def load(cls, path: str | os.PathLike) -> Matches:
        """Read what `save` wrote."""
        with open(path, "rb") as stream, np.load(stream, allow_pickle=False) as file:
            return cls(**{name: file[name] for name in cls.__annotations__})

    def average_precision(self, weights: np.ndarray) -> np.ndarray:
        """Return the AP (IoU 0.50 to 0.95) of weighted selections of the images.

        Args:
            weights: (b, n) number of times that each image is in each selection.

        Returns:
            (b,) float64; nan where a selection holds no object.
        """
        weights = np.asarray(weights, np.float64)
        total, classes = np.zeros(len(weights)), np.zeros(len(weights))
        order = np.argsort(-self.score, kind="mergesort")
        for label in range(self.objects.shape[1]):
            rows = order[self.label[order] == label]
            objects = weights @ self.objects[:, label]
            shown = weights[:, self.image[rows]]
            ap = [
                _average_precision(shown, self.found[rows, t], self.ignored[rows, t], objects)
                for t in range(len(THRESHOLDS))
            ]
            there = objects > 0
            total += np.where(there, np.mean(ap, axis=0), 0)
            classes += there
        with np.errstate(invalid="ignore"):
            return total / classes


def _average_precision(shown: np.ndarray, found: np.ndarray, ignored: np.ndarray, objects: np.ndarray) -> np.ndarray:
    """AP at one IoU threshold of one class, whose detections are sorted by falling score.

    Args:
        shown: (b, d) weight of the image of each detection.
        found: (d,) bool.
        ignored: (d,) bool.
        objects: (b,) weighted number of ground-truth boxes.
    """
    # Only detections that match can raise recall, and precision is highest at these.
    true = np.cumsum(shown[:, found], axis=1)
    false = np.cumsum(shown * (~found & ~ignored), axis=1)[:, found]
    precision = true / np.maximum(true + false, np.finfo(np.float64).tiny)
    precision = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    recall = true / np.maximum(objects, 1)[:, None]
    # Each of the 101 recalls counts the precision at the first detection that reaches it.
    reached = np.searchsorted(RECALLS, recall, side="right")
    return (np.diff(reached, axis=1, prepend=0) * precision).sum(axis=1) / len(RECALLS)


def match(truth: dict, results: list[dict]) -> Matches:
    """Match detections with ground truth as COCOeval does with its default parameters.

    Args:
        truth: COCO json of the split.
        results: COCO results, as from `kyolo.evaluation.coco.coco_results`.
    """
    images = np.array(sorted(image["id"] for image in truth["images"]), np.int64)
    labels = {category: label for label, category in enumerate(sorted(each["id"] for each in truth["categories"]))}
    position = {image: i for i, image in enumerate(images.tolist())}
    objects = np.zeros((len(images), len(labels)), np.int32)
    boxes: dict[tuple[int, int], list[dict]] = {}
    for annotation in truth["annotations"]:
        key = position[annotation["image_id"]], labels[annotation["category_id"]]
        boxes.setdefault(key, []).append(annotation)
        objects[key] += not annotation["iscrowd"]
    detections: dict[tuple[int, int], list[dict]] = {}
    for result in results:
        detections.setdefault((position[result["image_id"]], labels[result["category_id"]]), []).append(result)
    parts: list[tuple] = []
    for (image, label), found in sorted(detections.items()):
        scores = np.array([each["score"] for each in found])
        order = np.argsort(-scores, kind="mergesort")[:MAX_DETECTIONS]
        hits, ignored = _match_image([found[i]["bbox"] for i in order], boxes.get((image, label), []))
        count = len(order)
        parts.append((np.full(count, image), np.full(count, label), scores[order], hits, ignored))
    empty = np.zeros(0), np.zeros(0), np.zeros(0), np.zeros((0, 10), bool), np.zeros((0, 10), bool)
    image, label, score, hits, ignored = (np.concatenate(part) for part in zip(empty, *parts, strict=True))
    return Matches(images, objects, image.astype(np.int32), label.astype(np.int32), score, hits, ignored)


def _match_image(boxes: list[list[float]], truths: list[dict]) -> tuple[np.ndarray, np.ndarray]:
    """Match the detections of one image and class, by falling score, greedily as COCOeval does.

    Returns:
        found and ignored, (d, 10) bool each.
    """
    found, ignored = np.zeros((2, len(boxes), len(THRESHOLDS)), bool)
    if not boxes or not truths:
        return found, ignored
    truths = sorted(truths, key=lambda truth: truth["iscrowd"])  # crowds last
    crowd = np.array([truth["iscrowd"] for truth in truths], bool)
    overlaps = mask.iou(boxes, [truth["bbox"] for truth in truths], crowd.astype(np.uint8))
    for t, threshold in enumerate(THRESHOLDS):
        taken = np.zeros(len(truths), bool)
        for d, row in enumerate(overlaps):
            free = (row >= min(threshold, 1 - 1e-10)) & (crowd | ~taken)
            candidates = free & ~crowd if (free & ~crowd).any() else free
            if not candidates.any():
                continue
            best = np.flatnonzero(candidates & (row == row[candidates].max()))[-1]  # the last of equals, as COCOeval
            taken[best] = True
            found[d, t], ignored[d, t] = not crowd[best], crowd[best]
    return found, ignored
