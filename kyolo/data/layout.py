"""What all formats share: the names of splits, and the options of reading."""

import re
import reprlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from kyolo.errors import InputError, is_line

# The names that folders and files give to the splits, the customary ones first.
SPLITS = {
    "train": ("train", "train2017", "training", "default"),
    "val": ("val", "valid", "val2017", "validation"),
    "test": ("test", "test2017", "testing"),
}

FORMATS = ("coco", "yolo", "voc", "tfrecord")  # in the order in which they are looked for
DECIMALS = 9  # Of pixels that a format does not hold as such: enough to undo its arithmetic exactly.


@dataclass(frozen=True)
class ReadOptions:
    """How the files of a data set are read.

    Args:
        format: "coco", "yolo", "voc" or "tfrecord". None: the first of them whose files are there.
        class_names: the classes of a VOC set, in the order of the labels; other formats bring their own. None: those of
            its `labels.txt` or `classes.txt`, else all names that occur, sorted.
        val_fraction: share of the images, 0..1, that becomes "val" in a set that has no such split.
        dev_fraction: share of the train images, 0..1, that goes to "dev" and not to "train". On which side an image
            falls depends on its file name only (hashed), so it stays there when others are added.
        allow_outside: read images wherever the set's files say that they are, not only inside its folder.
        strict: raise where something would be skipped.
    """

    format: str | None = None
    class_names: tuple[str, ...] | None = None
    val_fraction: float = 0.0
    dev_fraction: float = 0.0
    allow_outside: bool = False
    strict: bool = False

    def __post_init__(self) -> None:
        if self.format not in (None, *FORMATS):
            raise InputError(f"Unknown format: expected one of {', '.join(FORMATS)}, received {self.format!r:.80}")


@dataclass(frozen=True)
class MissingSplit:
    """A split that a file of the data set names, but whose files are not there.

    Args:
        message: the error for whoever reads the split.
    """

    message: str


def split_of(parts: tuple[str, ...]) -> str | None:
    """The split that the folders of a path name, if any; the innermost counts."""
    names = {name: split for split, aliases in SPLITS.items() for name in aliases}
    return next((names[part.lower()] for part in reversed(parts) if part.lower() in names), None)


def split_in(name: str) -> str | None:
    """Return the split that a file name holds as a word, or None: "val" for "instances_Val2017.json"."""
    return split_of(tuple(re.split("[^a-z0-9]+", name.lower())))


def check_class_names(names: Iterable[str], *, source: Path) -> tuple[str, ...]:
    """Returns the class names that a file of the data set gives.

    Raises:
        InputError: one is empty, does not stand on one line, or is there twice: no report could tell them apart.
    """
    names = tuple(names)
    bad = next((name for name, count in Counter(names).items() if not name or not is_line(name) or count > 1), None)
    if bad is not None:
        raise InputError(
            f"{source}: expected class names on one line each, none empty and none twice, received {reprlib.repr(bad)}"
        )
    return names
