"""Similarities of two boxes: the loss of each is one minus it.

All take xyxy boxes `(..., 4)` in any one unit, broadcast, and return `(...)`: float64 for float64 boxes, else float32,
since the area of a box of 256 pixels overflows float16. Nothing divides by a quantity with an absolute epsilon, so a
box of side 1e-4 is compared as exactly as one of side 1e4: 0 / 0 counts as 0, in the value and in the gradient.
"""

from keras import ops

from kyolo.boxes.pair import Pair, as_floats, compare, power, saturate, shared_length, squared_length, squared_ratio
from kyolo.errors import ArgumentError

ALPHA_PENALTIES = {"iou": (), "giou": (Pair.emptiness,), "diou": (Pair.distance,), "ciou": (Pair.distance, Pair.aspect)}


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
    return compare(boxes1, boxes2).overlap


def giou(boxes1, boxes2):
    """Generalised IoU: overlap, and how empty the enclosing box is; in (-1, 1].

    `IoU - (C - U) / C`, with `C` the area of the enclosing box and `U` that of the union.

    Args:
        boxes1: `(..., 4)` xyxy boxes.
        boxes2: `(..., 4)` xyxy boxes in the same unit, broadcast against `boxes1`.

    Returns:
        `(...)` similarity, 1 for identical boxes; the IoU where one box lies inside the other.

    Reference:
        Rezatofighi et al., Generalized Intersection over Union, arXiv 1902.09630, algorithm 2.
    """
    pair = compare(boxes1, boxes2)
    return pair.overlap - pair.emptiness()


def diou(boxes1, boxes2):
    """Distance IoU: overlap and distance of the centres; in (-1, 1].

    `IoU - rho^2 / c^2`, with `rho` the distance of the centres and `c` the diagonal of the enclosing box.

    Args:
        boxes1: `(..., 4)` xyxy boxes.
        boxes2: `(..., 4)` xyxy boxes in the same unit, broadcast against `boxes1`.

    Returns:
        `(...)` similarity, 1 for identical boxes; the IoU where the centres coincide.

    Reference:
        Zheng et al., Distance-IoU Loss, arXiv 1911.08287, equation 7.
    """
    pair = compare(boxes1, boxes2)
    return pair.overlap - pair.distance()


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
    pair = compare(boxes1, boxes2)
    return pair.overlap - pair.distance() - pair.aspect()


def alpha_iou(boxes1, boxes2, base="ciou", alpha=3.0):
    """Alpha-IoU: another similarity with its overlap and each of its penalties raised to a power.

    `IoU^alpha - sum of penalty^alpha`: with alpha above 1, boxes that overlap well weigh more.

    Args:
        boxes1: `(..., 4)` xyxy boxes.
        boxes2: `(..., 4)` xyxy boxes in the same unit, broadcast against `boxes1`.
        base: "iou", "giou", "diou" or "ciou": whose penalties. Default "ciou".
        alpha: the power, above 0; below 1 the gradient at a term of 0 counts as 0. Default 3, the paper's.

    Returns:
        `(...)` similarity, 1 for identical boxes.

    Raises:
        ValueError: for another base.

    Reference:
        He et al., Alpha-IoU, arXiv 2110.13675, equations 3 and 4; CIoU's own alpha is that of the plain overlap.
    """
    if base not in ALPHA_PENALTIES:
        raise ArgumentError("base", f"expected one of {', '.join(ALPHA_PENALTIES)}, got {base!r}.")
    pair = compare(boxes1, boxes2)
    similarity = power(pair.overlap, alpha)
    for penalty in ALPHA_PENALTIES[base]:
        similarity -= power(penalty(pair), alpha)
    return similarity


def eiou(boxes1, boxes2):
    """Efficient IoU: overlap, distance of the centres and difference of each side; in (-3, 1].

    `IoU - rho^2 / c^2 - (w1 - w2)^2 / cw^2 - (h1 - h2)^2 / ch^2`, with `cw` and `ch` the sides of the enclosing box.

    Args:
        boxes1: `(..., 4)` xyxy boxes.
        boxes2: `(..., 4)` xyxy boxes in the same unit, broadcast against `boxes1`.

    Returns:
        `(...)` similarity, 1 for identical boxes.

    Reference:
        Zhang et al., Focal and Efficient IOU Loss, arXiv 2101.08158.
    """
    pair = compare(boxes1, boxes2)
    return (
        pair.overlap
        - pair.distance()
        - squared_ratio(pair.width1 - pair.width2, pair.enclosing_width)
        - squared_ratio(pair.height1 - pair.height2, pair.enclosing_height)
    )


def siou(boxes1, boxes2, theta=4.0):
    """SCYLLA IoU: overlap, distance of the centres weighted by their angle, and shape; in (-1.03, 1].

    `IoU - (Delta + Omega) / 2`. With `Lambda = sin(2 angle) = 2 |dx| |dy| / (dx^2 + dy^2)` and `gamma = 2 - Lambda`:
    `Delta = sum over x, y of 1 - exp(-gamma (d / c)^2)`, `c` a side of the enclosing box;
    `Omega = sum over w, h of (1 - exp(-|s1 - s2| / max(s1, s2)))^theta`.

    Args:
        boxes1: `(..., 4)` xyxy boxes.
        boxes2: `(..., 4)` xyxy boxes in the same unit, broadcast against `boxes1`.
        theta: how sharply the shape counts, at least 1; 2 to 6 in the paper. Default 4, the paper's.

    Returns:
        `(...)` similarity, 1 for identical boxes.

    Reference:
        Gevorgyan, SIoU Loss, arXiv 2205.12740. The paper writes Lambda with an arcsine; the closed form has the same
        value and a gradient everywhere. The distance cost is normalised by the enclosing box.
    """
    pair = compare(boxes1, boxes2)
    offsets = ops.abs(pair.offset_x * pair.offset_y)
    gamma = 2 - ops.divide_no_nan(2 * offsets, squared_length(pair.offset_x, pair.offset_y))
    distance_x = saturate(gamma * squared_ratio(pair.offset_x, pair.enclosing_width))
    distance_y = saturate(gamma * squared_ratio(pair.offset_y, pair.enclosing_height))
    shape = saturate(pair.width_difference()) ** theta + saturate(pair.height_difference()) ** theta
    return pair.overlap - (distance_x + distance_y + shape) / 2


def wiou(boxes1, boxes2):
    """Wise IoU, version 1: the more two boxes' centres differ, the more their lack of overlap counts; in (1 - e, 1].

    `1 - exp(rho^2 / c^2) (1 - IoU)`, with `rho` and `c` as in `diou`; no gradient flows through `c`, so that nothing is
    won by a larger enclosing box.

    Args:
        boxes1: `(..., 4)` xyxy boxes.
        boxes2: `(..., 4)` xyxy boxes in the same unit, broadcast against `boxes1`.

    Returns:
        `(...)` similarity, 1 for identical boxes.

    Reference:
        Tong et al., Wise-IoU, arXiv 2301.10051. Versions 2 and 3 need a running mean: `kyolo.losses.WIoULoss`.
    """
    pair = compare(boxes1, boxes2)
    diagonal = ops.stop_gradient(pair.squared_diagonal())
    distance = ops.divide_no_nan(squared_length(pair.offset_x, pair.offset_y), diagonal)
    return 1 - ops.exp(distance) * (1 - pair.overlap)


def mpdiou(boxes1, boxes2, image_size):
    """Minimum-point-distance IoU: overlap and distances of the two corners, measured by the image's diagonal.

    `IoU - (d1^2 + d2^2) / (W^2 + H^2)`, with `d1` and `d2` the distances of the top left and bottom right corners.

    Args:
        boxes1: `(..., 4)` xyxy boxes.
        boxes2: `(..., 4)` xyxy boxes in the same unit, broadcast against `boxes1`.
        image_size: `(H, W)` of the network's input, in the unit of the boxes.

    Returns:
        `(...)` similarity, 1 for identical boxes; at least -2 where both lie in the image.

    Reference:
        Ma and Xu, MPDIoU, arXiv 2307.07662.
    """
    height, width = image_size
    boxes1, boxes2 = as_floats(boxes1, boxes2)
    corners = ops.sum(ops.square(boxes1 - boxes2), axis=-1)
    return iou(boxes1, boxes2) - corners / (height**2 + width**2)


def inner_iou(boxes1, boxes2, ratio=0.75):
    """IoU of both boxes after each is scaled about its own centre, in 0..1.

    Smaller boxes overlap less, which sharpens the loss of pairs that fit well already; larger ones overlap before the
    boxes themselves do.

    Args:
        boxes1: `(..., 4)` xyxy boxes.
        boxes2: `(..., 4)` xyxy boxes in the same unit, broadcast against `boxes1`.
        ratio: factor of the sides, above 0; 0.5 to 1.5 in the paper. Default 0.75.

    Returns:
        `(...)` similarity, 1 for identical boxes.

    Reference:
        Zhang et al., Inner-IoU, arXiv 2311.02877. `kyolo.losses.InnerIoULoss` puts it in the place of another's IoU.
    """
    pair = compare(boxes1, boxes2)
    # Two intervals that overlap share the shorter of them, or half the sum of their lengths less the offset.
    shared_width = shared_length(ratio * pair.width1, ratio * pair.width2, pair.offset_x)
    shared_height = shared_length(ratio * pair.height1, ratio * pair.height2, pair.offset_y)
    intersection = shared_width * shared_height
    areas = ratio**2 * (pair.width1 * pair.height1 + pair.width2 * pair.height2)
    return ops.divide_no_nan(intersection, areas - intersection)


def shape_iou(boxes1, boxes2, scale=0.0):
    """Shape IoU: distance and shape differences weighed by the shape of the target; in (-1.16, 1] for a scale of 0.

    `IoU - (hh dx^2 + ww dy^2) / c^2 - Omega / 2`, with `ww = 2 w2^scale / (w2^scale + h2^scale)`, `hh` likewise for the
    height, and `Omega = sum of (1 - exp(-hh |w1 - w2| / max(w1, w2)))^4` and the same with `ww` for the heights: an
    error along the shorter side of the target costs more.

    Args:
        boxes1: `(..., 4)` predicted xyxy boxes.
        boxes2: `(..., 4)` target xyxy boxes in the same unit, broadcast against `boxes1`; their shape weighs, and
            carries no gradient.
        scale: how much the target's shape counts, at least 0; grows with the objects of a data set. Default 0: not.

    Returns:
        `(...)` similarity, 1 for identical boxes.

    Reference:
        Zhang and Zhang, Shape-IoU, arXiv 2312.17663, and the authors' code.
    """
    pair = compare(boxes1, boxes2)
    longer = ops.maximum(pair.width2, pair.height2)  # by which both are measured: no power of 0..1 overflows
    wide, high = (ops.stop_gradient(ops.divide_no_nan(side, longer)) ** scale for side in (pair.width2, pair.height2))
    weight_x = 2 * ops.divide_no_nan(high, wide + high)
    weight_y = 2 * ops.divide_no_nan(wide, wide + high)
    offsets = weight_x * ops.square(pair.offset_x) + weight_y * ops.square(pair.offset_y)
    distance = ops.divide_no_nan(offsets, pair.squared_diagonal())
    shape_x = saturate(weight_x * pair.width_difference()) ** 4
    shape_y = saturate(weight_y * pair.height_difference()) ** 4
    return pair.overlap - distance - (shape_x + shape_y) / 2
