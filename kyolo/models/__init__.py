"""Detectors: the parts, and how a configuration puts them together."""

from kyolo.models.build import YOLOv8 as YOLOv8
from kyolo.models.build import build_detector as build_detector
from kyolo.models.build import build_loss as build_loss
from kyolo.models.detector import Detector as Detector
from kyolo.models.head import DetectionHead as DetectionHead
from kyolo.models.neck import PAFPN as PAFPN
from kyolo.models.pyramid import LevelSpec as LevelSpec
from kyolo.models.pyramid import PyramidTop as PyramidTop

__all__ = [
    "DetectionHead",
    "Detector",
    "LevelSpec",
    "PAFPN",
    "PyramidTop",
    "YOLOv8",
    "build_detector",
    "build_loss",
]
