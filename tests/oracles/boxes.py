"""Similarities of two boxes: predicted p and target g, (..., 4) each.

Where a paper holds a part without gradient, that part is computed from the boxes `at`, a pair like (p, g), by default p
and g themselves. Differences of values that move p or g but not `at` are then the gradient that the paper means.
"""

import numpy as np

from tests.oracles.numbers import divide


def sides(boxes):
    """Widths and heights of xyxy boxes."""
    boxes = np.float64(boxes)
    return boxes[..., 2] - boxes[..., 0], boxes[..., 3] - boxes[..., 1]


def areas(p, g):
    """Areas of the intersection, of the union and of the box that encloses both."""
    (w, h), (wg, hg), (cw, ch) = sides(p), sides(g), sides(enclosing(p, g))
    p, g = np.float64(p), np.float64(g)
    inner_w = np.minimum(p[..., 2], g[..., 2]) - np.maximum(p[..., 0], g[..., 0])
    inner_h = np.minimum(p[..., 3], g[..., 3]) - np.maximum(p[..., 1], g[..., 1])
    intersection = np.maximum(inner_w, 0) * np.maximum(inner_h, 0)
    return intersection, w * h + wg * hg - intersection, cw * ch


def enclosing(p, g):
    """The smallest box that holds both."""
    return np.concatenate([np.minimum(p, g)[..., :2], np.maximum(p, g)[..., 2:]], axis=-1)


def offsets(p, g):
    """Offsets dx, dy of the centres."""
    p, g = np.float64(p), np.float64(g)
    dx = ((p[..., 0] - g[..., 0]) + (p[..., 2] - g[..., 2])) / 2
    dy = ((p[..., 1] - g[..., 1]) + (p[..., 3] - g[..., 3])) / 2
    return dx, dy


# ---------------------------------------------------------------- penalties, each 0 for identical boxes


def gap(p, g):
    """GIoU's: the share of the enclosing box that neither box covers."""
    _, union, enclosed = areas(p, g)
    return divide(enclosed - union, enclosed)


def distance(p, g):
    """DIoU's: the squared distance of the centres over the squared diagonal of the enclosing box."""
    (dx, dy), (cw, ch) = offsets(p, g), sides(enclosing(p, g))
    return divide(dx**2 + dy**2, cw**2 + ch**2)


def aspect(p, g):
    """CIoU's v: how far the aspect angles are apart, that of a line being a right one or 0."""
    (w, h), (wg, hg) = sides(p), sides(g)
    return 4 / np.pi**2 * (np.arctan2(wg, hg) - np.arctan2(w, h)) ** 2


def aspect_weight(p, g):
    """CIoU's alpha, which carries no gradient."""
    v = aspect(p, g)
    return divide(v, (1 - iou(p, g)) + v)


# ---------------------------------------------------------------- similarities


def iou(p, g):
    """Intersection over union."""
    intersection, union, _ = areas(p, g)
    return divide(intersection, union)


def giou(p, g):
    """1902.09630, Algorithm 2."""
    return iou(p, g) - gap(p, g)


def diou(p, g):
    """1911.08287, Eq. 7."""
    return iou(p, g) - distance(p, g)


def ciou(p, g, at=None):
    """1911.08287, Eq. 8 to 11."""
    return diou(p, g) - aspect_weight(*(at or (p, g))) * aspect(p, g)


def eiou(p, g):
    """2101.08158: DIoU and the differences of the sides, each over the side of the enclosing box."""
    (w, h), (wg, hg), (cw, ch) = sides(p), sides(g), sides(enclosing(p, g))
    return diou(p, g) - divide(w - wg, cw) ** 2 - divide(h - hg, ch) ** 2


def siou(p, g, theta=4.0):
    """2205.12740, the angle cost in its closed form sin(2 alpha)."""
    dx, dy = offsets(p, g)
    return _siou(p, g, divide(2 * np.abs(dx) * np.abs(dy), dx**2 + dy**2), theta)


def siou_asin(p, g, theta=4.0):
    """SIoU with the angle cost as printed: 1 - 2 sin^2(asin(|dy| / sigma) - pi / 4)."""
    dx, dy = offsets(p, g)
    sine = divide(np.abs(dy), np.hypot(dx, dy))
    return _siou(p, g, 1 - 2 * np.sin(np.arcsin(np.minimum(sine, 1)) - np.pi / 4) ** 2, theta)


def _siou(p, g, angle, theta):
    (dx, dy), (cw, ch) = offsets(p, g), sides(enclosing(p, g))
    gamma = 2 - angle
    moved = (1 - np.exp(-gamma * divide(dx, cw) ** 2)) + (1 - np.exp(-gamma * divide(dy, ch) ** 2))
    return iou(p, g) - (moved + shape_cost(p, g, theta)) / 2


def shape_cost(p, g, theta=4.0, weights=(1.0, 1.0)):
    """SIoU's Omega: the relative differences of width and height, each times a weight, through (1 - exp(-x))^theta."""
    return sum(
        (1 - np.exp(-weight * divide(np.abs(mine - theirs), np.maximum(mine, theirs)))) ** theta
        for weight, mine, theirs in zip(weights, sides(p), sides(g), strict=True)
    )


def alpha_iou(p, g, base="ciou", alpha=3.0, at=None):
    """2110.13675: IoU and every penalty to the power alpha; CIoU's own alpha is that of the plain IoU, inside."""
    penalties = {
        "iou": (),
        "giou": (gap(p, g),),
        "diou": (distance(p, g),),
        "ciou": (distance(p, g), aspect_weight(*(at or (p, g))) * aspect(p, g)),
    }
    return iou(p, g) ** alpha - sum(penalty**alpha for penalty in penalties[base])


def wiou(p, g, at=None):
    """2301.10051, version 1: 1 - exp(rho^2 / c^2) (1 - IoU), where the diagonal c carries no gradient."""
    (dx, dy), (cw, ch) = offsets(p, g), sides(enclosing(*(at or (p, g))))
    return 1 - np.exp(divide(dx**2 + dy**2, cw**2 + ch**2)) * (1 - iou(p, g))


def mpdiou(p, g, image_size):
    """2307.07662: the squared distances of the upper left and of the lower right corners over the image's diagonal."""
    height, width = image_size
    return iou(p, g) - np.sum((np.float64(p) - np.float64(g)) ** 2, axis=-1) / (height**2 + width**2)


def inner_iou(p, g, ratio=0.75):
    """2311.02877: IoU of both boxes scaled about their own centres."""
    return iou(scaled(p, ratio), scaled(g, ratio))


def scaled(boxes, ratio):
    """Boxes with sides times ratio and the same centres."""
    low, high = np.float64(boxes)[..., :2], np.float64(boxes)[..., 2:]
    centre, half = (low + high) / 2, (high - low) / 2
    return np.concatenate([centre - ratio * half, centre + ratio * half], axis=-1)


def shape_iou(p, g, scale=0.0, at=None):
    """2312.17663: distance and shape weighed by the sides of the target, which as weights carry no gradient."""
    (dx, dy), (cw, ch) = offsets(p, g), sides(enclosing(p, g))
    wide, high = (side**scale for side in sides((at or (p, g))[1]))
    ww, hh = 2 * divide(wide, wide + high), 2 * divide(high, wide + high)
    moved = divide(hh * dx**2 + ww * dy**2, cw**2 + ch**2)
    return iou(p, g) - moved - 0.5 * shape_cost(p, g, weights=(hh, ww))
