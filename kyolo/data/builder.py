"""From what a reader finds in a split to an index: what cannot be used is left out and named."""

import struct
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from kyolo.data.index import DatasetIndex, ImageRecord
from kyolo.data.report import DataReport
from kyolo.data.values import as_flag, as_id, as_number, is_id
from kyolo.errors import to_line

# Such boxes cannot be trained on; whether they count when a detector is scored is the format's choice.
SCORABLE = ("box without area", "box outside the image", "box given twice")
MIN_CLIP = 0.01  # Pixels. A box that sticks out by less is clipped without a note: rounded fractions do.
_FLOAT32 = struct.Struct("4f")


class IndexBuilder:
    """Collect the images and boxes of a split, whatever format they come from.

    Boxes are clipped to their image. Crowds are left to the evaluation. The images of the index are in the order of
    their names, so that a set is the same in every format. Every box that a reader passes is trained on, kept as a
    crowd, or counted in the report under the reason why it is skipped.

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
        self._excluded: dict[int, str] = {}  # by image id, why its annotations are skipped
        self._images: dict[int, dict] = {}  # by id, as in COCO json
        self._paths: dict[int, Path] = {}
        self._boxes: dict[int, dict[tuple, None]] = {}  # (label, xyxy) of an image's boxes, in the order of the file
        self._annotations: list[dict] = []
        self._problems: defaultdict[str, list[str]] = defaultdict(list)
        self._boxes_skipped: Counter[str] = Counter()
        self._notes: defaultdict[str, list[str]] = defaultdict(list)

    def skip(self, kind: str, name: str, boxes: int = 0) -> None:
        """Name something that is left out.

        Args:
            kind: why.
            name: what the report calls it.
            boxes: number of boxes that are left out with it.
        """
        self._problems[kind].append(to_line(name))
        if boxes:
            self._boxes_skipped[kind] += boxes

    def note(self, kind: str, name: str) -> None:
        """Name something that is used, but not as the file has it."""
        self._notes[kind].append(to_line(name))

    def wants(self, file_name: str) -> bool:
        """Whether an image belongs to the part that is read."""
        return self._wanted is None or self._wanted(file_name)

    def exclude(self, image_id: int, kind: str, file_name: str) -> None:
        """Skip the annotations of an image id that cannot be used, each under `kind`, in the part of `file_name`."""
        if self.wants(file_name):
            self._excluded[image_id] = kind
        else:
            self._unwanted.add(image_id)

    def add_image(self, path: Path, file_name: str, size: tuple[int, int], image_id: int | None = None) -> int | None:
        """Add an image of (height, width) pixels; return its id, or None where it belongs to another part."""
        if image_id is None:
            image_id = len(self._images) + len(self._unwanted) + 1
        if not self.wants(file_name):
            self._unwanted.add(image_id)
            return None
        height, width = size
        self._images[image_id] = {"id": image_id, "file_name": file_name, "height": height, "width": width}
        self._paths[image_id], self._boxes[image_id] = path, {}
        return image_id

    def add_annotation(self, annotation: object, name: str) -> bool:
        """Add a box; return whether it is used.

        Args:
            annotation: as in COCO json: image_id, category_id, bbox [x, y, width, height] in pixels of the image, and
                where they are known id, area, iscrowd. It may be anything: what does not fit is a named problem.
            name: what the report calls it: the file and the line or the number.
        """
        entry = _parse(annotation)
        if entry["image_id"] in self._unwanted:
            return False
        problem = self._find_problem(entry)
        crowd = bool(entry["iscrowd"])
        kept = problem is None or (self._scored_as_read and problem in SCORABLE)
        if kept:
            self._annotations.append(_complete(entry))
        if problem is not None and not (kept and crowd):
            self.skip(problem, name, boxes=1)
            return False
        if entry["iscrowd"] is None:
            self.note("flag that is neither yes nor no, taken for no", name)
        if not crowd:
            self._boxes[entry["image_id"]][self._key(entry)] = None
            corners = zip(_corners(entry["bbox"]), self._clipped(entry), strict=True)
            if any(abs(value - clipped) >= MIN_CLIP for value, clipped in corners):
                self.note("box clipped to its image", name)
        return True

    def build(self) -> DatasetIndex:
        """Return the index of what was added."""
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
        report = DataReport(
            problems={kind: tuple(names) for kind, names in self._problems.items()},
            boxes_skipped=dict(self._boxes_skipped),
            notes={kind: tuple(names) for kind, names in self._notes.items()},
        )
        return DatasetIndex(records, self.class_names, self.category_ids, truth, report)

    def _find_problem(self, entry: dict) -> str | None:
        """Return why an annotation cannot be trained on, if so."""
        if entry["image_id"] in self._excluded:
            return self._excluded[entry["image_id"]]
        if entry["image_id"] not in self._images:
            return "annotation of an unknown image"
        if entry["category_id"] not in self._labels:
            return "annotation of an unknown category"
        if entry["bbox"] is None:
            return "box that is not four finite numbers"
        x1, y1, x2, y2 = _corners(entry["bbox"])
        if x1 >= x2 or y1 >= y2:
            return "box without area"
        x1, y1, x2, y2 = self._clipped(entry)
        if x1 >= x2 or y1 >= y2:
            return "box outside the image"
        twice = self._key(entry) in self._boxes[entry["image_id"]]
        return "box given twice" if twice and not entry["iscrowd"] else None

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


def read_box(value: object) -> list[int | float] | None:
    """Return a list of four finite numbers as such, None for anything else.

    Args:
        value: anything that a file holds; see `as_number`.
    """
    numbers = [as_number(number) for number in value] if isinstance(value, list) and len(value) == 4 else [None]
    box = [number for number in numbers if number is not None]
    return box if len(box) == 4 else None


def has_area(box: Sequence[float]) -> bool:
    """Return whether a COCO box has an area in float32, the precision of the index."""
    x1, y1, x2, y2 = _corners(box)
    return x1 < x2 and y1 < y2


def _parse(annotation: object) -> dict:
    """Return the fields of an annotation, None where they are missing or not what they should be."""
    fields = annotation if isinstance(annotation, dict) else {}
    entry: dict = {key: as_id(fields.get(key)) for key in ("id", "image_id", "category_id")}
    area, flag = as_number(fields.get("area")), as_flag(fields.get("iscrowd"))
    return {**entry, "bbox": read_box(fields.get("bbox")), "area": area, "iscrowd": flag}


def _corners(bbox: Sequence[float]) -> tuple[float, ...]:
    """COCO's x, y, width, height as xyxy, rounded as in the index: a box may have an area in float64 only."""
    x, y, width, height = bbox
    return _FLOAT32.unpack(_FLOAT32.pack(x, y, x + width, y + height))


def _complete(entry: dict) -> dict:
    """Return what an evaluation needs of an annotation, filled in where it is missing."""
    *_, width, height = entry["bbox"]
    completed = {key: entry[key] for key in ("id", "image_id", "category_id", "bbox") if entry[key] is not None}
    area = width * height if entry["area"] is None else entry["area"]
    return {**completed, "area": area, "iscrowd": int(bool(entry["iscrowd"]))}


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
