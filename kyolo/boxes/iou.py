"""Similarities of two boxes: the loss of each is one minus it.

All take xyxy boxes `(..., 4)` in any one unit, broadcast, and return `(...)`. Nothing divides by a quantity with an
absolute epsilon, so a box of side 1e-4 is compared as exactly as one of side 1e4: 0 / 0 counts as 0, in the value and
in the gradient.
"""

import math
from typing import NamedTuple

from keras import ops


class _Pair(NamedTuple):
    """What the formulas share: sides of both boxes and of the box that encloses them, centre offset, overlap."""

    width1: object
    height1: object
    width2: object
    height2: object
    enclosing_width: object
    enclosing_height: object
    offset_x: object
    offset_y: object
    overlap: object  # intersection over union


def _compare(boxes1, boxes2):
    left1, top1, right1, bottom1 = ops.unstack(ops.convert_to_tensor(boxes1), 4, axis=-1)
    left2, top2, right2, bottom2 = ops.unstack(ops.convert_to_tensor(boxes2), 4, axis=-1)
    width1, height1 = ops.maximum(right1 - left1, 0), ops.maximum(bottom1 - top1, 0)
    width2, height2 = ops.maximum(right2 - left2, 0), ops.maximum(bottom2 - top2, 0)
    shared_width = ops.maximum(ops.minimum(right1, right2) - ops.maximum(left1, left2), 0)
    shared_height = ops.maximum(ops.minimum(bottom1, bottom2) - ops.maximum(top1, top2), 0)
    intersection = shared_width * shared_height
    union = width1 * height1 + width2 * height2 - intersection
    return _Pair(
        width1,
        height1,
        width2,
        height2,
        enclosing_width=ops.maximum(right1, right2) - ops.minimum(left1, left2),
        enclosing_height=ops.maximum(bottom1, bottom2) - ops.minimum(top1, top2),
        offset_x=((left2 - left1) + (right2 - right1)) / 2,  # differences first: exact for far away, small boxes
        offset_y=((top2 - top1) + (bottom2 - bottom1)) / 2,
        overlap=ops.divide_no_nan(intersection, union),
    )


def iou(boxes1, boxes2):
    """Intersection over union, in 0..1.

    Args:
        boxes1: `(..., 4)` xyxy boxes.
        boxes2: `(..., 4)` xyxy boxes in the same unit, broadcast against `boxes1`.

    Returns:
        `(...)` similarity; 0 for boxes that do not overlap and for boxes without area.

    Example:
        >>> float(iou([0.0, 0.0, 10.0, 10.0], [5.0, 5.0, 15.0, 15.0]))  # 25 / 175
        0.1428571492433548
    """
    return _compare(boxes1, boxes2).overlap


def _aspect_angle(width, height):
    # atan2 has no gradient at (0, 0): such a box gets the angle 0, the limit of atan(w / (h + eps)).
    height = ops.where(ops.logical_and(width == 0, height == 0), ops.ones_like(height), height)
    return ops.arctan2(width, height)


def ciou(boxes1, boxes2):
    """Complete IoU: overlap, distance of the centres and aspect ratio; in (-1.5, 1].

    `IoU - rho^2 / c^2 - alpha v`, with `rho` the distance of the centres, `c` the diagonal of the enclosing box,
    `v = 4 / pi^2 (atan(w2 / h2) - atan(w1 / h1))^2` and `alpha = v / ((1 - IoU) + v)`, through which no gradient flows.

    Args:
        boxes1: `(..., 4)` xyxy boxes.
        boxes2: `(..., 4)` xyxy boxes in the same unit, broadcast against `boxes1`.

    Returns:
        `(...)` similarity, 1 for identical boxes.

    Reference:
        Zheng et al., Distance-IoU Loss, arXiv 1911.08287, equations 8 to 11: alpha is not gated by the overlap (as the
        journal version, arXiv 2005.03572, does), and the gradient of v keeps its factor 1 / (w^2 + h^2).
    """
    pair = _compare(boxes1, boxes2)
    distance = ops.square(pair.offset_x) + ops.square(pair.offset_y)
    diagonal = ops.square(pair.enclosing_width) + ops.square(pair.enclosing_height)
    angles = _aspect_angle(pair.width2, pair.height2) - _aspect_angle(pair.width1, pair.height1)
    aspect = (4 / math.pi**2) * ops.square(angles)
    alpha = ops.stop_gradient(ops.divide_no_nan(aspect, (1 - pair.overlap) + aspect))
    return pair.overlap - ops.divide_no_nan(distance, diagonal) - alpha * aspect


def siou(boxes1, boxes2, theta=4.0):
    """SCYLLA IoU: overlap, distance of the centres weighted by their angle, and shape; in (-1.03, 1].

    `IoU - (Delta + Omega) / 2`. With `Lambda = sin(2 angle) = 2 |dx| |dy| / (dx^2 + dy^2)` and `gamma = 2 - Lambda`:
    `Delta = sum over x, y of 1 - exp(-gamma (d / c)^2)`, `c` a side of the enclosing box;
    `Omega = sum over w, h of (1 - exp(-|s1 - s2| / max(s1, s2)))^theta`.

    Args:
        boxes1: `(..., 4)` xyxy boxes.
        boxes2: `(..., 4)` xyxy boxes in the same unit, broadcast against `boxes1`.
        theta: how sharply the shape counts, 2 to 6 in the paper. Default 4, the paper's.

    Returns:
        `(...)` similarity, 1 for identical boxes.

    Reference:
        Gevorgyan, SIoU Loss, arXiv 2205.12740. The paper writes Lambda with an arcsine; the closed form has the same
        value and a gradient everywhere. The distance cost is normalised by the enclosing box.
    """
    pair = _compare(boxes1, boxes2)
    squared_x, squared_y = ops.square(pair.offset_x), ops.square(pair.offset_y)
    angle = ops.divide_no_nan(2 * ops.abs(pair.offset_x) * ops.abs(pair.offset_y), squared_x + squared_y)
    gamma = 2 - angle
    distance = _saturate(gamma * ops.divide_no_nan(squared_x, ops.square(pair.enclosing_width))) + _saturate(
        gamma * ops.divide_no_nan(squared_y, ops.square(pair.enclosing_height))
    )
    shape = (
        _saturate(_relative_difference(pair.width1, pair.width2)) ** theta
        + _saturate(_relative_difference(pair.height1, pair.height2)) ** theta
    )
    return pair.overlap - (distance + shape) / 2


def _saturate(x):
    return 1 - ops.exp(-x)


def _relative_difference(side1, side2):
    return ops.divide_no_nan(ops.abs(side1 - side2), ops.maximum(side1, side2))
