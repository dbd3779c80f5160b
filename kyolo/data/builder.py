"""From what a reader finds in a split to an index: what cannot be used is left out and named."""

import struct
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from kyolo.data.index import DatasetIndex, ImageRecord
from kyolo.data.report import DataReport
from kyolo.errors import to_line

# Such boxes cannot be trained on; whether they count when a detector is scored is the format's choice.
SCORABLE = ("box without area", "box outside the image", "box given twice")
_FLOAT32 = struct.Struct("4f")


class IndexBuilder:
    """Collects the images and boxes of a split, whatever format they come from.

    Boxes are clipped to their image. Crowds are left to the evaluation. The images of the index stand in the order of
    their names, so that a set is the same in every format.

    Args:
        class_names: in the order of the labels.
        category_ids: the ids of the classes in the annotations. Default: 1, 2, 3, ...
        wanted: takes a file name, says whether the image belongs to the part that is read. None: all do.
        scored_as_read: whether `truth` keeps boxes that cannot be trained on, as pycocotools would.
    """

    def __init__(
        self,
        class_names: Sequence[str],
        *,
        category_ids: Sequence[int] | None = None,
        wanted: Callable[[str], bool] | None = None,
        scored_as_read: bool = False,
    ):
        self.class_names = tuple(class_names)
        self.category_ids = tuple(category_ids or range(1, len(class_names) + 1))
        self._labels = {category_id: label for label, category_id in enumerate(self.category_ids)}
        self._wanted = wanted
        self._scored_as_read = scored_as_read
        self._unwanted: set[int] = set()
        self._images: dict[int, dict] = {}  # by id, as in COCO json
        self._paths: dict[int, Path] = {}
        self._boxes: dict[int, dict[tuple, None]] = {}  # (label, xyxy) of an image's boxes, in the order of the file
        self._annotations: list[dict] = []
        self._problems: defaultdict[str, list[str]] = defaultdict(list)

    def skip(self, kind: str, name: str) -> None:
        """Names something that is left out."""
        self._problems[kind].append(to_line(name))

    def wants(self, file_name: str) -> bool:
        """Whether an image belongs to the part that is read."""
        return self._wanted is None or self._wanted(file_name)

    def add_image(self, path: Path, file_name: str, size: tuple[int, int], image_id: int | None = None) -> int | None:
        """Adds an image of (height, width) pixels; returns its id, or None where it belongs to another part."""
        if image_id is None:
            image_id = len(self._images) + len(self._unwanted) + 1
        if image_id in self._images or image_id in self._unwanted:
            self.skip("image id used twice", file_name)
            return None
        if not self.wants(file_name):
            self._unwanted.add(image_id)
            return None
        height, width = size
        self._images[image_id] = {"id": image_id, "file_name": file_name, "height": height, "width": width}
        self._paths[image_id], self._boxes[image_id] = path, {}
        return image_id

    def add_annotation(self, annotation: object, name: str) -> None:
        """Adds a box.

        Args:
            annotation: as in COCO json: image_id, category_id, bbox [x, y, width, height] in pixels of the image, and
                where they are known id, area, iscrowd. It may be anything: what does not fit is a named problem.
            name: what the report calls it: the file and the line or the number.
        """
        image_id = annotation.get("image_id") if isinstance(annotation, dict) else None
        if is_id(image_id) and image_id in self._unwanted:
            return
        problem = self._find_problem(annotation)
        if problem is None or (self._scored_as_read and problem in SCORABLE):
            self._annotations.append(_complete(annotation))
        if problem is not None:
            self.skip(problem, name)
        elif not annotation.get("iscrowd"):
            self._boxes[image_id][self._key(annotation)] = None

    def build(self) -> DatasetIndex:
        """The index of what was added."""
        _fill_ids(self._annotations)
        truth = {
            "images": list(self._images.values()),
            "annotations": self._annotations,
            "categories": [
                {"id": category_id, "name": name}
                for category_id, name in zip(self.category_ids, self.class_names, strict=True)
            ],
        }
        images = sorted(self._images.values(), key=lambda image: image["file_name"])
        records = tuple(self._record(image) for image in images)
        report = DataReport(problems={kind: tuple(names) for kind, names in self._problems.items()})
        return DatasetIndex(records, self.class_names, self.category_ids, truth, report)

    def _find_problem(self, annotation: object) -> str | None:
        """Why an annotation cannot be trained on, if so."""
        if not isinstance(annotation, dict) or not _is_key(annotation.get("image_id"), self._images):
            return "annotation of an unknown image"
        if not _is_key(annotation.get("category_id"), self._labels):
            return "annotation of an unknown category"
        box = annotation.get("bbox")
        if not isinstance(box, list) or len(box) != 4 or not all(_is_finite(number) for number in box):
            return "box that is not four finite numbers"
        x1, y1, x2, y2 = _corners(box)
        if x1 >= x2 or y1 >= y2:
            return "box without area"
        x1, y1, x2, y2 = self._clipped(annotation)
        if x1 >= x2 or y1 >= y2:
            return "box outside the image"
        twice = self._key(annotation) in self._boxes[annotation["image_id"]]
        return "box given twice" if twice and not annotation.get("iscrowd") else None

    def _key(self, annotation: dict) -> tuple:
        return (self._labels[annotation["category_id"]], self._clipped(annotation))

    def _clipped(self, annotation: dict) -> tuple[float, ...]:
        """The box as xyxy inside its image."""
        corners = _corners(annotation["bbox"])
        image = self._images[annotation["image_id"]]
        sides = (image["width"], image["height"]) * 2
        return tuple(min(max(value, 0), side) for value, side in zip(corners, sides, strict=True))

    def _record(self, image: dict) -> ImageRecord:
        labels, boxes = zip(*self._boxes[image["id"]], strict=True) if self._boxes[image["id"]] else ((), ())
        return ImageRecord(
            str(self._paths[image["id"]]),
            image["id"],
            image["height"],
            image["width"],
            np.array(boxes, np.float32).reshape(-1, 4),
            np.array(labels, np.int32),
        )


def is_id(value: object) -> bool:
    """Whether a value is a whole number that JSON's readers agree on, and that int64 holds."""
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**53


def is_side(value: object) -> bool:
    """Whether a value is a number of pixels that an image can be wide or high."""
    return is_id(value) and 0 < value < 2**31


def _corners(bbox: list) -> tuple[float, ...]:
    """COCO's x, y, width, height as xyxy, rounded as in the index: a box may have an area in float64 only."""
    x, y, width, height = bbox
    return _FLOAT32.unpack(_FLOAT32.pack(x, y, x + width, y + height))


def _is_key(value: object, mapping: dict[int, object]) -> bool:
    return is_id(value) and value in mapping


def _is_finite(value: object) -> bool:
    """Whether a value is a number that float32 can hold: JSON's whole numbers have no end."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e30  # False for NaN


def _complete(annotation: dict) -> dict:
    """What an evaluation needs of an annotation, filled in where it is missing."""
    completed = {key: annotation[key] for key in ("id", "image_id", "category_id", "bbox") if key in annotation}
    area = annotation.get("area")
    completed["area"] = area if _is_finite(area) else annotation["bbox"][2] * annotation["bbox"][3]
    return {**completed, "iscrowd": int(bool(annotation.get("iscrowd")))}


def _fill_ids(annotations: list[dict]) -> None:
    """Gives annotations the next free id that have none, no whole number, or that of one before them.

    New ids begin at 1, as pycocotools takes 0 for "no match".
    """
    taken, without = set(), []
    for annotation in annotations:
        if is_id(annotation.get("id")) and annotation["id"] not in taken:
            taken.add(annotation["id"])
        else:
            without.append(annotation)
    for annotation_id, annotation in enumerate(without, max(taken | {0}) + 1):
        annotation["id"] = annotation_id
