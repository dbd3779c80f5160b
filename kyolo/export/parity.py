"""Does an export give what the detector gives? On real images: random ones never reach the large activations."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from kyolo.boxes import iou
from kyolo.evaluation.detect import Detections, NMSSettings
from kyolo.export.errors import ExportError
from kyolo.export.network import raw_outputs

MATCH_IOU = 0.5  # from which on two boxes of one class are of one object


@dataclass(frozen=True)
class Tolerance:
    """How far an export may be from the detector.

    Attributes:
        box: difference of a box side, pixels of the network's input.
        score: difference of a score.
        edge: detections whose score is so close to the least that is listed may be in one and not in the other.
        unmatched: share of the other detections that only one of the two gives.
        on_average: whether box and score are means over the detections, or hold for each.
    """

    box: float
    score: float
    edge: float
    unmatched: float
    on_average: bool = True


# What a precision costs in AP says `kyolo benchmark`; these tell a conversion that is wrong. On trained detectors of
# 320 pixels int8 is 1 pixel off on average, and 4.5 if what comes behind the last convolutions is quantized too.
TOLERANCES = {
    "float32": Tolerance(box=0.05, score=1e-3, edge=1e-3, unmatched=0.0, on_average=False),
    "float16": Tolerance(box=0.2, score=0.01, edge=0.02, unmatched=0.02),
    "dynamic": Tolerance(box=1.0, score=0.03, edge=0.1, unmatched=0.1),
    "int8": Tolerance(box=3.0, score=0.06, edge=0.1, unmatched=0.1),
}


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

    @classmethod
    def of(
        cls, images: int, box_errors: Sequence[float], score_errors: Sequence[float], unmatched: int = 0
    ) -> "ParityReport":
        """A report from the largest difference of a side of each box, and the difference of each score."""
        errors = [np.asarray(each, np.float64) if len(each) else np.zeros(1) for each in (box_errors, score_errors)]
        figures = [float(each.max()) for each in errors] + [float(each.mean()) for each in errors]
        return cls(images, len(box_errors), *figures, unmatched)

    def check(self, precision: str = "float32") -> "ParityReport":
        """Return the report itself; raise `ExportError` when it is over the tolerances of a precision."""
        allowed = TOLERANCES[precision]
        box, score = self.box_error, self.score_error
        if allowed.on_average:
            box, score = self.mean_box_error, self.mean_score_error
        share = self.unmatched / max(self.compared + self.unmatched, 1)
        if box <= allowed.box and score <= allowed.score and share <= allowed.unmatched:
            return self
        which = "on average " if allowed.on_average else ""
        raise ExportError(
            f"The export differs from the detector on {self.images} images: expected {which}boxes within {allowed.box} "
            f"px and scores within {allowed.score} for {precision}, and {allowed.unmatched:.0%} detections that only "
            f"one of them gives; received {box:.3g} px, {score:.3g}, and {self.unmatched} of "
            f"{self.compared + self.unmatched}; nothing was written"
        )


def compare_outputs(
    detector: Any, exported: Any, inputs: Sequence[np.ndarray], image_size: tuple[int, int]
) -> ParityReport:
    """Compare the boxes and scores of all anchor points, boxes clipped to the network's input.

    Args:
        detector: the `Detector`.
        exported: what is called and decodes like one (`TFLiteDetector`).
        inputs: network inputs, (H, W, 3) 0..255.
        image_size: (H, W).

    Returns:
        The report, not checked.
    """
    pixels = np.array([image_size[1], image_size[0]] * 2, np.float32)
    box_errors: list[float] = []
    score_errors: list[float] = []
    for image in inputs:
        expected, found = (raw_outputs(each, image[None], image_size) for each in (detector, exported))
        differences = {name: np.abs(np.subtract(expected[name], found[name])) for name in expected}
        box_errors.extend((differences["boxes"] * pixels).max(axis=-1).ravel())
        score_errors.extend(differences["scores"].ravel())
    return ParityReport.of(len(inputs), box_errors, score_errors)


def compare_detections(
    pairs: Iterable[tuple[Detections, Detections]], settings: NMSSettings, precision: str = "float32"
) -> ParityReport:
    """Compare detections, after the suppression. Each is looked up in both directions.

    Those at the very edge of being listed (by the confidence, or by the number of detections) may be in one and not in
    the other.

    Args:
        pairs: of each image the detector's detections and the export's, boxes in pixels of the network's input.
        settings: of both.
        precision: of the export, whose tolerance says how wide that edge is.

    Returns:
        The report, not checked.
    """
    box_errors, score_errors, unmatched, images = [], [], 0, 0
    for images, pair in enumerate(pairs, start=1):  # noqa: B007 (their number)
        edge = _listing_edge(pair, settings) + TOLERANCES[precision].edge
        for one, other in (pair, reversed(pair)):
            for i, j in _matches(one, other):
                if j is not None:
                    box_errors.append(np.abs(one["boxes"][i] - other["boxes"][j]).max())
                    score_errors.append(np.abs(one["scores"][i] - other["scores"][j]))
                elif one["scores"][i] > edge:
                    unmatched += 1
    return ParityReport.of(images, box_errors, score_errors, unmatched)


def _matches(one: Detections, other: Detections) -> Iterator[tuple[int, int | None]]:
    """Each detection of one, and the one of the same class that overlaps it most in the other; None where none does."""
    for i, (box, label) in enumerate(zip(one["boxes"], one["labels"], strict=True)):
        overlaps = np.where(other["labels"] == label, iou(box[None], other["boxes"]), 0.0)
        best = int(np.argmax(overlaps)) if len(overlaps) else -1
        yield i, best if len(overlaps) and overlaps[best] >= MATCH_IOU else None


def _listing_edge(pair: tuple[Detections, Detections], settings: NMSSettings) -> float:
    """Score of the last detection that could be listed in both."""
    full = [float(each["scores"][-1]) for each in pair if len(each["scores"]) == settings.max_detections]
    return max([settings.confidence, *full])
