"""Does an export give what the detector gives? On real images: random ones never reach the large activations."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from kyolo.boxes import iou
from kyolo.boxes.nms import NMSSettings
from kyolo.evaluation.detect import Detections
from kyolo.export.errors import ExportError
from kyolo.export.network import raw_outputs

CHECK_IMAGES = 8  # on which the commands compare
MATCH_IOU = 0.5  # from which on two boxes of one class are of one object


@dataclass(frozen=True)
class Tolerance:
    """How far an export may be from the detector.

    Attributes:
        box: difference of a box side, pixels of the network's input.
        score: difference of a score.
        edge: detections whose score is so close to the least that is listed may be in one and not in the other.
        unmatched: share of the other detections that only one of the two gives.
        lossy: box and score are means over the detections, and box is for a network of 320 pixels; else they hold for
            each detection and any size.
    """

    box: float
    score: float
    edge: float
    unmatched: float
    lossy: bool = True


# What a precision costs in AP says `kyolo benchmark`; these tell a conversion that is wrong. On trained detectors of
# 320 pixels int8 is 1 pixel off on average, and 4.5 if what comes behind the last convolutions is quantized too.
TOLERANCES = {
    "float32": Tolerance(box=0.05, score=1e-3, edge=1e-3, unmatched=0.0, lossy=False),
    "float16": Tolerance(box=0.2, score=0.01, edge=0.02, unmatched=0.02),
    "dynamic": Tolerance(box=1.0, score=0.03, edge=0.1, unmatched=0.1),
    "int8": Tolerance(box=3.0, score=0.06, edge=0.1, unmatched=0.1),
}


def tolerance(precision: str, image_size: tuple[int, int]) -> Tolerance:
    """What a precision is allowed at a size of the network's input, (H, W): what it rounds grows with the boxes."""
    allowed = TOLERANCES[precision]
    return replace(allowed, box=allowed.box * max(image_size) / 320) if allowed.lossy else allowed


@dataclass(frozen=True)
class ParityReport:
    """How far an export is from the detector it was made of.

    Attributes:
        images: number of images compared.
        compared: number of boxes compared.
        box_error: largest difference of a box side, pixels of the network's input.
        score_error: largest difference of a score.
        mean_box_error: mean over the boxes of the largest difference of a side.
        mean_score_error: mean of the differences of the scores.
        unmatched: number of detections that only one of the two gives.
    """

    images: int
    compared: int
    box_error: float
    score_error: float
    mean_box_error: float
    mean_score_error: float
    unmatched: int = 0

    def check(self, precision: str, image_size: tuple[int, int]) -> "ParityReport":
        """Return the report itself; raise `ExportError` when it is over the tolerances of a precision at a size."""
        allowed = tolerance(precision, image_size)
        box, score = self.box_error, self.score_error
        if allowed.lossy:
            box, score = self.mean_box_error, self.mean_score_error
        share = self.unmatched / max(self.compared + self.unmatched, 1)
        if box <= allowed.box and score <= allowed.score and share <= allowed.unmatched:
            return self
        which = "on average " if allowed.lossy else ""
        raise ExportError(
            f"The export differs from the detector on {self.images} images: expected {which}boxes within "
            f"{allowed.box:g} px and scores within {allowed.score} for {precision}, and {allowed.unmatched:.0%} "
            f"detections that only one of them gives; received {box:.3g} px, {score:.3g}, and {self.unmatched} of "
            f"{self.compared + self.unmatched}"
        )


class _Differences:
    """Largest and mean of differences that come in parts."""

    def __init__(self) -> None:
        self.count, self.largest, self._sum = 0, 0.0, 0.0

    def add(self, one: np.ndarray, other: np.ndarray, axis: int | None = None) -> None:
        """Take |one - other| in; along `axis` only the largest counts."""
        values = np.abs(np.subtract(one, other, dtype=np.float64))
        values = values if axis is None else values.max(axis=axis)
        if values.size:
            # Not max(): of NaN and a number it may give the number, and a detector of NaN would agree.
            self.largest = float(np.maximum(self.largest, values.max()))
            self.count, self._sum = self.count + values.size, self._sum + float(values.sum())

    @property
    def mean(self) -> float:
        return self._sum / max(self.count, 1)


class _Comparison:
    """What a report is made of, image after image."""

    def __init__(self) -> None:
        self.images, self.unmatched, self.boxes, self.scores = 0, 0, _Differences(), _Differences()

    def report(self) -> ParityReport:
        boxes, scores = self.boxes, self.scores
        errors = (boxes.largest, scores.largest, boxes.mean, scores.mean)
        return ParityReport(self.images, boxes.count, *errors, self.unmatched)


def compare_outputs(detector: Any, exported: Any, inputs: Sequence[np.ndarray]) -> ParityReport:
    """Compare the boxes and scores of all anchor points, boxes clipped to the network's input.

    Args:
        detector: the `Detector`.
        exported: what is called and decodes like one (`TFLiteDetector`).
        inputs: network inputs, (H, W, 3) 0..255.

    Returns:
        The report, not checked.
    """
    comparison = _Comparison()
    for image in inputs:
        pixels = np.array([image.shape[1], image.shape[0]] * 2, np.float32)
        expected, found = (raw_outputs(each, image[None]) for each in (detector, exported))
        comparison.images += 1
        comparison.boxes.add(expected["boxes"] * pixels, found["boxes"] * pixels, axis=-1)
        comparison.scores.add(expected["scores"], found["scores"])
    return comparison.report()


def compare_detections(
    pairs: Iterable[tuple[Detections, Detections]], settings: NMSSettings, precision: str = "float32"
) -> ParityReport:
    """Compare detections, after the suppression.

    Those at the very edge of being listed (by the confidence, or by the number of detections) may be in one and not in
    the other.

    Args:
        pairs: of each image the detector's detections and the export's, boxes in pixels of the network's input.
        settings: of both.
        precision: of the export, whose tolerance says how wide that edge is.

    Returns:
        The report, not checked.
    """
    comparison = _Comparison()
    for one, other in pairs:
        comparison.images += 1
        edge = _listing_edge((one, other), settings) + TOLERANCES[precision].edge
        matches = match(one, other)
        for i, j in matches:
            comparison.boxes.add(one["boxes"][i], other["boxes"][j], axis=-1)
            comparison.scores.add(one["scores"][i], other["scores"][j])
        for each, matched in zip((one, other), zip(*matches, strict=True) if matches else ((), ()), strict=True):
            alone = np.delete(each["scores"], list(matched))
            comparison.unmatched += int((alone > edge).sum())
    return comparison.report()


def match(one: Detections, other: Detections) -> list[tuple[int, int]]:
    """Pairs of detections of one object: same class, IoU from 0.5 on, each in one pair, those that overlap most first.

    Args:
        one: detections, boxes (n, 4), labels (n,).
        other: detections, boxes (m, 4), labels (m,).

    Returns:
        Indices into both.
    """
    overlaps = np.asarray(iou(one["boxes"][:, None], other["boxes"][None]))  # (n, m)
    overlaps = np.where(one["labels"][:, None] == other["labels"], overlaps, 0.0)
    pairs: list[tuple[int, int]] = []
    while overlaps.size and overlaps.max() >= MATCH_IOU:
        i, j = divmod(int(overlaps.argmax()), overlaps.shape[1])
        pairs.append((i, j))
        overlaps[i], overlaps[:, j] = 0.0, 0.0
    return pairs


def _listing_edge(pair: tuple[Detections, Detections], settings: NMSSettings) -> float:
    """Score of the last detection that could be listed in both."""
    full = [float(each["scores"][-1]) for each in pair if len(each["scores"]) == settings.max_detections]
    return max([settings.confidence, *full])
