"""What was found wrong in a data set, as one frozen report."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class DataReport:
    """Counts of a split, and by kind the names of everything in it that is skipped.

    Args:
        images: images that are used.
        boxes: boxes that are trained on.
        crowds: annotations with `iscrowd`: kept for the evaluation, not trained on.
        clipped: boxes that are trained on and were clipped to their image.
        boxes_per_class: boxes by class name, classes without a box included.
        problems: kind of problem -> the names of the images or annotations that have it.

    Example:
        ```python
        report = DataReport(images=2, boxes=1, boxes_per_class={"cell": 1}, problems={"corrupt image": ("a.jpg",)})
        print(report.table())
        ```
    """

    images: int = 0
    boxes: int = 0
    crowds: int = 0
    clipped: int = 0
    boxes_per_class: Mapping[str, int] = field(default_factory=dict)
    problems: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def num_problems(self) -> int:
        """Number of things that are skipped, all kinds together."""
        return sum(len(names) for names in self.problems.values())

    def table(self, max_names: int = 3) -> str:
        """The report as one text table.

        Args:
            max_names: how many names of a kind are listed before "...".
        """
        rows = [("images used", self.images, ""), ("boxes trained on", self.boxes, "")]
        rows += [(f"  {name}", count, "") for name, count in self.boxes_per_class.items()]
        rows += [("crowds, not trained on", self.crowds, "")]
        rows += [("boxes clipped to the image", self.clipped, "")] if self.clipped else []
        for kind, names in self.problems.items():
            listed = ", ".join(names[:max_names]) + (", ..." if len(names) > max_names else "")
            rows.append((f"skipped: {kind}", len(names), listed))
        width = max(len(row[0]) for row in rows)
        return "\n".join(f"{title:<{width}}  {count:>7}  {names}".rstrip() for title, count, names in rows)

    def to_dict(self) -> dict:
        """The report as what JSON can hold, with every name."""
        return {
            "images": self.images,
            "boxes": self.boxes,
            "crowds": self.crowds,
            "clipped": self.clipped,
            "boxes_per_class": dict(self.boxes_per_class),
            "problems": {kind: {"count": len(names), "names": list(names)} for kind, names in self.problems.items()},
        }
