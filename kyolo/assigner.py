"""The task-aligned assigner: which anchor points learn which object, and how sure they should be."""

import dataclasses
from typing import Any, NamedTuple

from keras import ops

from kyolo.boxes.iou import ciou
from kyolo.errors import ArgumentError

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
        enlarge_tiny: let an object with a side of at most the smallest stride be learnt by the points inside a box of
            twice that stride about the same centre; without it an object between the points has none. Only points
            inside are then chosen, also where no prediction overlaps the object, so that each object chooses at least
            one; another that it overlaps more may still have it. Default False, as YOLOv8.

    Time and memory follow the number of pairs of an object and a point inside it; only the table of alignments, from
    which the best are taken, has an entry for every object and every point.

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

        Raises:
            ValueError: `enlarge_tiny` without `strides`.
        """
        if self.enlarge_tiny and strides is None:
            raise ArgumentError("strides", "expected the stride of each point for enlarge_tiny, got None.")
        pred_scores, pred_boxes = ops.stop_gradient(pred_scores), ops.stop_gradient(pred_boxes)
        candidate_boxes = _enlarge(gt_boxes, ops.min(strides)) if self.enlarge_tiny else gt_boxes
        pairs = _find_pairs(candidate_boxes, gt_mask, anchor_points)
        gt_boxes, gt_labels = ops.reshape(gt_boxes, (-1, 4)), ops.reshape(ops.cast(gt_labels, "int32"), (-1,))
        overlap, alignment = self._compare(pairs, pred_scores, pred_boxes, gt_labels, gt_boxes)  # (N,)
        chosen = _one_object_a_point(pairs, self._top(pairs, alignment), overlap)  # (N,)
        score = _scale(pairs, chosen, alignment, overlap)  # (N,), 0 where not chosen

        def to_points(values):
            # At most one pair of a point is chosen: the sum over its pairs is the value of that one, or 0.
            spread = ops.segment_sum(values, pairs.point, pairs.num_points)
            return ops.reshape(spread, (*ops.shape(pred_boxes)[:2], *values.shape[1:]))

        labels = to_points(ops.where(chosen, ops.take(gt_labels, pairs.row), 0))
        return Assignment(
            labels,
            to_points(ops.where(chosen[:, None], ops.take(gt_boxes, pairs.row, axis=0), 0)),
            ops.one_hot(labels, self.num_classes, dtype=score.dtype) * to_points(score)[:, :, None],
            to_points(ops.cast(chosen, "int32")) > 0,
        )

    def _compare(self, pairs, pred_scores, pred_boxes, gt_labels, gt_boxes):
        """Overlap u and alignment t of each pair, `(N,)`."""
        boxes = ops.take(ops.reshape(pred_boxes, (-1, 4)), pairs.point, axis=0)
        overlap = ops.maximum(ciou(ops.take(gt_boxes, pairs.row, axis=0), boxes), 0)
        place = pairs.point * self.num_classes + ops.take(gt_labels, pairs.row)
        score = ops.take(ops.reshape(pred_scores, (-1,)), place)
        return overlap, ops.power(score, self.alpha) * ops.power(overlap, self.beta)

    def _top(self, pairs, alignment):
        """Whether each pair is among the top_k of its object, `(N,)`; of equals the point with the lowest index.

        All points compete, those outside the object with an alignment of 0; with `enlarge_tiny` only those inside.
        """
        place = pairs.row * pairs.num_columns + pairs.column
        spread = ops.segment_max if self.enlarge_tiny else ops.segment_sum  # of no value: the lowest number, or 0
        table = spread(alignment, place, pairs.num_rows * pairs.num_columns)
        points = pairs.num_columns  # a tensor where the images' size is known to the running graph only
        top_k = min(self.top_k, points) if isinstance(points, int) else ops.minimum(self.top_k, points)
        best, columns = ops.top_k(ops.reshape(table, (pairs.num_rows, points)), top_k)
        last, column = ops.take(best[:, -1], pairs.row), ops.take(columns[:, -1], pairs.row)
        return (alignment > last) | ((alignment == last) & (pairs.column <= column))


class _Pairs(NamedTuple):
    """Every pair of an object and a point inside it; N of them, int32 indices of shape `(N,)`."""

    row: Any  # of the object, among the B * G of all images
    point: Any  # among the B * A of all images
    column: Any  # of the point, among the A of its image
    num_rows: Any
    num_points: Any
    num_columns: Any


def _find_pairs(boxes, mask, anchor_points):
    left, top, right, bottom = ops.unstack(boxes[:, :, None, :], 4, axis=-1)  # (B, G, 1)
    x, y = ops.unstack(anchor_points, 2, axis=-1)
    inside = (left < x) & (x < right) & (top < y) & (y < bottom) & mask[:, :, None]  # (B, G, A)
    batch, objects = ops.shape(mask)
    points = ops.shape(anchor_points)[0]
    image, number, column = (ops.cast(index, "int32") for index in ops.where(inside))
    return _Pairs(
        row=image * objects + number,
        point=image * points + column,
        column=column,
        num_rows=batch * objects,
        num_points=batch * points,
        num_columns=points,
    )


def _one_object_a_point(pairs, chosen, overlap):
    """Leaves a point that several objects chose to the one it overlaps most, whether that one chose it or not."""
    contested = ops.segment_sum(ops.cast(chosen, "int32"), pairs.point, pairs.num_points) > 1
    most = ops.take(ops.segment_max(overlap, pairs.point, pairs.num_points), pairs.point)
    row = ops.where(overlap == most, -pairs.row, -pairs.num_rows)  # of equals the object with the lowest index
    winner = -ops.segment_max(row, pairs.point, pairs.num_points)
    return ops.where(ops.take(contested, pairs.point), pairs.row == ops.take(winner, pairs.point), chosen)


def _scale(pairs, chosen, alignment, overlap):
    """Scores to learn: an object's best point gets its best overlap, the others their share of it."""
    alignment = ops.where(chosen, alignment, 0)
    best_alignment = ops.segment_max(alignment, pairs.row, pairs.num_rows)
    best_overlap = ops.segment_max(ops.where(chosen, overlap, 0), pairs.row, pairs.num_rows)
    return alignment * ops.take(best_overlap / (best_alignment + EPSILON), pairs.row)


def _enlarge(boxes, stride):
    """Gives sides of at most a stride twice its length, about the same centre."""
    low, high = ops.split(boxes, 2, axis=-1)
    missing = ops.where(high - low <= stride, 2 * stride - (high - low), 0) / 2
    return ops.concatenate([low - missing, high + missing], axis=-1)
