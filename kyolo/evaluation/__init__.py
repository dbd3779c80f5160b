"""Running a detector on images, and scoring what it finds."""

from kyolo.evaluation.coco import CocoAP as CocoAP
from kyolo.evaluation.coco import coco_metrics as coco_metrics
from kyolo.evaluation.coco import coco_results as coco_results
from kyolo.evaluation.coco import evaluate as evaluate
from kyolo.evaluation.detect import NMSSettings as NMSSettings
from kyolo.evaluation.detect import Predictor as Predictor
from kyolo.evaluation.predict import find_images as find_images
from kyolo.evaluation.predict import predict_paths as predict_paths

__all__ = [
    "CocoAP",
    "NMSSettings",
    "Predictor",
    "coco_metrics",
    "coco_results",
    "evaluate",
    "find_images",
    "predict_paths",
]
