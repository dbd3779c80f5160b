"""The task-aligned assigner: which anchor points learn which object, and how sure they should be."""

import dataclasses
from typing import Any, NamedTuple

from keras import ops

from kyolo.boxes.iou import ciou

EPSILON = 1e-9


class Assignment(NamedTuple):
    """What each anchor point has to learn.

    Attributes:
        target_labels: `(B, A)` int32 class ids; meaningless where `fg_mask` is False.
        target_boxes: `(B, A, 4)` xyxy boxes in pixels; meaningless where `fg_mask` is False.
        target_scores: `(B, A, K)` float32 in 0..1: the score wanted for each class, 0 off the target's class.
        fg_mask: `(B, A)` bool, True where the point was given an object.
    """

    target_labels: Any
    target_boxes: Any
    target_scores: Any
    fg_mask: Any


@dataclasses.dataclass(frozen=True)
class TaskAlignedAssigner:
    """Gives each object the `top_k` points inside it that classify and locate it best together.

    A point's alignment with an object is `t = s^alpha u^beta`: `s` the score it gives the object's class, `u` the CIoU
    of its box, at least 0. A point chosen by several objects goes to the one it overlaps most among all objects that
    contain it. The score to learn is `t` scaled so that an object's best point gets the object's best `u`.

    Args:
        num_classes: number of classes K.
        top_k: points chosen for each object. Default 10, YOLOv8's (13 in the paper).
        alpha: exponent of the score. Default 0.5, YOLOv8's (1 in the paper).
        beta: exponent of the overlap. Default 6.0.
        enlarge_tiny: let an object with a side below the smallest stride be learnt by the points inside a box of twice
            that stride about the same centre; without it an object between the points has none. Its chosen points are
            then always such candidates, also where no prediction overlaps it. Default False, as YOLOv8.

    Reference:
        Feng et al., TOOD, arXiv 2108.07755, section 3.2. YOLOv8 measures the overlap by CIoU, the paper by IoU.
    """

    num_classes: int
    top_k: int = 10
    alpha: float = 0.5
    beta: float = 6.0
    enlarge_tiny: bool = False

    def __call__(self, pred_scores, pred_boxes, anchor_points, gt_labels, gt_boxes, gt_mask, strides=None):
        """Assigns, without a gradient.

        Args:
            pred_scores: `(B, A, K)` scores after the sigmoid.
            pred_boxes: `(B, A, 4)` xyxy boxes in pixels.
            anchor_points: `(A, 2)` x, y in pixels.
            gt_labels: `(B, G)` int class ids; 0 where padded.
            gt_boxes: `(B, G, 4)` xyxy boxes in pixels.
            gt_mask: `(B, G)` bool, True for real objects.
            strides: `(A,)` stride of each point in pixels, for `enlarge_tiny`.

        Returns:
            An `Assignment`.
        """
        pred_scores, pred_boxes = ops.stop_gradient(pred_scores), ops.stop_gradient(pred_boxes)
        candidate_boxes = _enlarge(gt_boxes, ops.min(strides)) if self.enlarge_tiny else gt_boxes
        inside = self._inside(anchor_points, candidate_boxes, gt_mask)  # (B, G, A)
        overlaps = ciou(gt_boxes[:, :, None, :], pred_boxes[:, None, :, :])
        overlaps = ops.where(inside, ops.maximum(overlaps, 0), 0)  # (B, G, A)
        alignment = self._alignment(pred_scores, overlaps, gt_labels)  # (B, G, A)
        rank = ops.where(inside, alignment, -1) if self.enlarge_tiny else alignment
        chosen = ops.logical_and(self._top(rank), inside)
        chosen = self._one_object_a_point(chosen, ops.where(inside, overlaps, -1))
        return self._targets(chosen, alignment, overlaps, gt_labels, gt_boxes)

    def _inside(self, anchor_points, gt_boxes, gt_mask):
        low, high = ops.split(gt_boxes[:, :, None, :], 2, axis=-1)  # (B, G, 1, 2)
        margin = ops.min(ops.minimum(anchor_points - low, high - anchor_points), axis=-1)  # (B, G, A)
        return ops.logical_and(margin > EPSILON, gt_mask[:, :, None])

    def _alignment(self, pred_scores, overlaps, gt_labels):
        # A matrix product with one-hot rows picks each object's class: (B, G, K) x (B, K, A).
        picks = ops.one_hot(gt_labels, self.num_classes, dtype=pred_scores.dtype)
        scores = ops.matmul(picks, ops.transpose(pred_scores, (0, 2, 1)))  # (B, G, A)
        return ops.power(scores, self.alpha) * ops.power(overlaps, self.beta)

    def _top(self, alignment):
        """Marks the top_k points of each object, `(B, G, A)` bool; of equals the one with the lowest index."""
        batch, objects, _ = ops.shape(alignment)
        points = alignment.shape[-1]
        _, best = ops.top_k(alignment, min(self.top_k, points))  # (B, G, top_k)
        rows = ops.reshape(ops.arange(batch * objects), (batch, objects, 1)) * points
        flat = ops.reshape(ops.cast(best, "int32") + ops.cast(rows, "int32"), (-1, 1))
        marks = ops.scatter(flat, ops.ones_like(flat[:, 0]), (batch * objects * points,))
        return ops.reshape(marks, (batch, objects, points)) > 0

    def _one_object_a_point(self, chosen, overlaps):
        contested = ops.sum(ops.cast(chosen, "int32"), axis=1, keepdims=True) > 1  # (B, 1, A)
        best = ops.argmax(overlaps, axis=1)  # (B, A)
        objects = ops.arange(ops.shape(overlaps)[1], dtype=best.dtype)
        is_best = best[:, None, :] == objects[None, :, None]  # (B, G, A)
        return ops.where(contested, is_best, chosen)

    def _targets(self, chosen, alignment, overlaps, gt_labels, gt_boxes):
        weights = ops.cast(chosen, alignment.dtype)
        alignment = alignment * weights
        best_alignment = ops.max(alignment, axis=2, keepdims=True)  # (B, G, 1)
        best_overlap = ops.max(overlaps * weights, axis=2, keepdims=True)
        score = ops.max(alignment * best_overlap / (best_alignment + EPSILON), axis=1)  # (B, A)
        index = ops.argmax(weights, axis=1)  # (B, A): each column of `chosen` has one True at most
        labels = ops.cast(ops.take_along_axis(gt_labels, index, axis=1), "int32")
        boxes = ops.take_along_axis(gt_boxes, index[:, :, None], axis=1)
        scores = ops.one_hot(labels, self.num_classes, dtype=score.dtype) * score[:, :, None]
        return Assignment(labels, boxes, scores, ops.any(chosen, axis=1))


def _enlarge(boxes, stride):
    """Gives sides below a stride twice its length, about the same centre."""
    low, high = ops.split(boxes, 2, axis=-1)
    missing = ops.where(high - low < stride, 2 * stride - (high - low), 0) / 2
    return ops.concatenate([low - missing, high + missing], axis=-1)
