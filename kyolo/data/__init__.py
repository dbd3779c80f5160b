"""Data sets: an index of images and boxes, and batches out of it."""

from kyolo.data.convert import convert as convert
from kyolo.data.images import ImageStore as ImageStore
from kyolo.data.images import read_image as read_image
from kyolo.data.index import DatasetIndex as DatasetIndex
from kyolo.data.index import ImageRecord as ImageRecord
from kyolo.data.layout import ReadOptions as ReadOptions
from kyolo.data.load import check_index as check_index
from kyolo.data.load import load_index as load_index
from kyolo.data.pipeline import input_errors as input_errors
from kyolo.data.pipeline import make_dataset as make_dataset
from kyolo.data.pipeline import plain_batches as plain_batches
from kyolo.data.report import DataReport as DataReport
from kyolo.data.shapes import write_shapes as write_shapes
from kyolo.data.sharded_index import Index as Index
from kyolo.data.sharded_index import ShardedIndex as ShardedIndex
from kyolo.data.share import Share as Share
from kyolo.data.train_stream import TrainStream as TrainStream
from kyolo.data.transforms import Augmentation as Augmentation
from kyolo.data.transforms import letterbox as letterbox

__all__ = [
    "Augmentation",
    "DataReport",
    "DatasetIndex",
    "ImageRecord",
    "ImageStore",
    "Index",
    "ReadOptions",
    "Share",
    "ShardedIndex",
    "TrainStream",
    "check_index",
    "convert",
    "input_errors",
    "letterbox",
    "load_index",
    "make_dataset",
    "plain_batches",
    "read_image",
    "write_shapes",
]
