"""Second opinions in float64 NumPy: what the formulas say, written to be read and not to be fast.

Nothing here imports kyolo. Tensors are NHWC, kernels (kh, kw, in / groups, out), boxes xyxy, and a quotient with
denominator 0 is 0, the limit of "denominator + epsilon" for every formula below. Shape letters as in the package:
B batch, H W C map, A anchor points, G padded truths, K classes, R bins.
"""

import numpy as np


def divide(numerator, denominator):
    """Quotient that is 0 where the denominator is 0."""
    numerator, denominator = np.broadcast_arrays(np.float64(numerator), np.float64(denominator))
    return np.divide(numerator, denominator, out=np.zeros(numerator.shape), where=denominator != 0)


def sigmoid(logits):
    """1 / (1 + exp(-x)) by tanh, which cannot overflow."""
    return 0.5 * (1.0 + np.tanh(0.5 * np.float64(logits)))


def softmax(logits):
    """Softmax over the last axis."""
    shifted = np.exp(logits - np.max(logits, axis=-1, keepdims=True))
    return shifted / np.sum(shifted, axis=-1, keepdims=True)


# ---------------------------------------------------------------- boxes


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


# ---------------------------------------------------------------- losses


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


def bce(targets, logits):
    """Binary cross-entropy -t log s - (1 - t) log(1 - s), s = sigmoid(logits), element by element."""
    logits = np.float64(logits)
    return np.logaddexp(0, logits) - np.float64(targets) * logits


def assign(scores, pred_boxes, points, gt_labels, gt_boxes, gt_mask, *, top_k=10, alpha=0.5, beta=6.0):
    """Task-aligned assignment (2108.07755) of ONE image by plain loops.

    scores (A, K) after the sigmoid, boxes in pixels. Returns labels (A,), boxes (A, 4), target scores (A, K) and the
    index of the truth of each anchor point (A,), -1 for background. Labels and boxes of background stay 0.
    """
    count, classes = np.shape(scores)
    truths = [g for g in range(len(gt_labels)) if gt_mask[g]]
    overlap, metric = {}, {}
    for g in truths:
        inside = boxes_to_distances(gt_boxes[g], points).min(axis=-1) > 1e-9
        # A point outside a truth is no candidate of it: overlap and metric are 0 there.
        overlap[g] = np.where(inside, np.maximum(ciou(pred_boxes, gt_boxes[g]), 0), 0)
        metric[g] = np.float64(scores)[:, gt_labels[g]] ** alpha * overlap[g] ** beta
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


def detection_parts(y_true, y_pred, points, strides, similarity=ciou):
    """The parts box, classification and dfl of the detection loss, each divided by max(sum of target scores, 1)."""
    parts = {"box": 0.0, "classification": 0.0, "dfl": 0.0}
    total = 0.0
    for b in range(len(y_pred["class_logits"])):
        bins, logits = np.float64(y_pred["box_logits"][b]), np.float64(y_pred["class_logits"][b])
        boxes = distances_to_boxes(expected_distances(bins) * np.float64(strides)[:, None], points)
        truth = (y_true["labels"][b], np.float64(y_true["boxes"][b]), y_true["mask"][b])
        _, target_boxes, targets, owner = assign(sigmoid(logits), boxes, points, *truth)
        parts["classification"] += bce(targets, logits).sum()
        total += targets.sum()
        for a in np.flatnonzero(owner >= 0):
            weight = targets[a].sum()
            distances = boxes_to_distances(target_boxes[a], np.float64(points)[a]) / strides[a]
            parts["box"] += weight * (1 - similarity(boxes[a], target_boxes[a]))
            parts["dfl"] += weight * dfl(distances, bins[a])
    return {name: part / max(total, 1.0) for name, part in parts.items()}


def detection_loss(y_true, y_pred, points, strides, similarity=ciou, weights=(7.5, 0.5, 1.5)):
    """Weighted sum of the parts x batch size."""
    parts = detection_parts(y_true, y_pred, points, strides, similarity)
    weighted = sum(w * parts[name] for w, name in zip(weights, ("box", "classification", "dfl"), strict=True))
    return weighted * len(y_pred["class_logits"])


# ---------------------------------------------------------------- layers


def conv(x, kernel, bias=0.0, stride=1, groups=1):
    """Cross-correlation with k // 2 zeros on every side."""
    x, kernel = np.float64(x), np.float64(kernel)
    kh, kw, depth, filters = kernel.shape
    x = np.pad(x, ((0, 0), (kh // 2, kh // 2), (kw // 2, kw // 2), (0, 0)))
    height, width = (x.shape[1] - kh) // stride + 1, (x.shape[2] - kw) // stride + 1
    out = np.zeros((len(x), height, width, filters))
    step = filters // groups
    for group in range(groups):
        ins, outs = slice(group * depth, (group + 1) * depth), slice(group * step, (group + 1) * step)
        for i, j in np.ndindex(kh, kw):
            patch = x[:, i : i + stride * (height - 1) + 1 : stride, j : j + stride * (width - 1) + 1 : stride, ins]
            out[..., outs] += patch @ kernel[i, j, :, outs]
    return out + bias


def batch_norm(x, weights, epsilon, training=False):
    """Batch norm with weights gamma, beta, mean, variance; in training with the batch's own biased moments."""
    mean, variance = weights["mean"], weights["variance"]
    if training:
        mean, variance = x.mean(axis=(0, 1, 2)), x.var(axis=(0, 1, 2))
    return (x - mean) / np.sqrt(np.float64(variance) + epsilon) * weights["gamma"] + weights["beta"]


def silu(x):
    """x * sigmoid(x)."""
    return x * sigmoid(x)


def conv_bn_act(x, weights, stride=1, groups=1, training=False):
    """Convolution without bias, batch norm (epsilon 1e-3), SiLU."""
    return silu(batch_norm(conv(x, weights["kernel"], 0.0, stride, groups), weights, 1e-3, training))


def c2f(x, pre, blocks, post, shortcut=False, training=False):
    """1x1 and split in two; each block of two 3x3 works on the last part; all parts together through a 1x1."""
    parts = list(np.split(conv_bn_act(x, pre, training=training), 2, axis=-1))
    for first, second in blocks:
        y = conv_bn_act(conv_bn_act(parts[-1], first, training=training), second, training=training)
        parts.append(parts[-1] + y if shortcut else y)
    return conv_bn_act(np.concatenate(parts, axis=-1), post, training=training)


def max_pool(x, size):
    """Max pooling with stride 1; the border is minus infinity, so that it never wins."""
    pad = size // 2
    height, width = x.shape[1:3]
    x = np.pad(x, ((0, 0), (pad, pad), (pad, pad), (0, 0)), constant_values=-np.inf)
    return np.max([x[:, i : i + height, j : j + width] for i, j in np.ndindex(size, size)], axis=0)


def sppf(x, pre, post, pool_size=5, training=False):
    """1x1 to half the channels, three pools in a chain, all four together through a 1x1."""
    parts = [conv_bn_act(x, pre, training=training)]
    for _ in range(3):
        parts.append(max_pool(parts[-1], pool_size))
    return conv_bn_act(np.concatenate(parts, axis=-1), post, training=training)


def channel_shuffle(x, groups):
    """Channel i of group j goes to place i * groups + j."""
    channels = x.shape[-1]
    order = [j * (channels // groups) + i for i in range(channels // groups) for j in range(groups)]
    return x[..., order]


def gam(x, weights, groups=1, gain=1.0, training=False):
    """Global attention (2112.05561): a per-pixel MLP gate, then a gate of two 7x7 convolutions; gain 2 is our identity.

    weights: fc1, fc2 {kernel (I, O), bias}; conv1, conv2 {kernel, bias}; bn1, bn2 {gamma, beta, mean, variance}.
    """
    x = np.float64(x)
    hidden = np.maximum(x @ np.float64(weights["fc1"]["kernel"]) + weights["fc1"]["bias"], 0)
    x = x * gain * sigmoid(hidden @ np.float64(weights["fc2"]["kernel"]) + weights["fc2"]["bias"])
    hidden = conv(x, weights["conv1"]["kernel"], weights["conv1"]["bias"], groups=groups)
    hidden = np.maximum(batch_norm(hidden, weights["bn1"], 1e-5, training), 0)
    if groups > 1:
        hidden = channel_shuffle(hidden, groups)
    hidden = conv(hidden, weights["conv2"]["kernel"], weights["conv2"]["bias"], groups=groups)
    return x * gain * sigmoid(batch_norm(hidden, weights["bn2"], 1e-5, training))
