"""Detectors for others to run: SavedModel and TFLite, compared with the original before they are kept."""

from kyolo.evaluation.detect import NMSSettings as NMSSettings
from kyolo.export.android import to_android as to_android
from kyolo.export.errors import ExportError as ExportError
from kyolo.export.parity import CHECK_IMAGES as CHECK_IMAGES
from kyolo.export.parity import ParityReport as ParityReport
from kyolo.export.saved_model import to_saved_model as to_saved_model
from kyolo.export.tflite import NMS_DEFAULTS as NMS_DEFAULTS
from kyolo.export.tflite import TFLiteOptions as TFLiteOptions
from kyolo.export.tflite import to_tflite as to_tflite
from kyolo.export.tflite_detector import TFLiteDetector as TFLiteDetector
from kyolo.export.tflite_detector import TFLiteEndToEnd as TFLiteEndToEnd
from kyolo.export.variants import measure_variants as measure_variants
from kyolo.export.variants import time_forms as time_forms

__all__ = [
    "CHECK_IMAGES",
    "ExportError",
    "NMSSettings",
    "NMS_DEFAULTS",
    "ParityReport",
    "TFLiteDetector",
    "TFLiteEndToEnd",
    "TFLiteOptions",
    "measure_variants",
    "time_forms",
    "to_android",
    "to_saved_model",
    "to_tflite",
]
