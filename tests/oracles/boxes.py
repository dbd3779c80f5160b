"""Similarities of two boxes: predicted p and target g, (..., 4) each."""

import numpy as np

from tests.oracles.numbers import divide


def sides(boxes):
    """Widths and heights of xyxy boxes."""
    boxes = np.float64(boxes)
    return boxes[..., 2] - boxes[..., 0], boxes[..., 3] - boxes[..., 1]


def iou(p, g):
    """Intersection over union."""
    p, g = np.float64(p), np.float64(g)
    inner_w = np.minimum(p[..., 2], g[..., 2]) - np.maximum(p[..., 0], g[..., 0])
    inner_h = np.minimum(p[..., 3], g[..., 3]) - np.maximum(p[..., 1], g[..., 1])
    intersection = np.maximum(inner_w, 0) * np.maximum(inner_h, 0)
    (w, h), (wg, hg) = sides(p), sides(g)
    return divide(intersection, w * h + wg * hg - intersection)


def offsets(p, g):
    """Centre offsets dx, dy and the sides cw, ch of the enclosing box."""
    p, g = np.float64(p), np.float64(g)
    dx = (p[..., 0] + p[..., 2] - g[..., 0] - g[..., 2]) / 2
    dy = (p[..., 1] + p[..., 3] - g[..., 1] - g[..., 3]) / 2
    cw = np.maximum(p[..., 2], g[..., 2]) - np.minimum(p[..., 0], g[..., 0])
    ch = np.maximum(p[..., 3], g[..., 3]) - np.minimum(p[..., 1], g[..., 1])
    return dx, dy, cw, ch


def ciou_alpha(p, g):
    """The aspect term v of CIoU and its weight alpha (1911.08287, Eq. 8 to 11)."""
    (w, h), (wg, hg) = sides(p), sides(g)
    v = 4 / np.pi**2 * (np.arctan(divide(wg, hg)) - np.arctan(divide(w, h))) ** 2
    return v, divide(v, (1 - iou(p, g)) + v)


def ciou(p, g, alpha=None):
    """IoU - rho^2 / c^2 - alpha v. A given alpha is held fixed, as a stop-gradient holds it."""
    dx, dy, cw, ch = offsets(p, g)
    v, own_alpha = ciou_alpha(p, g)
    return iou(p, g) - divide(dx**2 + dy**2, cw**2 + ch**2) - (own_alpha if alpha is None else alpha) * v


def siou(p, g, theta=4):
    """IoU - (Delta + Omega) / 2 (2205.12740), the angle cost in its closed form sin(2 alpha)."""
    dx, dy, _, _ = offsets(p, g)
    return _siou(p, g, divide(2 * np.abs(dx) * np.abs(dy), dx**2 + dy**2), theta)


def siou_asin(p, g, theta=4):
    """SIoU with the angle cost as printed: 1 - 2 sin^2(asin(|dy| / sigma) - pi / 4)."""
    dx, dy, _, _ = offsets(p, g)
    sine = divide(np.abs(dy), np.sqrt(dx**2 + dy**2))
    return _siou(p, g, 1 - 2 * np.sin(np.arcsin(np.minimum(sine, 1)) - np.pi / 4) ** 2, theta)


def _siou(p, g, angle, theta):
    dx, dy, cw, ch = offsets(p, g)
    gamma = 2 - angle
    distance = (1 - np.exp(-gamma * divide(dx, cw) ** 2)) + (1 - np.exp(-gamma * divide(dy, ch) ** 2))
    (w, h), (wg, hg) = sides(p), sides(g)
    shape = sum((1 - np.exp(-divide(np.abs(a - b), np.maximum(a, b)))) ** theta for a, b in ((w, wg), (h, hg)))
    return iou(p, g) - (distance + shape) / 2
