"""Losses on boxes, distances and class logits, and the detector's loss that combines them."""

from kyolo.losses.classification import BinaryCrossentropy as BinaryCrossentropy
from kyolo.losses.detection import DetectionLoss as DetectionLoss
from kyolo.losses.dfl import DistributionFocalLoss as DistributionFocalLoss
from kyolo.losses.iou_losses import CIoULoss as CIoULoss
from kyolo.losses.iou_losses import SIoULoss as SIoULoss

__all__ = [
    "BinaryCrossentropy",
    "CIoULoss",
    "DetectionLoss",
    "DistributionFocalLoss",
    "SIoULoss",
]
