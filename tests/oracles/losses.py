"""The losses: on boxes, on distributions over bins and on class logits."""

import numpy as np

from tests.oracles.numbers import softmax


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
