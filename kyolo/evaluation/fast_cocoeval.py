"""pycocotools' COCOeval with the same figures in less time."""

from typing import Any

import numpy as np
from pycocotools.cocoeval import COCOeval

# Of one detection: (truth, IoU) of the truths that it may match.
Neighbours = list[tuple[int, float]]


class FastCOCOeval(COCOeval):
    """Matches a detection with the truths that overlap it enough only; pycocotools' Python loop tries all of them.

    Everything else, and so every figure, is pycocotools': IoU, order, ties, crowds, ignored areas, accumulation.
    """

    def evaluateImg(self, image_id: int, category_id: int, area_range: list, max_detections: int) -> dict | None:
        """Match the detections of one image and class; the method of COCOeval that takes nearly all its time."""
        truths, detections = self._gts[image_id, category_id], self._dts[image_id, category_id]
        if not truths and not detections:
            return None

        def outside(annotation: dict) -> bool:
            return annotation["area"] < area_range[0] or annotation["area"] > area_range[1]

        ignored = np.array([bool(truth["ignore"]) or outside(truth) for truth in truths], bool)
        order = np.argsort(ignored, kind="stable")  # what counts comes before what is ignored
        truths, ignored = [truths[g] for g in order], ignored[order]
        detections = sorted(detections, key=lambda detection: -detection["score"])[:max_detections]

        matched = np.zeros((len(self.params.iouThrs), len(detections)))
        ignore = np.tile([outside(detection) for detection in detections], (len(self.params.iouThrs), 1)).astype(bool)
        if truths and detections:
            neighbours = self._neighbours(self.ious[image_id, category_id][:, order])
            for t, threshold in enumerate(self.params.iouThrs):
                for d, g in _match(neighbours, threshold, truths, ignored.tolist()):
                    matched[t, d] = truths[g]["id"]
                    if matched[t, d] or ignored[g]:  # an id of 0 reads as "not matched", as in pycocotools
                        ignore[t, d] = ignored[g]
        return {
            "dtMatches": matched,
            "dtScores": [detection["score"] for detection in detections],
            "gtIgnore": ignored,
            "dtIgnore": ignore,
        }

    def _neighbours(self, ious: np.ndarray) -> dict[int, Neighbours]:
        """Of each detection that overlaps any truth enough for the lowest threshold, by falling score."""
        found: dict[int, Neighbours] = {}
        pairs = zip(*np.nonzero(ious >= self.params.iouThrs.min()), strict=True)
        for d, g in pairs:
            found.setdefault(int(d), []).append((int(g), float(ious[d, g])))
        return found


def _match(
    neighbours: dict[int, Neighbours], threshold: float, truths: list[dict[str, Any]], ignored: list[bool]
) -> list[tuple[int, int]]:
    """Each detection takes the truth that it overlaps most, of those that no better detection took."""
    matches: list[tuple[int, int]] = []
    taken: set[int] = set()
    for d, near in neighbours.items():
        best, best_iou = -1, min(threshold, 1 - 1e-10)
        for g, iou in near:
            if g in taken and not truths[g]["iscrowd"]:
                continue
            if best > -1 and ignored[g] and not ignored[best]:
                break  # a truth that counts goes before any that is ignored
            if iou >= best_iou:
                best, best_iou = g, iou
        if best > -1:
            taken.add(best)
            matches.append((d, best))
    return matches
