"""Plain functions on boxes and anchor points."""

from kyolo.boxes.anchor_points import make_anchor_points as make_anchor_points
from kyolo.boxes.distances import boxes_to_distances as boxes_to_distances
from kyolo.boxes.distances import distances_to_boxes as distances_to_boxes
from kyolo.boxes.distances import expected_distances as expected_distances
from kyolo.boxes.formats import box_area as box_area
from kyolo.boxes.formats import clip_boxes as clip_boxes
from kyolo.boxes.formats import cxcywh_to_xyxy as cxcywh_to_xyxy
from kyolo.boxes.formats import xywh_to_xyxy as xywh_to_xyxy
from kyolo.boxes.formats import xyxy_to_cxcywh as xyxy_to_cxcywh
from kyolo.boxes.formats import xyxy_to_xywh as xyxy_to_xywh
from kyolo.boxes.iou import alpha_iou as alpha_iou
from kyolo.boxes.iou import ciou as ciou
from kyolo.boxes.iou import diou as diou
from kyolo.boxes.iou import eiou as eiou
from kyolo.boxes.iou import giou as giou
from kyolo.boxes.iou import inner_iou as inner_iou
from kyolo.boxes.iou import iou as iou
from kyolo.boxes.iou import mpdiou as mpdiou
from kyolo.boxes.iou import shape_iou as shape_iou
from kyolo.boxes.iou import siou as siou
from kyolo.boxes.iou import wiou as wiou

__all__ = [
    "alpha_iou",
    "box_area",
    "boxes_to_distances",
    "ciou",
    "clip_boxes",
    "cxcywh_to_xyxy",
    "diou",
    "distances_to_boxes",
    "eiou",
    "expected_distances",
    "giou",
    "inner_iou",
    "iou",
    "make_anchor_points",
    "mpdiou",
    "shape_iou",
    "siou",
    "wiou",
    "xywh_to_xyxy",
    "xyxy_to_cxcywh",
    "xyxy_to_xywh",
]
