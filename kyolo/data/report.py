"""The counts of a split and everything in it that is skipped, as one frozen report."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from kyolo.errors import InputError

# What to do where every box of a split is skipped, by the first reason.
ADVICE = {
    "row with text that is no number": (
        "Write rows of numbers separated by spaces, with a decimal point: class x y width height."
    ),
    "row with numbers outside 0..1": (
        "Divide x and width by the width of the image, y and height by its height: YOLO labels are fractions."
    ),
    "row of 6 columns, one more than a box has": (
        "Remove the last column (a confidence or an angle) from the label files."
    ),
    "row that has neither 5 columns nor those of a polygon": (
        "Write rows as class x y width height, or set kpt_shape in data.yaml if they have keypoints."
    ),
    "row that does not fit kpt_shape": "Correct kpt_shape in data.yaml, or remove it if the rows have no keypoints.",
    "row of an unknown class": "Number the classes from 0, and list all of them under names in data.yaml.",
    "object of an unknown class": "List the class in labels.txt, or in data.class_names.",
    "object without a name": "Give each object a name.",
    "annotation of an unknown image": "Give image_id the id of an entry in images.",
    "annotation of an unknown category": "Give category_id the id of an entry in categories.",
    "annotation of an image id used twice": "Give each image an id of its own.",
    "annotation of an image file used twice": "Join the entries of each image file into one.",
    "box that is not four finite numbers": (
        "Write four numbers: bbox [x, y, width, height] in COCO json, bndbox with xmin, ymin, xmax, ymax in VOC."
    ),
    "box without area": "Write boxes with a positive width and height.",
    "box outside the image": "Write boxes in pixels of their image.",
    "crowd": "Set difficult or iscrowd to 0 for the boxes to train on.",
}


@dataclass(frozen=True)
class DataReport:
    """Counts of a split, and by kind the names of everything in it that is skipped.

    Boxes in the files = boxes trained on + crowds + boxes skipped.

    Args:
        images: images that are used.
        boxes: boxes that are trained on.
        crowds: boxes with `iscrowd` on images that are used: kept for the evaluation, not trained on.
        boxes_per_class: boxes by class name, classes without a box included.
        problems: kind of problem -> the names of the images or annotations that have it.
        boxes_skipped: kind of problem -> number of boxes that are skipped for it; those on a skipped image too.
        notes: kind of note -> the names of annotations or images that are used, but not as the files have them.

    Example:
        ```python
        report = DataReport(images=2, boxes=1, boxes_per_class={"cell": 1}, problems={"corrupt image": ("a.jpg",)})
        print(report.table())
        ```
    """

    images: int = 0
    boxes: int = 0
    crowds: int = 0
    boxes_per_class: Mapping[str, int] = field(default_factory=dict)
    problems: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    boxes_skipped: Mapping[str, int] = field(default_factory=dict)
    notes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def num_problems(self) -> int:
        """Number of things that are skipped, all kinds together."""
        return sum(len(names) for names in self.problems.values())

    @property
    def boxes_in_files(self) -> int:
        """Number of boxes that the annotations hold."""
        return self.boxes + self.crowds + sum(self.boxes_skipped.values())

    def table(self, max_names: int = 3) -> str:
        """Return the report as one text table.

        Its first line is a warning where more than half of the boxes are not trained on.

        Args:
            max_names: how many names of a kind are listed before "...".
        """
        rows = [("images used", self.images, ""), ("boxes trained on", self.boxes, "")]
        rows += [(f"  {name}", count, "") for name, count in self.boxes_per_class.items()]
        rows += [("crowds, not trained on", self.crowds, "")]
        for kind, names in self.problems.items():
            lost = self.boxes_skipped.get(kind, 0)
            boxes = f"  ({lost} boxes)" if lost not in (0, len(names)) else ""
            rows.append((f"skipped: {kind}", len(names), _listed(names, max_names) + boxes))
        rows += [(f"note: {kind}", len(names), _listed(names, max_names)) for kind, names in self.notes.items()]
        width = max(len(row[0]) for row in rows)
        lines = [f"{title:<{width}}  {count:>7}  {names}".rstrip() for title, count, names in rows]
        if 2 * self.boxes < self.boxes_in_files:
            lost = self.boxes_in_files - self.boxes
            kind, name = self._first_loss()
            lines.insert(0, f"WARNING: {lost} of {self.boxes_in_files} boxes are not trained on, first: {kind}{name}")
        return "\n".join(lines)

    def to_dict(self) -> dict:
        """Return the report as JSON can hold it, with every name."""
        return {
            "images": self.images,
            "boxes": self.boxes,
            "crowds": self.crowds,
            "boxes_in_files": self.boxes_in_files,
            "boxes_per_class": dict(self.boxes_per_class),
            "problems": {
                kind: {"count": len(names), "boxes": self.boxes_skipped.get(kind, 0), "names": list(names)}
                for kind, names in self.problems.items()
            },
            "notes": {kind: {"count": len(names), "names": list(names)} for kind, names in self.notes.items()},
        }

    def check_boxes(self, source: str) -> None:
        """Refuse a split that has annotations, but no box to train on.

        Args:
            source: the split, for the error.

        Raises:
            InputError: there is no box left.
        """
        if self.boxes or not self.boxes_in_files:
            return
        kind, name = self._first_loss()
        advice = ADVICE.get(kind, "Repair the images and annotations that are named.")
        raise InputError(
            f"{source}: expected boxes to train on, got none: all {self.boxes_in_files} in the annotations are "
            f"skipped, the first as {kind}{name}. {advice}"
        )

    def _first_loss(self) -> tuple[str, str]:
        """Return the first reason why boxes are not trained on, and ": " with the first name."""
        kind = next((kind for kind in self.problems if self.boxes_skipped.get(kind)), None)
        return ("crowd", "") if kind is None else (kind, f": {self.problems[kind][0]}")


def _listed(names: tuple[str, ...], most: int) -> str:
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "")
