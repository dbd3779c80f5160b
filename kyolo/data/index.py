"""The index of a data set: what every reader of an annotation format returns."""

import hashlib
import math
import os
from collections.abc import Collection, Iterator
from dataclasses import dataclass

import numpy as np

from kyolo.data.images import read_image
from kyolo.data.report import DataReport
from kyolo.errors import InputError, to_line


@dataclass(frozen=True, eq=False)
class ImageRecord:
    """One image and what is trained on in it.

    Args:
        path: the image file.
        image_id: its id in the annotations.
        height: pixels.
        width: pixels.
        boxes: (n, 4) float32, xyxy pixels of the original image, inside it and with an area.
        labels: (n,) int32, positions in `DatasetIndex.class_names`.
    """

    path: str
    image_id: int
    height: int
    width: int
    boxes: np.ndarray
    labels: np.ndarray


@dataclass(frozen=True, eq=False)
class DatasetIndex:
    """A split of a data set, whatever format it was read from.

    Args:
        records: the usable images, in the order of the annotations.
        class_names: one name a class; the position is the label.
        category_ids: the ids of the classes in the annotations, in the order of `class_names`.
        truth: the split as COCO json (`images`, `annotations`, `categories`), for the evaluation: crowds and images
            that cannot be read included.
        problems: what was skipped, and counts.
    """

    records: tuple[ImageRecord, ...]
    class_names: tuple[str, ...]
    category_ids: tuple[int, ...]
    truth: dict
    problems: DataReport

    def fingerprint(self) -> str:
        """Tells whether two indices are alike: in names, order and sizes of their images, in boxes and labels.

        The folder that the images lie in does not count, and their pixels are not looked at.

        Example:
            >>> train.index.fingerprint()
            '8 images, ... boxes, ...'
        """
        digest = hashlib.sha1(usedforsecurity=False)
        for record in self.records:
            about = (os.path.basename(record.path), record.image_id, record.height, record.width, len(record.labels))
            digest.update(repr(about).encode(errors="replace"))
            digest.update(record.boxes.tobytes())
            digest.update(record.labels.tobytes())
        boxes = sum(len(record.labels) for record in self.records)
        return f"{len(self.records)} images, {boxes} boxes, {digest.hexdigest()[:12]}"

    @property
    def num_images(self) -> int:
        """Number of usable images."""
        return len(self.records)

    @property
    def most_boxes(self) -> int:
        """The most boxes that an image has."""
        return max(len(record.labels) for record in self.records)

    def names(self, ids: Collection[int]) -> dict[int, str]:
        """The file names of images by id."""
        return {record.image_id: os.path.basename(record.path) for record in self.records if record.image_id in ids}

    def image_sizes(self) -> dict[str, tuple[int, int]]:
        """Return (height, width) of the images by path."""
        return {record.path: (record.height, record.width) for record in self.records}

    def sample_images(self, count: int, skipped: list[str], *, spread: bool = True) -> Iterator[np.ndarray]:
        """Yield at most `count` images that decode, (H, W, 3) uint8 RGB each; the others are not opened.

        Args:
            count: number of images.
            skipped: gets the names of images that do not decode; the next image takes the place of each, if there is
                one left for it.
            spread: at equal distances through the whole split. False: the first that decode.
        """
        step = math.ceil(len(self.records) / count) if spread else 1
        groups = [self.records[start : start + step] for start in range(0, len(self.records), step)]
        found = 0
        for group in groups:
            for record in group:
                try:
                    image = read_image(record.path)
                except InputError:
                    skipped.append(to_line(os.path.basename(record.path)))
                    continue
                yield image
                found += 1
                break
            if found == count:
                return

    def images(self, step: int = 1) -> Iterator[np.ndarray]:
        """The decoded images, (H, W, 3) uint8 RGB each, in the order of the records: the first of every `step`."""
        return (read_image(record.path) for record in self.records[::step])
