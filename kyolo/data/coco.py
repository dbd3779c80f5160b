"""Reader of COCO json."""

import os
import reprlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from kyolo.data.builder import IndexBuilder, is_id, is_side
from kyolo.data.index import DatasetIndex
from kyolo.data.layout import SPLITS, ReadOptions, check_class_names
from kyolo.data.paths import PathFinder
from kyolo.data.sources import read_json
from kyolo.errors import InputError

LAYOUT = "annotations/instances_train.json (COCO)"
ROBOFLOW = "_annotations.coco.json"
IMAGE_FOLDERS = ("images", "JPEGImages", "data", "img")  # of all splits together


@dataclass(frozen=True)
class CocoSplit:
    """Where a split lies: the json, and the folder that its file names are relative to, or else the data set's."""

    json: Path
    images: Path


def find_splits(folder: Path, options: ReadOptions) -> dict[str, CocoSplit]:  # noqa: ARG001 (as every reader has it)
    """Return the splits that are there, by name."""
    finder = PathFinder(folder)
    found: dict[str, CocoSplit] = {}
    for split, names in SPLITS.items():
        for name in names:
            file = finder.match_file(folder / "annotations" / f"instances_{name}.json")
            beside = finder.match_file(folder / name / ROBOFLOW)
            if file is not None:
                found.setdefault(split, CocoSplit(file, image_folder(finder, split, name)))
            elif beside is not None:
                found.setdefault(split, CocoSplit(beside, beside.parent))
    return found


def image_folder(finder: PathFinder, split: str, name: str) -> Path:
    """Return the folder that holds a split's images, by its customary names; `name` comes first."""
    names = (name, *SPLITS[split])
    places = [finder.folder / above / name for name in names for above in ("", "images")]
    places += [finder.folder / name for name in IMAGE_FOLDERS]
    return finder.match_folder(*places) or finder.folder


def read_split(
    folder: Path, files: CocoSplit, options: ReadOptions, wanted: Callable[[str], bool] | None = None
) -> DatasetIndex:
    """Reads the annotations of a split; the image files are not opened.

    Category ids may be sparse: label i is the i-th smallest. `truth` holds the boxes as the file does, so that
    pycocotools sees no difference: `area`, `iscrowd` and `id` are filled in where they are missing or no numbers,
    of annotations with the same id the later ones get new ones, outlines (`segmentation`) are left out, and so are
    annotations without four numbers or of unknown images or categories.

    Args:
        folder: the data set.
        files: of the split.
        options: `allow_outside` counts here.
        wanted: see `IndexBuilder`.

    Raises:
        InputError: the json cannot be read, or has no images or no categories.
    """
    file, content = files.json, _load_json(files.json)
    categories = _read_categories(file, content)
    builder = IndexBuilder(categories.values(), category_ids=tuple(categories), wanted=wanted, scored_as_read=True)
    shown = file.relative_to(folder)
    places = _find_images(folder, files, content["images"], options)
    for number, image in enumerate(content["images"]):
        if _is_image(image):
            path, name = places[image["file_name"]]
            builder.add_image(path, name, (image["height"], image["width"]), image["id"])
        else:
            builder.skip("image entry without id, file_name, height or width", f"{shown}: images[{number}]")
    names = {image["id"]: image["file_name"] for image in content["images"] if _is_image(image)}
    for number, annotation in enumerate(content["annotations"]):
        builder.add_annotation(annotation, f"{shown}: {_name(annotation, number, names)}")
    return builder.build()


def _find_images(folder: Path, files: CocoSplit, images: list, options: ReadOptions) -> dict[str, tuple[Path, str]]:
    """Return path and name of every image by its `file_name`; the name is that of the file that was found."""
    finder = PathFinder(folder, allow_outside=options.allow_outside)
    texts = [image["file_name"] for image in images if _is_image(image)]
    bases = dict.fromkeys((files.images, files.json.parent, folder))
    found = finder.find_all(texts, tuple(bases), source=files.json)
    places = {}
    for text, place in found.items():
        root = files.images if place is not None and place.path.is_relative_to(files.images) else folder
        if place is None:
            places[text] = (finder.stand_in(text), text)
        elif Path(os.path.normpath(files.images / text)) == place.path or not place.path.is_relative_to(root):
            places[text] = (place.path, text)
        else:
            places[text] = (place.path, place.path.relative_to(root).as_posix())
    return places


def _load_json(file: Path) -> dict:
    """Parses the json file, and checks that its three lists are there."""
    content = read_json(file)
    for key in ("images", "annotations", "categories"):
        if not isinstance(content, dict) or not isinstance(content.get(key), list):
            raise InputError(f"{file}: expected the lists images, annotations and categories, found no list {key!r}")
    for key in ("images", "categories"):
        if not content[key]:
            raise InputError(f"{file}: expected at least one entry in {key!r}, found none")
    return content


def _read_categories(file: Path, content: dict) -> dict[int, str]:
    """Names by category id, the ids in ascending order."""
    names = {}
    for category in content["categories"]:
        if not _is_category(category):
            received = reprlib.repr(category)
            raise InputError(f"{file}: expected categories with an integer id and a name, received {received}")
        if category["id"] in names:
            raise InputError(f"{file}: expected categories with different ids, received {category['id']} twice")
        names[category["id"]] = str(category["name"])  # numbers are names too
    if file.name == ROBOFLOW and _has_placeholder(content["categories"]):
        del names[0]
    check_class_names(names.values(), source=file)
    return dict(sorted(names.items()))


def _is_category(category: object) -> bool:
    return (
        isinstance(category, dict) and is_id(category.get("id")) and isinstance(category.get("name"), str | int | float)
    )


def _has_placeholder(categories: list[dict]) -> bool:
    """Whether category 0 is the name of the group that all others are in, as Roboflow writes it, and no class."""
    groups = {category["id"]: category.get("supercategory") for category in categories}
    names = {category["id"]: category["name"] for category in categories}
    others = [group for category_id, group in groups.items() if category_id != 0]
    return bool(others) and groups.get(0) == "none" and all(group == names[0] for group in others)


def _is_image(image: object) -> bool:
    return (
        isinstance(image, dict)
        and is_id(image.get("id"))
        and isinstance(image.get("file_name"), str)
        and all(is_side(image.get(side)) for side in ("height", "width"))
    )


def _name(annotation: object, number: int, images: dict[int, str]) -> str:
    """What an annotation is called in the report."""
    if not isinstance(annotation, dict):
        return f"annotations[{number}]"
    title = f"annotation {annotation['id']}" if is_id(annotation.get("id")) else f"annotations[{number}]"
    image_id = annotation.get("image_id")
    return f"{title} of {images[image_id]}" if is_id(image_id) and image_id in images else title
