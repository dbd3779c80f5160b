"""Losses on boxes, distances and class logits, and the detector's loss that combines them."""

from kyolo.losses.classification import BinaryCrossentropy as BinaryCrossentropy
from kyolo.losses.classification import ClassificationLoss as ClassificationLoss
from kyolo.losses.classification import FocalLoss as FocalLoss
from kyolo.losses.classification import QualityFocalLoss as QualityFocalLoss
from kyolo.losses.classification import VarifocalLoss as VarifocalLoss
from kyolo.losses.detection import DetectionLoss as DetectionLoss
from kyolo.losses.dfl import DistributionFocalLoss as DistributionFocalLoss
from kyolo.losses.iou_losses import AlphaIoULoss as AlphaIoULoss
from kyolo.losses.iou_losses import BoxLoss as BoxLoss
from kyolo.losses.iou_losses import CIoULoss as CIoULoss
from kyolo.losses.iou_losses import DIoULoss as DIoULoss
from kyolo.losses.iou_losses import EIoULoss as EIoULoss
from kyolo.losses.iou_losses import FocalEIoULoss as FocalEIoULoss
from kyolo.losses.iou_losses import GIoULoss as GIoULoss
from kyolo.losses.iou_losses import InnerIoULoss as InnerIoULoss
from kyolo.losses.iou_losses import IoULoss as IoULoss
from kyolo.losses.iou_losses import MPDIoULoss as MPDIoULoss
from kyolo.losses.iou_losses import ShapeIoULoss as ShapeIoULoss
from kyolo.losses.iou_losses import SIoULoss as SIoULoss
from kyolo.losses.wiou import WIoULoss as WIoULoss

__all__ = [
    "AlphaIoULoss",
    "BinaryCrossentropy",
    "BoxLoss",
    "CIoULoss",
    "ClassificationLoss",
    "DIoULoss",
    "DetectionLoss",
    "DistributionFocalLoss",
    "EIoULoss",
    "FocalEIoULoss",
    "FocalLoss",
    "GIoULoss",
    "InnerIoULoss",
    "IoULoss",
    "MPDIoULoss",
    "QualityFocalLoss",
    "SIoULoss",
    "ShapeIoULoss",
    "VarifocalLoss",
    "WIoULoss",
]
