"""Who learns what, and the loss of the whole detector."""

import numpy as np

from tests.oracles.boxes import ciou
from tests.oracles.losses import bce, dfl
from tests.oracles.numbers import sigmoid
from tests.oracles.points import boxes_to_distances, distances_to_boxes, expected_distances


def assign(
    scores,
    pred_boxes,
    points,
    gt_labels,
    gt_boxes,
    gt_mask,
    *,
    strides=None,
    top_k=10,
    alpha=0.5,
    beta=6.0,
    enlarge_tiny=False,
):
    """Task-aligned assignment (2108.07755) of ONE image by plain loops.

    scores (A, K) after the sigmoid, boxes in pixels. Returns labels (A,), boxes (A, 4), target scores (A, K) and the
    index of the truth of each anchor point (A,), -1 for background. Labels and boxes of background stay 0. With
    enlarge_tiny the candidates are the points inside the truths as `enlarged` for the smallest of strides, and no other
    point takes one of the top_k places before them.
    """
    count, classes = np.shape(scores)
    truths = [g for g in range(len(gt_labels)) if gt_mask[g]]
    overlap, metric = {}, {}
    for g in truths:
        room = enlarged(gt_boxes[g], min(strides)) if enlarge_tiny else gt_boxes[g]
        inside = boxes_to_distances(room, points).min(axis=-1) > 1e-9
        # A point outside a truth is no candidate of it: overlap and metric are 0 there.
        overlap[g] = np.where(inside, np.maximum(ciou(pred_boxes, gt_boxes[g]), 0), 0)
        metric[g] = np.float64(scores)[:, gt_labels[g]] ** alpha * overlap[g] ** beta
        if enlarge_tiny:
            metric[g][~inside] = -1
        best = sorted(range(count), key=lambda a, g=g: (-metric[g][a], a))[:top_k]
        overlap[g, "inside"] = inside
        overlap[g, "chosen"] = {a for a in best if inside[a]}
    owner = np.full(count, -1)
    for a in range(count):
        choosers = [g for g in truths if a in overlap[g, "chosen"]]
        if len(choosers) == 1:
            owner[a] = choosers[0]
        elif choosers:  # every truth that contains the point competes, the lowest index wins a tie
            rivals = [g for g in truths if overlap[g, "inside"][a]]
            owner[a] = max(rivals, key=lambda g, a=a: (overlap[g][a], -g))
    labels, boxes, targets = np.zeros(count, int), np.zeros((count, 4)), np.zeros((count, classes))
    for g in truths:
        mine = np.flatnonzero(owner == g)
        for a in mine:
            labels[a], boxes[a] = gt_labels[g], gt_boxes[g]
            targets[a, gt_labels[g]] = metric[g][a] * overlap[g][mine].max() / (metric[g][mine].max() + 1e-9)
    return labels, boxes, targets, owner


def enlarged(box, stride):
    """The box with every side of at most stride made two strides long about the same centre."""
    box = np.float64(box)
    centre, size = (box[:2] + box[2:]) / 2, box[2:] - box[:2]
    half = np.where(size <= stride, 2 * stride, size) / 2
    return np.concatenate([centre - half, centre + half])


def detection_parts(y_true, y_pred, points, strides, similarity=ciou, classification=bce, **assigner):
    """The parts box, classification and dfl of the detection loss, each divided by max(sum of target scores, 1).

    The box loss is 1 - similarity; `assigner` are settings of `assign`.
    """
    parts = {"box": 0.0, "classification": 0.0, "dfl": 0.0}
    total = 0.0
    for b in range(len(y_pred["class_logits"])):
        bins, logits = np.float64(y_pred["box_logits"][b]), np.float64(y_pred["class_logits"][b])
        boxes = distances_to_boxes(expected_distances(bins) * np.float64(strides)[:, None], points)
        truth = (y_true["labels"][b], np.float64(y_true["boxes"][b]), y_true["mask"][b])
        _, target_boxes, targets, owner = assign(sigmoid(logits), boxes, points, *truth, strides=strides, **assigner)
        parts["classification"] += classification(targets, logits).sum()
        total += targets.sum()
        for a in np.flatnonzero(owner >= 0):
            weight = targets[a].sum()
            distances = boxes_to_distances(target_boxes[a], np.float64(points)[a]) / strides[a]
            parts["box"] += weight * (1 - similarity(boxes[a], target_boxes[a]))
            parts["dfl"] += weight * dfl(distances, bins[a])
    return {name: part / max(total, 1.0) for name, part in parts.items()}


def detection_loss(y_true, y_pred, points, strides, similarity=ciou, weights=(7.5, 0.5, 1.5), **settings):
    """Weighted sum of the parts x batch size."""
    parts = detection_parts(y_true, y_pred, points, strides, similarity, **settings)
    weighted = sum(w * parts[name] for w, name in zip(weights, ("box", "classification", "dfl"), strict=True))
    return weighted * len(y_pred["class_logits"])
