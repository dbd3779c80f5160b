"""Weights that come from elsewhere."""

from kyolo.weights.transfer import TransferReport as TransferReport
from kyolo.weights.transfer import transfer_weights as transfer_weights

__all__ = [
    "TransferReport",
    "transfer_weights",
]
