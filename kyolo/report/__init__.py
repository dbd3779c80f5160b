"""What people look at: pictures with boxes, tables of figures."""

from kyolo.report.pictures import draw_detections as draw_detections
from kyolo.report.table import format_metrics as format_metrics
from kyolo.report.table import format_table as format_table
from kyolo.report.video import VideoWriter as VideoWriter

__all__ = ["VideoWriter", "draw_detections", "format_metrics", "format_table"]
