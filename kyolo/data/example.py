"""One record of TFRecords: an image file as it was, with its boxes, as a `tf.train.Example`.

| feature | holds |
|---|---|
| image/encoded | the image file, byte for byte |
| image/filename, image/id, image/height, image/width | as in COCO json; pixels of the upright picture |
| boxes, labels | what is trained on: (n, 4) float32 xyxy pixels, and positions of classes |
| truth/bbox, truth/area | what is scored: (m, 4) and (m,) float64, as in COCO json |
| truth/label, truth/id, truth/iscrowd | positions of classes; as in COCO json |

Floats stand as little-endian bytes: an Example's own lists of floats would round float64.
"""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import tensorflow as tf
from google.protobuf.message import DecodeError

from kyolo.data.images import decode_image
from kyolo.data.index import ImageRecord
from kyolo.data.values import is_id, is_side
from kyolo.errors import InputError


@dataclass(frozen=True, eq=False)
class Example:
    """What a record holds.

    Args:
        where: the file and the number of the record, for errors.
        content: the image file.
        image: as in COCO json: id, file_name, height, width.
        boxes: (n, 4) float32, as of an `ImageRecord`.
        labels: (n,) int64.
        truth: by name the columns of the annotations that are scored.
    """

    where: str
    content: bytes
    image: dict[str, Any]
    boxes: np.ndarray
    labels: np.ndarray
    truth: Mapping[str, np.ndarray]

    @property
    def image_id(self) -> int:
        """Its id in the annotations."""
        return self.image["id"]

    @property
    def record(self) -> ImageRecord:
        """The record as that of an index, with `where` in place of a path."""
        labels = self.labels.astype(np.int32)
        return ImageRecord(self.where, self.image_id, self.image["height"], self.image["width"], self.boxes, labels)

    def annotations(self, category_ids: Sequence[int]) -> list[dict]:
        """The boxes that are scored, as in COCO json."""
        return [
            {
                "id": annotation_id,
                "image_id": self.image_id,
                "category_id": category_ids[label],
                "bbox": bbox,
                "area": area,
                "iscrowd": crowd,
            }
            for annotation_id, label, bbox, area, crowd in zip(
                *(self.truth[key].tolist() for key in ("id", "label", "bbox", "area", "iscrowd")), strict=True
            )
        ]

    def decode(self) -> np.ndarray:
        """The image: (H, W, 3) uint8 RGB.

        Raises:
            InputError: it does not decode, or has another size than the record says.
        """
        image = decode_image(self.content, self.where)
        expected = (self.image["height"], self.image["width"])
        if image.shape[:2] != expected:
            raise InputError(
                f"{self.where}: expected an image of {expected[1]}x{expected[0]}, received "
                f"{image.shape[1]}x{image.shape[0]}; convert the set anew"
            )
        return image


def serialize_example(
    content: bytes, image: Mapping[str, Any], record: ImageRecord, annotations: Iterable[dict], labels: dict[int, int]
) -> bytes:
    """A record.

    Args:
        content: the image file.
        image: its entry in COCO json.
        record: what is trained on.
        annotations: what is scored, as in COCO json.
        labels: position of a class by category id.
    """
    annotations = list(annotations)
    bboxes = np.array([annotation["bbox"] for annotation in annotations], "<f8")
    areas = np.array([annotation["area"] for annotation in annotations], "<f8")
    features = {
        "image/encoded": _bytes(content),
        "image/filename": _bytes(os.fsencode(image["file_name"])),
        "image/id": _integers([image["id"]]),
        "image/height": _integers([image["height"]]),
        "image/width": _integers([image["width"]]),
        "boxes": _bytes(record.boxes.astype("<f4").tobytes()),
        "labels": _integers(record.labels.tolist()),
        "truth/bbox": _bytes(bboxes.tobytes()),
        "truth/area": _bytes(areas.tobytes()),
        "truth/label": _integers(labels[annotation["category_id"]] for annotation in annotations),
        "truth/id": _integers(annotation["id"] for annotation in annotations),
        "truth/iscrowd": _integers(annotation["iscrowd"] for annotation in annotations),
    }
    return tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString(deterministic=True)


def parse_example(serialized: bytes, where: str, num_classes: int) -> Example:
    """What a record holds, checked but for the image itself.

    Args:
        serialized: the record; empty where there is none.
        where: what errors call it.
        num_classes: labels lie below.

    Raises:
        InputError: it is missing or damaged, or not as `serialize_example` writes it.
    """
    if not serialized:
        raise InputError(f"{where}: expected a whole record, received none; convert the set anew")
    try:
        features = tf.train.Example.FromString(serialized).features.feature
        example = _parse(features, where)
        _check(example, num_classes)
    except (DecodeError, ValueError) as error:
        raise InputError(
            f"{where}: expected a record as `kyolo convert` writes it, received {error}; convert the set anew"
        ) from error
    return example


def _parse(features: Any, where: str) -> Example:
    """The features by their kinds and numbers; ValueError where these are others."""

    def single(values: Sequence, name: str) -> Any:
        if len(values) != 1:
            raise ValueError(f"{len(values)} values of {name}")
        return values[0]

    def integers(name: str) -> np.ndarray:
        return np.array(features[name].int64_list.value, np.int64)

    def floats(name: str, kind: str) -> np.ndarray:
        return np.frombuffer(single(features[name].bytes_list.value, name), kind)

    image = {
        "id": single(features["image/id"].int64_list.value, "image/id"),
        "file_name": os.fsdecode(single(features["image/filename"].bytes_list.value, "image/filename")),
        "height": single(features["image/height"].int64_list.value, "image/height"),
        "width": single(features["image/width"].int64_list.value, "image/width"),
    }
    truth = {key: integers(f"truth/{key}") for key in ("id", "label", "iscrowd")}
    truth |= {"bbox": floats("truth/bbox", "<f8").reshape(-1, 4), "area": floats("truth/area", "<f8")}
    return Example(
        where,
        single(features["image/encoded"].bytes_list.value, "image/encoded"),
        image,
        floats("boxes", "<f4").reshape(-1, 4),
        integers("labels"),
        truth,
    )


def _check(example: Example, num_classes: int) -> None:
    """ValueError for what training or scoring cannot stand."""
    image, boxes, truth = example.image, example.boxes, example.truth
    name = image["file_name"]
    x1, y1, x2, y2 = boxes.T
    inside = (x1 >= 0) & (x1 < x2) & (x2 <= image["width"]) & (y1 >= 0) & (y1 < y2) & (y2 <= image["height"])
    checks = {
        "an id beyond 2^53": all(map(is_id, [image["id"], *truth["id"].tolist()])),
        "sides that no image has": is_side(image["height"]) and is_side(image["width"]),
        "a name that no file has": "\0" not in name and PurePosixPath(name).name not in ("", ".."),
        "boxes outside the image or without area": bool(inside.all()),
        "numbers of boxes and labels that differ": len(boxes) == len(example.labels)
        and len({len(column) for column in truth.values()}) == 1,
        "labels beyond the classes": _within(example.labels, num_classes) and _within(truth["label"], num_classes),
        "a crowd that is neither 0 nor 1": _within(truth["iscrowd"], 2),
        "boxes that are no finite numbers": all((np.abs(truth[key]) < 1e30).all() for key in ("bbox", "area")),
    }
    wrong = next((text for text, sound in checks.items() if not sound), None)
    if wrong is not None:
        raise ValueError(wrong)


def _within(values: np.ndarray, limit: int) -> bool:
    return bool(((values >= 0) & (values < limit)).all())


def _bytes(value: bytes) -> tf.train.Feature:
    return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))


def _integers(values: Iterable[int]) -> tf.train.Feature:
    return tf.train.Feature(int64_list=tf.train.Int64List(value=values))
