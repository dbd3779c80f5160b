"""Inputs that several tests share: boxes where formulas break, and random scenes with predictions."""

import numpy as np

from tests import oracles

# Two boxes each, where formulas break: 0 / 0, square roots at 0, kinks, overflow, cancellation.
DEGENERATE_PAIRS = {
    "identical": ((10, 10, 30, 50), (10, 10, 30, 50)),
    "concentric": ((20, 20, 40, 40), (10, 10, 50, 50)),
    "touching": ((0, 0, 10, 10), (10, 0, 20, 10)),
    "corner": ((0, 0, 10, 10), (10, 10, 20, 20)),
    "vertical_offset": ((0, 0, 10, 10), (0, 5, 10, 15)),
    "horizontal_offset": ((0, 0, 10, 10), (5, 0, 15, 10)),
    "disjoint": ((0, 0, 10, 10), (200, 90, 210, 100)),
    "no_width": ((5, 0, 5, 10), (0, 0, 10, 10)),
    "no_height": ((0, 5, 10, 5), (0, 0, 10, 10)),
    "point": ((5, 5, 5, 5), (0, 0, 10, 10)),
    "two_points": ((5, 5, 5, 5), (5, 5, 5, 5)),
    "far_points": ((5, 5, 5, 5), (9, 7, 9, 7)),
    "inverted": ((10, 10, 0, 0), (0, 0, 10, 10)),
    "huge": ((0, 0, 1e5, 1e5), (5e4, 0, 1.5e5, 1e5)),
    "tiny": ((0.5, 0.5, 0.5001, 0.5001), (0.5, 0.5, 0.5002, 0.5001)),
}


def random_scene(seed, *, image_size=(64, 96), strides=(8, 16, 32), num_classes=3, batch=1, padded=8):
    """Truths and predictions of a batch: y_true, y_pred, points, strides, all NumPy.

    Among the truths are some too small to hold a point, some that cover the image, equal boxes with two labels, and
    padding that looks like a box. About half of the predictions lie near a truth that holds their point.
    """
    random = np.random.default_rng(seed)
    points, point_strides = oracles.anchor_points(image_size, strides)
    count = len(points)
    boxes = np.zeros((batch, padded, 4))
    labels = np.zeros((batch, padded), "int32")
    mask = np.zeros((batch, padded), bool)
    distances = random.uniform(0.2, 6, (batch, count, 4))
    for b in range(batch):
        mask[b, : random.integers(0, padded + 1)] = True
        for g in range(padded):
            boxes[b, g] = _random_box(random, image_size, tiny=g % 4 == 3)
        if padded > 1 and random.random() < 0.5:
            boxes[b, 1] = boxes[b, 0]
        labels[b] = random.integers(0, num_classes, padded)
        for a in range(count):
            around = oracles.boxes_to_distances(boxes[b], points[a])
            near = np.flatnonzero(mask[b] & (around.min(axis=-1) > 0))
            if len(near) and random.random() < 0.6:
                distances[b, a] = around[random.choice(near)] / point_strides[a] + random.normal(0, 0.3, 4)
    bins = np.arange(16.0)
    box_logits = -2 * (bins - np.clip(distances, 0, 15)[..., None]) ** 2 + random.normal(0, 0.2, (batch, count, 4, 16))
    y_true = {"boxes": boxes.astype("float32"), "labels": labels, "mask": mask}
    class_logits = random.normal(-1, 2, (batch, count, num_classes))
    y_pred = {"box_logits": box_logits.astype("float32"), "class_logits": class_logits.astype("float32")}
    return y_true, y_pred, points.astype("float32"), point_strides.astype("float32")


def _random_box(random, image_size, tiny):
    limit = np.float64([image_size[1], image_size[0]])
    size = random.uniform(0.5, 3, 2) if tiny else random.uniform(6, 1.1 * limit)
    low = random.uniform(-4, limit - 0.6 * size)
    return np.concatenate([low, low + size])
