"""Backbones: adapters that return a model and its taps."""

from kyolo.models.backbones.efficientnet_lite import efficientnet_lite_backbone as efficientnet_lite_backbone
from kyolo.models.backbones.keras_models import keras_backbone as keras_backbone
from kyolo.models.backbones.keras_models import pyramid_backbone as pyramid_backbone
from kyolo.models.backbones.mobilenet_v3 import mobilenet_v3_backbone as mobilenet_v3_backbone
from kyolo.models.backbones.taps import Taps as Taps
from kyolo.models.backbones.yolov8 import yolov8_backbone as yolov8_backbone

__all__ = [
    "Taps",
    "efficientnet_lite_backbone",
    "keras_backbone",
    "mobilenet_v3_backbone",
    "pyramid_backbone",
    "yolov8_backbone",
]
