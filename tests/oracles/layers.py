"""The layers and blocks of the network."""

import numpy as np

from tests.oracles.numbers import sigmoid


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


def dense(x, weights):
    """x kernel + bias; weights: kernel (I, O), bias."""
    return np.float64(x) @ np.float64(weights["kernel"]) + weights["bias"]


def perceptron(x, weights):
    """Two dense layers, ReLU between them; weights: squeeze, expand."""
    return dense(np.maximum(dense(x, weights["squeeze"]), 0), weights["expand"])


def se(x, weights, gain=1.0):
    """Squeeze and excitation (1709.01507)."""
    x = np.float64(x)
    return x * gain * sigmoid(perceptron(x.mean(axis=(1, 2)), weights))[:, None, None]


def eca(x, kernel, gain=1.0):
    """Efficient channel attention (1910.03151): a channel's gate from those next to it, zeros beyond the ends."""
    x, kernel = np.float64(x), np.float64(kernel)
    half, channels = len(kernel) // 2, x.shape[-1]
    means = np.pad(x.mean(axis=(1, 2)), ((0, 0), (half, half)))
    logits = sum(kernel[i] * means[:, i : i + channels] for i in range(len(kernel)))
    return x * gain * sigmoid(logits)[:, None, None]


def cbam(x, weights, gain=1.0):
    """Convolutional block attention (1807.06521); weights: squeeze, expand, and the kernel spatial."""
    x = np.float64(x)
    logits = perceptron(x.mean(axis=(1, 2)), weights) + perceptron(x.max(axis=(1, 2)), weights)
    x = x * gain * sigmoid(logits)[:, None, None]
    pooled = np.stack([x.mean(axis=-1), x.max(axis=-1)], axis=-1)
    return x * gain * sigmoid(conv(pooled, weights["spatial"]["kernel"]))


def coord_attention(x, weights, gain=1.0, training=False):
    """Coordinate attention (2103.02907); weights: squeeze, norm, rows, columns; squeeze, rows, columns dense."""
    x = np.float64(x)
    height = x.shape[1]
    means = np.concatenate([x.mean(axis=2), x.mean(axis=1)], axis=1)  # (B, H + W, C)
    hidden = batch_norm(dense(means, weights["squeeze"])[:, :, None], weights["norm"], 1e-5, training)[:, :, 0]
    hidden = hidden * np.clip(hidden + 3, 0, 6) / 6
    rows, columns = dense(hidden[:, :height], weights["rows"]), dense(hidden[:, height:], weights["columns"])
    return x * gain * sigmoid(rows)[:, :, None] * gain * sigmoid(columns)[:, None]


def simam(x, strength=1.0, regularization=1e-4):
    """SimAM (ICML 2021), channel by channel; strength 1 is the paper's."""
    x = np.float64(x)
    out = np.empty_like(x)
    for image, channel in np.ndindex(len(x), x.shape[-1]):
        values = x[image, :, :, channel]
        squares = (values - values.mean()) ** 2
        variance = squares.sum() / max(values.size - 1, 1)
        energy = squares / (4 * (variance + regularization)) + 0.5
        out[image, :, :, channel] = values * (
            1 + np.broadcast_to(strength, x.shape[-1])[channel] * (sigmoid(energy) - 1)
        )
    return out
