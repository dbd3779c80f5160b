"""Reader of COCO json: SET/annotations/instances_{split}.json with the images in SET/{split}/."""

import json
import math
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import numpy as np

from kyolo.data.index import DatasetIndex, ImageRecord
from kyolo.data.report import DataReport
from kyolo.errors import InputError

LAYOUT = "SET/{train,val}/*.jpg with SET/annotations/instances_{train,val}.json (COCO json)"


def read_coco(folder: Path, split: str, *, wanted: Callable[[str], bool] | None = None) -> DatasetIndex:
    """Reads the annotations of a split; the image files are not opened.

    Category ids may be sparse: label i is the i-th smallest. Boxes are clipped to their image. Crowds are left to the
    evaluation. Annotations that cannot be used are named in the report: unknown image or category, not four finite
    numbers, no area, wholly outside. `truth` holds what the file holds, so that pycocotools sees no difference: `area`,
    `iscrowd` and `id` are filled in where they are missing, the annotations of the first two kinds are dropped, and so
    are the outlines (`segmentation`), for their size.

    Args:
        folder: the data set.
        split: the name in the file names.
        wanted: takes a `file_name`, says whether the image belongs to the part that is read. None: all do.

    Raises:
        InputError: folder or json is missing, not json, or without images or categories.
    """
    file, content = _load_json(folder, split)
    category_ids, class_names = _read_categories(file, content)
    problems = defaultdict(list)
    images = _read_images(content, problems)
    part = {image_id: image for image_id, image in images.items() if wanted is None or wanted(image["file_name"])}
    truth = {"images": list(part.values()), "annotations": [], "categories": content["categories"]}
    labels = {category_id: label for label, category_id in enumerate(category_ids)}
    trained = {image_id: [] for image_id in part}  # image_id -> [(box, label)]
    for number, annotation in enumerate(content["annotations"]):
        image_id = annotation.get("image_id") if isinstance(annotation, dict) else None
        if not _is_id(image_id):
            image_id = None  # a list or a mapping could not even be looked up
        if image_id in images and image_id not in part:
            continue
        name = _name(annotation, number, part.get(image_id))
        problem = _find_problem(annotation, part, labels)
        if problem in (None, "box without area", "box outside the image"):
            truth["annotations"].append(_complete(annotation))
        if problem:
            problems[problem].append(name)
        elif not annotation.get("iscrowd"):
            trained[image_id].append((_clipped(annotation["bbox"], part[image_id]), labels[annotation["category_id"]]))
    _fill_ids(truth["annotations"])
    records = tuple(_record(folder / split, image, trained[image_id]) for image_id, image in part.items())
    report = DataReport(problems={kind: tuple(names) for kind, names in problems.items()})
    return DatasetIndex(records, class_names, category_ids, truth, report)


def _load_json(folder: Path, split: str) -> tuple[Path, dict]:
    """Finds and parses the json file, and checks that its three lists are there."""
    if not folder.is_dir():
        raise InputError(f"No data set at {folder}: expected a folder laid out as {LAYOUT}, found no folder")
    file = folder / "annotations" / f"instances_{split}.json"
    if not file.is_file():
        found = ", ".join(sorted(str(path.relative_to(folder)) for path in _entries(folder))[:8]) or "nothing"
        raise InputError(
            f"No split {split!r} in {folder}: expected {file.relative_to(folder)} ({LAYOUT}), found {found}"
        )
    try:
        content = json.loads(file.read_bytes())
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise InputError(
            f"{file}: expected json, received {error.msg.lower()} at {where}; write the file anew"
        ) from error
    except RecursionError:
        raise InputError(
            f"{file}: expected json of images, annotations and categories, received too deep a nest"
        ) from None
    except UnicodeDecodeError as error:
        raise InputError(f"{file}: expected json in UTF-8, received other bytes at position {error.start}") from error
    for key in ("images", "annotations", "categories"):
        if not isinstance(content, dict) or not isinstance(content.get(key), list):
            raise InputError(f"{file}: expected the lists images, annotations and categories, found no list {key!r}")
    for key in ("images", "categories"):
        if not content[key]:
            raise InputError(f"{file}: expected at least one entry in {key!r}, found none")
    return file, content


def _entries(folder: Path) -> list[Path]:
    """The folder's entries, and the annotation files in it."""
    return [*folder.iterdir(), *folder.glob("annotations/*")]


def _read_categories(file: Path, content: dict) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """Category ids in ascending order, and their names."""
    names = {}
    for category in content["categories"]:
        if not isinstance(category, dict) or not _is_id(category.get("id")) or "name" not in category:
            raise InputError(f"{file}: expected categories with an integer id and a name, received {category!r}")
        if category["id"] in names:
            raise InputError(f"{file}: expected categories with different ids, received {category['id']} twice")
        names[category["id"]] = str(category["name"])
    return tuple(sorted(names)), tuple(names[category_id] for category_id in sorted(names))


def _read_images(content: dict, problems: dict[str, list[str]]) -> dict[int, dict]:
    """The usable image entries by id."""
    images = {}
    for number, image in enumerate(content["images"]):
        well_formed = (
            isinstance(image, dict)
            and _is_id(image.get("id"))
            and isinstance(image.get("file_name"), str)
            and all(_is_id(image.get(side)) and image[side] > 0 for side in ("height", "width"))
        )
        if not well_formed:
            problems["image entry without id, file_name, height or width"].append(f"images[{number}]")
        elif image["id"] in images:
            problems["image id used twice"].append(image["file_name"])
        else:
            images[image["id"]] = image
    return images


def _find_problem(annotation, images: dict[int, dict], labels: dict[int, int]) -> str | None:
    """Why an annotation cannot be trained on, if so."""
    if not isinstance(annotation, dict) or not _is_key(annotation.get("image_id"), images):
        return "annotation of an unknown image"
    if not _is_key(annotation.get("category_id"), labels):
        return "annotation of an unknown category"
    box = annotation.get("bbox")
    if not isinstance(box, list) or len(box) != 4 or not all(_is_finite(number) for number in box):
        return "box that is not four finite numbers"
    if box[2] <= 0 or box[3] <= 0:
        return "box without area"
    x1, y1, x2, y2 = _clipped(box, images[annotation["image_id"]])
    return "box outside the image" if x1 >= x2 or y1 >= y2 else None


def _is_key(value, mapping: dict[int, object]) -> bool:
    return _is_id(value) and value in mapping


def _clipped(box: list, image: dict) -> tuple[float, ...]:
    """COCO's x, y, width, height as xyxy inside the image."""
    x, y, width, height = box
    horizontal = (min(max(value, 0), image["width"]) for value in (x, x + width))
    vertical = (min(max(value, 0), image["height"]) for value in (y, y + height))
    (x1, x2), (y1, y2) = horizontal, vertical
    return x1, y1, x2, y2


def _complete(annotation: dict) -> dict:
    """The annotation without its outline, with the fields that an evaluation needs."""
    completed = {key: value for key, value in annotation.items() if key != "segmentation"}
    completed.setdefault("iscrowd", 0)
    if not _is_finite(completed.get("area")):
        completed["area"] = annotation["bbox"][2] * annotation["bbox"][3]
    return completed


def _fill_ids(annotations: list[dict]) -> None:
    """Gives annotations without an id the next free one; ids begin at 1, as pycocotools takes 0 for "no match"."""
    free = max((annotation["id"] for annotation in annotations if _is_id(annotation.get("id"))), default=0) + 1
    for annotation in annotations:
        if "id" not in annotation:
            annotation["id"], free = free, free + 1


def _record(folder: Path, image: dict, trained: list[tuple[tuple[float, ...], int]]) -> ImageRecord:
    boxes = np.array([box for box, _ in trained], np.float32).reshape(-1, 4)
    labels = np.array([label for _, label in trained], np.int32)
    path = str(folder / image["file_name"])
    return ImageRecord(path, image["id"], image["height"], image["width"], boxes, labels)


def _name(annotation, number: int, image: dict | None) -> str:
    """What an annotation is called in the report."""
    own = annotation.get("id") if isinstance(annotation, dict) else None
    title = f"annotation {own}" if own is not None else f"annotations[{number}]"
    return f"{title} of {image['file_name']}" if image else title


def _is_id(value) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_finite(value) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
