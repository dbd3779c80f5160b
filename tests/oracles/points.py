"""Anchor points, distances from them to the sides of boxes, and distances as distributions over bins."""

import numpy as np

from tests.oracles.numbers import softmax


def anchor_points(image_size, strides):
    """Centres (A, 2) as x, y in pixels and strides (A,): levels in the order given, each row by row."""
    points, of_level = [], []
    height, width = image_size
    for stride in strides:
        for row in range(height // stride):
            for column in range(width // stride):
                points.append(((column + 0.5) * stride, (row + 0.5) * stride))
                of_level.append(stride)
    return np.float64(points), np.float64(of_level)


def boxes_to_distances(boxes, points):
    """Left, top, right, bottom distances from the points to the sides of the boxes."""
    x, y = np.float64(points)[..., 0], np.float64(points)[..., 1]
    boxes = np.float64(boxes)
    return np.stack([x - boxes[..., 0], y - boxes[..., 1], boxes[..., 2] - x, boxes[..., 3] - y], axis=-1)


def distances_to_boxes(distances, points):
    """The inverse of `boxes_to_distances`."""
    left, top, right, bottom = np.moveaxis(np.float64(distances), -1, 0)
    x, y = np.float64(points)[..., 0], np.float64(points)[..., 1]
    return np.stack([x - left, y - top, x + right, y + bottom], axis=-1)


def expected_distances(box_logits):
    """Sum of bin x probability over the last axis, in bins: (..., 4, R) -> (..., 4)."""
    return softmax(np.float64(box_logits)) @ np.arange(np.shape(box_logits)[-1], dtype=np.float64)
