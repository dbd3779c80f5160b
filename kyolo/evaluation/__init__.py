"""Running a detector on images, and scoring what it finds."""

from kyolo.boxes.nms import NMSSettings as NMSSettings
from kyolo.evaluation.coco import coco_metrics as coco_metrics
from kyolo.evaluation.coco import coco_results as coco_results
from kyolo.evaluation.coco import evaluate as evaluate
from kyolo.evaluation.detect import Predictor as Predictor
from kyolo.evaluation.predict import find_images as find_images
from kyolo.evaluation.predict import predict as predict
from kyolo.evaluation.predict import predict_paths as predict_paths
from kyolo.evaluation.video import Frame as Frame
from kyolo.evaluation.video import Video as Video
from kyolo.evaluation.video import find_videos as find_videos
from kyolo.evaluation.video import is_camera as is_camera
from kyolo.evaluation.video import is_video as is_video
from kyolo.evaluation.video import predict_frames as predict_frames

__all__ = [
    "Frame",
    "NMSSettings",
    "Predictor",
    "Video",
    "coco_metrics",
    "coco_results",
    "evaluate",
    "find_images",
    "find_videos",
    "is_camera",
    "is_video",
    "predict",
    "predict_frames",
    "predict_paths",
]
