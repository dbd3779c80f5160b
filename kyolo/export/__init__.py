"""Detectors for others to run: SavedModel and TFLite, compared with the original before they are kept."""

from kyolo.export.errors import ExportError as ExportError
from kyolo.export.parity import ParityReport as ParityReport
from kyolo.export.saved_model import to_saved_model as to_saved_model
from kyolo.export.tflite import TFLiteDetector as TFLiteDetector
from kyolo.export.tflite import to_tflite as to_tflite

__all__ = ["ExportError", "ParityReport", "TFLiteDetector", "to_saved_model", "to_tflite"]
