"""Quotients and exponentials that the other oracles share."""

import numpy as np


def divide(numerator, denominator):
    """Quotient that is 0 where the denominator is 0."""
    numerator, denominator = np.broadcast_arrays(np.float64(numerator), np.float64(denominator))
    return np.divide(numerator, denominator, out=np.zeros(numerator.shape), where=denominator != 0)


def sigmoid(logits):
    """1 / (1 + exp(-x)), without overflow and exact where it is small."""
    return np.exp(-np.logaddexp(0, -np.float64(logits)))


def softmax(logits):
    """Softmax over the last axis."""
    shifted = np.exp(logits - np.max(logits, axis=-1, keepdims=True))
    return shifted / np.sum(shifted, axis=-1, keepdims=True)
