"""Does an export give what the detector gives? On real images: random ones never reach the large activations."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from kyolo.data import letterbox
from kyolo.evaluation.detect import Detections, NMSSettings, Predictor
from kyolo.export.errors import ExportError

BOX_TOLERANCE = 0.05  # pixels of the network's input
SCORE_TOLERANCE = 1e-3


@dataclass(frozen=True)
class ParityReport:
    """How far an export is from the detector it was made of.

    Attributes:
        images: number of images compared.
        box_error: largest difference of a box side, pixels of the network's input.
        score_error: largest difference of a score.
        compared: number of boxes compared.
        unmatched: number of detections that only one of the two gave.
    """

    images: int
    box_error: float
    score_error: float
    compared: int
    unmatched: int = 0

    def check(self) -> "ParityReport":
        """Return the report itself; raise `ExportError` when it is over the tolerances."""
        if self.box_error <= BOX_TOLERANCE and self.score_error <= SCORE_TOLERANCE and not self.unmatched:
            return self
        raise ExportError(
            f"The export differs from the detector on {self.images} images: expected boxes within {BOX_TOLERANCE} px "
            f"and scores within {SCORE_TOLERANCE}, received {self.box_error:.3g} px, {self.score_error:.3g}, and "
            f"{self.unmatched} detections that only one of them gives; nothing was written"
        )


def compare_outputs(
    detector: Any, exported: Any, images: Sequence[np.ndarray], *, image_size: tuple[int, int], fit: str
) -> ParityReport:
    """Compare the boxes and scores of all anchor points, boxes clipped to the network's input.

    Args:
        detector: the `Detector`.
        exported: what is called and decodes like one (`TFLiteDetector`).
        images: (h, w, 3) uint8 of any size.
        image_size: (H, W) of the network's input.
        fit: "letterbox" or "stretch".

    Returns:
        The report, not checked.
    """
    limit = np.array([image_size[1], image_size[0]] * 2, np.float32)
    box_errors, score_errors, compared = [0.0], [0.0], 0
    for image in images:
        network_input = letterbox(image, image_size, fit)[0][None]
        boxes, scores = detector.decode(detector(network_input, training=False), image_size=image_size)
        found_boxes, found_scores = exported.decode(exported(network_input), image_size=image_size)
        box_errors.append(np.abs(np.clip(boxes, 0, limit) - found_boxes).max())
        score_errors.append(np.abs(np.asarray(scores) - found_scores).max())
        compared += boxes.shape[1]
    return ParityReport(len(images), float(np.max(box_errors)), float(np.max(score_errors)), compared)


def compare_detections(
    predictor: Predictor,
    exported: Callable[[np.ndarray], dict],
    images: Sequence[np.ndarray],
    *,
    image_size: tuple[int, int],
    fit: str,
) -> ParityReport:
    """Compare detections, after the suppression, in the pixels of the original images.

    Those at the very edge of being listed (by the confidence, or by the number of detections) may be in one and not in
    the other.

    Args:
        predictor: the `Detector` and its settings.
        exported: from (1, h, w, 3) uint8 to the four padded tensors of the SavedModel.
        images: (h, w, 3) uint8 of any size.
        image_size: (H, W) of the network's input.
        fit: "letterbox" or "stretch".

    Returns:
        The report, not checked.
    """
    box_errors, score_errors, compared, unmatched = [0.0], [0.0], 0, 0
    for image in images:
        network_input, parameters = letterbox(image, image_size, fit)
        (expected,) = predictor.predict([(network_input[None], parameters[None], [image.shape[:2]])])
        scale = np.tile(parameters[:2], 2)
        found = {name: np.asarray(tensor[0]) for name, tensor in exported(image[None]).items()}
        count = found.pop("num_detections")
        found = {name: array[:count] for name, array in found.items()}
        edge = _listing_edge(expected, found, predictor.settings)
        for one, other in ((expected, found), (found, expected)):
            for box, score, label in zip(one["boxes"], one["scores"], one["labels"], strict=True):
                box_error = np.abs((other["boxes"] - box) * scale).max(axis=-1)
                score_error = np.abs(other["scores"] - score)
                matches = (other["labels"] == label) & (box_error < 1) & (score_error < 10 * SCORE_TOLERANCE)
                if matches.any():
                    best = np.argmin(np.where(matches, box_error, np.inf))
                    box_errors.append(box_error[best])
                    score_errors.append(score_error[best])
                    compared += 1
                elif score > edge:
                    unmatched += 1
    return ParityReport(len(images), float(np.max(box_errors)), float(np.max(score_errors)), compared, unmatched)


def _listing_edge(expected: Detections, found: Detections, settings: NMSSettings) -> float:
    """Score up to which a difference within the tolerance decides whether a detection is listed."""
    edge = settings.confidence
    for detections in (expected, found):
        if len(detections["scores"]) == settings.max_detections:
            edge = max(edge, float(detections["scores"][-1]))
    return edge + SCORE_TOLERANCE
