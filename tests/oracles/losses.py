"""The losses: on boxes, on distributions over bins and on class logits; tables of them by the names of their classes.

Box losses take predicted p and target g, the settings of the class by their names, and, where a part of them carries no
gradient, the boxes `at` which that part is computed (see `boxes.py`).
"""

import functools

import numpy as np

from tests.oracles.boxes import alpha_iou, ciou, diou, eiou, giou, inner_iou, iou, mpdiou, shape_iou, siou, wiou
from tests.oracles.numbers import sigmoid, softmax


def one_minus(similarity):
    """The loss that belongs to a similarity, with its settings."""

    @functools.wraps(similarity)
    def loss(p, g, **settings):
        return 1 - similarity(p, g, **settings)

    return loss


def focal_eiou(p, g, gamma=0.5, at=None):
    """2101.08158: EIoU times IoU^gamma, a weight without gradient."""
    return iou(*(at or (p, g))) ** gamma * (1 - eiou(p, g))


def focusing_wiou(p, g, version=3, initial_mean=1.0, gamma=0.5, alpha=1.9, delta=3.0, at=None):
    """2301.10051: 1 - WIoU, in versions 2 and 3 times a gain without gradient that compares 1 - IoU with its mean."""
    relative = (1 - iou(*(at or (p, g)))) / initial_mean
    gain = {1: 1.0, 2: relative**gamma, 3: relative / (delta * alpha ** (relative - delta))}[version]
    return gain * (1 - wiou(p, g, at=at))


def inner(p, g, base="ciou", ratio=0.75, at=None):
    """2311.02877: in the loss of `base` the IoU of the boxes scaled by ratio stands for their own."""
    similarity = {
        "iou": iou,
        "giou": giou,
        "diou": diou,
        "ciou": functools.partial(ciou, at=at),
        "eiou": eiou,
        "siou": siou,
    }
    return 1 - (similarity[base](p, g) - iou(p, g) + inner_iou(p, g, ratio))


BOX_LOSSES = {
    "IoULoss": one_minus(iou),
    "GIoULoss": one_minus(giou),
    "DIoULoss": one_minus(diou),
    "CIoULoss": one_minus(ciou),
    "EIoULoss": one_minus(eiou),
    "FocalEIoULoss": focal_eiou,
    "SIoULoss": one_minus(siou),
    "AlphaIoULoss": one_minus(alpha_iou),
    "WIoULoss": focusing_wiou,
    "MPDIoULoss": one_minus(mpdiou),
    "InnerIoULoss": inner,
    "ShapeIoULoss": one_minus(shape_iou),
}


# ---------------------------------------------------------------- class logits, element by element


def bce(targets, logits):
    """Binary cross-entropy -t log s - (1 - t) log(1 - s), s = sigmoid(logits)."""
    logits = np.float64(logits)
    return np.logaddexp(0, logits) - np.float64(targets) * logits


def focal(targets, logits, alpha=0.25, gamma=2.0):
    """1708.02002 with soft targets: alpha_t (1 - p_t)^gamma of the cross-entropy; alpha None weighs both sides by 1."""
    y, logits = np.float64(targets), np.float64(logits)
    missed = y * sigmoid(-logits) + (1 - y) * sigmoid(logits)  # 1 - p_t
    side = 1.0 if alpha is None else y * alpha + (1 - y) * (1 - alpha)
    return side * missed**gamma * bce(y, logits)


def quality_focal(targets, logits, beta=2.0):
    """2006.04388, Eq. 5: |y - p|^beta of the cross-entropy."""
    return np.abs(np.float64(targets) - sigmoid(logits)) ** beta * bce(targets, logits)


def varifocal(targets, logits, alpha=0.75, gamma=2.0):
    """2008.13367, Eq. 2: y of the cross-entropy where y > 0, alpha p^gamma of it where y = 0."""
    y = np.float64(targets)
    return np.where(y > 0, y, alpha * sigmoid(logits) ** gamma) * bce(y, logits)


CLASSIFICATION_LOSSES = {
    "BinaryCrossentropy": bce,
    "FocalLoss": focal,
    "QualityFocalLoss": quality_focal,
    "VarifocalLoss": varifocal,
}


# ---------------------------------------------------------------- distributions over bins


def dfl(distances, box_logits):
    """Distribution focal loss (2006.04388, Eq. 6), mean over the 4 sides: (..., 4) x (..., 4, R) -> (...)."""
    bins = np.shape(box_logits)[-1]
    y = np.clip(np.float64(distances), 0, bins - 1 - 0.01)
    log_probability = np.log(softmax(np.float64(box_logits)))
    loss = np.zeros(y.shape)
    for place in np.ndindex(*y.shape):
        i = int(np.floor(y[place]))
        low, high = log_probability[place][i], log_probability[place][i + 1]
        loss[place] = -((i + 1 - y[place]) * low + (y[place] - i) * high)
    return loss.mean(axis=-1)
