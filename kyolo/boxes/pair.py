"""What the similarities of `kyolo.boxes.iou` are made of: two boxes compared, and the terms that several share."""

import math
from typing import Any, NamedTuple

import keras
from keras import ops


class Pair(NamedTuple):
    """Two boxes compared. All tensors broadcast to one shape `(...)`; lengths are in the boxes' unit.

    Attributes:
        width1: width of the first box, 0 where it is turned inside out; `height1`, `width2` and `height2` likewise.
        enclosing_width: width of the smallest box around both; `enclosing_height` likewise.
        offset_x: from the first centre to the second; `offset_y` likewise.
        union: area that the boxes cover.
        overlap: intersection over union.
    """

    width1: Any
    height1: Any
    width2: Any
    height2: Any
    enclosing_width: Any
    enclosing_height: Any
    offset_x: Any
    offset_y: Any
    union: Any
    overlap: Any

    def emptiness(self):
        """Part of the enclosing box that the union leaves empty: GIoU's penalty."""
        enclosing = self.enclosing_width * self.enclosing_height
        return ops.divide_no_nan(enclosing - self.union, enclosing)

    def distance(self):
        """Squared distance of the centres by the squared diagonal of the enclosing box: DIoU's penalty."""
        return ops.divide_no_nan(squared_length(self.offset_x, self.offset_y), self.squared_diagonal())

    def squared_diagonal(self):
        """Squared diagonal of the enclosing box."""
        return squared_length(self.enclosing_width, self.enclosing_height)

    def aspect(self):
        """CIoU's `alpha v`, with alpha held fixed."""
        angle = _angle(self.width2, self.height2) - _angle(self.width1, self.height1)
        v = (4 / math.pi**2) * ops.square(angle)
        return ops.stop_gradient(ops.divide_no_nan(v, (1 - self.overlap) + v)) * v

    def width_difference(self):
        """`|w1 - w2| / max(w1, w2)`."""
        return _relative_difference(self.width1, self.width2)

    def height_difference(self):
        """`|h1 - h2| / max(h1, h2)`."""
        return _relative_difference(self.height1, self.height2)


def compare(boxes1, boxes2):
    """Compares `(..., 4)` xyxy boxes, which broadcast."""
    boxes1, boxes2 = as_floats(boxes1, boxes2)
    left1, top1, right1, bottom1 = ops.unstack(boxes1, 4, axis=-1)
    left2, top2, right2, bottom2 = ops.unstack(boxes2, 4, axis=-1)
    width1, height1 = ops.maximum(right1 - left1, 0), ops.maximum(bottom1 - top1, 0)
    width2, height2 = ops.maximum(right2 - left2, 0), ops.maximum(bottom2 - top2, 0)
    shared_width = ops.maximum(ops.minimum(right1, right2) - ops.maximum(left1, left2), 0)
    shared_height = ops.maximum(ops.minimum(bottom1, bottom2) - ops.maximum(top1, top2), 0)
    intersection = shared_width * shared_height
    # From what each box has alone: exact for boxes that nearly fit, and by no rounding smaller than the intersection.
    alone1 = (width1 - shared_width) * height1 + shared_width * (height1 - shared_height)
    alone2 = (width2 - shared_width) * height2 + shared_width * (height2 - shared_height)
    union = intersection + (alone1 + alone2)
    return Pair(
        width1,
        height1,
        width2,
        height2,
        enclosing_width=ops.maximum(right1, right2) - ops.minimum(left1, left2),
        enclosing_height=ops.maximum(bottom1, bottom2) - ops.minimum(top1, top2),
        offset_x=((left2 - left1) + (right2 - right1)) / 2,  # differences first: exact for far away, small boxes
        offset_y=((top2 - top1) + (bottom2 - bottom1)) / 2,
        union=union,
        overlap=ops.divide_no_nan(intersection, union),
    )


def as_floats(boxes1, boxes2):
    """Both as tensors of one dtype: float64 where one is, else float32."""
    boxes1, boxes2 = ops.convert_to_tensor(boxes1), ops.convert_to_tensor(boxes2)
    dtype = keras.backend.result_type(boxes1.dtype, boxes2.dtype, "float32")
    return ops.cast(boxes1, dtype), ops.cast(boxes2, dtype)


def squared_length(x, y):
    """`x^2 + y^2`."""
    return ops.square(x) + ops.square(y)


def squared_ratio(difference, side):
    """`(difference / side)^2`."""
    return ops.square(ops.divide_no_nan(difference, side))


def saturate(x):
    """`1 - exp(-x)`."""
    return 1 - ops.exp(-x)


def shared_length(length1, length2, offset):
    """Length that two intervals share whose centres are `offset` apart."""
    return ops.maximum(ops.minimum(ops.minimum(length1, length2), (length1 + length2) / 2 - ops.abs(offset)), 0)


def power(x, exponent):
    """`x^exponent` for x >= 0, with the gradient 0 at 0, where it is infinite for exponents below 1."""
    if exponent == 0:
        return ops.ones_like(x)
    is_positive = x > 0
    return ops.where(is_positive, ops.power(ops.where(is_positive, x, 1), exponent), 0)


def _angle(width, height):
    # atan2 has no gradient at (0, 0): such a box gets the angle 0, the limit of atan(w / (h + eps)).
    height = ops.where(ops.logical_and(width == 0, height == 0), ops.ones_like(height), height)
    return ops.arctan2(width, height)


def _relative_difference(side1, side2):
    return ops.divide_no_nan(ops.abs(side1 - side2), ops.maximum(side1, side2))
