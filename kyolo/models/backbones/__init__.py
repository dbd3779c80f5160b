"""Backbones: adapters that return a model and its taps."""

from kyolo.models.backbones.taps import Taps as Taps
from kyolo.models.backbones.yolov8 import yolov8_backbone as yolov8_backbone

__all__ = [
    "Taps",
    "yolov8_backbone",
]
