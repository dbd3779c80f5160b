"""Reader of COCO json."""

import contextlib
import json
import os
import re
import reprlib
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from kyolo.data.builder import IndexBuilder, has_area, read_box
from kyolo.data.index import DatasetIndex
from kyolo.data.layout import SPLITS, ReadOptions, check_class_names
from kyolo.data.outlines import outline_box
from kyolo.data.paths import PathFinder
from kyolo.data.sources import read_json
from kyolo.data.values import as_id, as_side
from kyolo.errors import InputError

LAYOUT = "annotations/instances_train.json (COCO)"
ROBOFLOW = "_annotations.coco.json"
_CATEGORIES = re.compile(rb'"categories"\s*:\s*\[')
_CATEGORIES_BYTES = 4 * 2**20  # The list of categories is searched for its end within these.
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
    """Read the annotations of a split; the image files are not opened.

    The classes are those of all splits of the set, by name: first those of "train" in the order of their ids, which may
    be sparse, then names that only other splits have. So a label means the same in every split. `truth` holds the boxes
    as the file does, so that pycocotools sees no difference: `area`, `iscrowd` and `id` are filled in where they are
    missing or not numbers, of annotations with the same id the later ones get new ones, outlines (`segmentation`) are
    left out, and so are annotations without a box or of unknown images or categories. Where `bbox` is missing or has
    no area, the box of the outline is taken.

    Two images with one id, and two ids for one file, are skipped with their annotations: nobody knows which boxes
    belong to which image.

    Args:
        folder: the data set.
        files: of the split.
        options: `allow_outside` counts here.
        wanted: see `IndexBuilder`.

    Raises:
        InputError: the json cannot be read, or has no images or no categories.
    """
    file, content = files.json, _load_json(files.json)
    own = _read_categories(file, content["categories"])
    splits = find_splits(folder, options)
    others = [
        _peek_categories(splits[split].json) if splits[split].json != file else own
        for split in SPLITS
        if split in splits
    ]
    class_names = tuple(dict.fromkeys(name for names in [*others, own] for name in names.values()))
    category_ids = _choose_ids(class_names, own, others)
    builder = IndexBuilder(class_names, category_ids=category_ids, wanted=wanted, scored_as_read=True)
    images = _add_images(builder, folder, files, content["images"], options)
    shown = file.relative_to(folder)
    for number, annotation in enumerate(content["annotations"]):
        name = f"{shown}: {_name(annotation, number, images)}"
        outlined = _with_outline(annotation, images)
        if builder.add_annotation(outlined, name) and outlined is not annotation:
            builder.note("box taken from the outline", name)
    return builder.build()


def _choose_ids(class_names: tuple[str, ...], own: dict[int, str], others: list[dict[int, str]]) -> tuple[int, ...]:
    """Return the category ids of the classes: the split's own, another split's if it is free, or the next free one."""
    chosen = {name: category_id for category_id, name in own.items()}
    for categories in others:
        for category_id, name in categories.items():
            if category_id not in chosen.values():
                chosen.setdefault(name, category_id)
    for name in class_names:
        chosen.setdefault(name, max(chosen.values()) + 1)
    return tuple(chosen[name] for name in class_names)


def _add_images(
    builder: IndexBuilder, folder: Path, files: CocoSplit, entries: list, options: ReadOptions
) -> dict[int, dict]:
    """Add the images that have an id and a file for themselves; return the first entry of each id."""
    shown = files.json.relative_to(folder)
    images, paths, ids = [], defaultdict(set), defaultdict(set)  # entries; files by id, ids by file
    for number, entry in enumerate(entries):
        image = _parse_image(entry)
        if image is not None:
            images.append(image)
            continue
        builder.skip("image entry without id, file_name, height or width", f"{shown}: images[{number}]")
        if isinstance(entry, dict) and as_id(entry.get("id")) is not None:
            paths[as_id(entry["id"])].add(None)
    places = _find_images(folder, files, [image["file_name"] for image in images], options)
    for image in images:
        image["path"], image["file_name"] = places[image["file_name"]]
        paths[image["id"]].add(image["path"])
        ids[image["path"]].add(image["id"])
    added: dict[int, dict] = {}
    for image in images:
        _add_image(builder, image, len(paths[image["id"]]) > 1, len(ids[image["path"]]) > 1, again=image["id"] in added)
        added.setdefault(image["id"], image)
    return added


def _add_image(builder: IndexBuilder, image: dict, id_twice: bool, file_twice: bool, *, again: bool) -> None:
    """Add an image, or name it where its id or file is another's too or its entry is there again."""
    name = image["file_name"]
    kind = "image file used twice" if file_twice and not id_twice else "image id used twice"
    if (id_twice or file_twice or again) and builder.wants(name):
        builder.skip(kind, name)
    if (id_twice or file_twice) and not again:
        builder.exclude(image["id"], f"annotation of an {kind}", name)
        image["shared"] = True
    elif not again:
        builder.add_image(image["path"], name, (image["height"], image["width"]), image["id"])


def _find_images(folder: Path, files: CocoSplit, texts: list[str], options: ReadOptions) -> dict[str, tuple[Path, str]]:
    """Return path and name of every image by its `file_name`; the name is that of the file that was found."""
    finder = PathFinder(folder, allow_outside=options.allow_outside)
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


def _with_outline(annotation: object, images: dict[int, dict]) -> object:
    """Return the annotation with the box of its outline where it has no box of its own."""
    if not isinstance(annotation, dict) or not annotation.get("segmentation"):
        return annotation
    box, image = read_box(annotation.get("bbox")), images.get(as_id(annotation.get("image_id")))
    if image is None or (box is not None and has_area(box)):
        return annotation
    outline = outline_box(annotation["segmentation"], (image["height"], image["width"]))
    return annotation if outline is None else {**annotation, "bbox": outline}


def _load_json(file: Path) -> dict:
    """Parse the json file, and check that its three lists are there."""
    content = read_json(file)
    for key in ("images", "annotations", "categories"):
        if not isinstance(content, dict) or not isinstance(content.get(key), list):
            raise InputError(f"{file}: expected the lists images, annotations and categories, found no list {key!r}")
    for key in ("images", "categories"):
        if not content[key]:
            raise InputError(f"{file}: expected at least one entry in {key!r}, found none")
    return content


def _peek_categories(file: Path) -> dict[int, str]:
    """Return the categories of another split's json, without parsing the rest where that can be avoided.

    A json that cannot be read counts as one without categories: it is refused when its split is read.
    """
    with contextlib.suppress(InputError):
        return _read_categories(file, _find_categories(file))
    return {}


def _find_categories(file: Path) -> list:
    """Return the list `categories` of a json: the annotations around it may take a hundred times longer to parse."""
    try:
        content = file.read_bytes()
    except OSError:
        return []
    places = [found.end() - 1 for found in _CATEGORIES.finditer(content)]
    if len(places) == 1:  # else one may be within another object
        text = content[places[0] : places[0] + _CATEGORIES_BYTES].decode("utf-8", errors="ignore")
        with contextlib.suppress(ValueError, RecursionError):
            return json.JSONDecoder().raw_decode(text)[0]
    document = read_json(file)
    categories = document.get("categories") if isinstance(document, dict) else None
    return categories if isinstance(categories, list) else []


def _read_categories(file: Path, categories: list) -> dict[int, str]:
    """Return the names by category id, the ids in ascending order."""
    names: dict[int, str] = {}
    for category in categories:
        category_id = as_id(category.get("id")) if isinstance(category, dict) else None
        if category_id is None or not isinstance(category.get("name"), str | int | float):
            received = reprlib.repr(category)
            raise InputError(f"{file}: expected categories with an integer id and a name, received {received}")
        if category_id in names:
            raise InputError(f"{file}: expected categories with different ids, received {category_id} twice")
        names[category_id] = str(category["name"]).strip()  # numbers are names too
    if file.name == ROBOFLOW and _has_placeholder(categories):
        del names[0]
    check_class_names(names.values(), source=file)
    return dict(sorted(names.items()))


def _has_placeholder(categories: list[dict]) -> bool:
    """Return whether category 0 only names the group of all others, as Roboflow writes it."""
    groups = {as_id(category["id"]): category.get("supercategory") for category in categories}
    names = {as_id(category["id"]): category["name"] for category in categories}
    others = [group for category_id, group in groups.items() if category_id != 0]
    return bool(others) and groups.get(0) == "none" and all(group == names[0] for group in others)


def _parse_image(entry: object) -> dict | None:
    """Return id, file_name, height and width of an image entry; None where one is missing or not what it should be."""
    if not isinstance(entry, dict) or not isinstance(entry.get("file_name"), str):
        return None
    image = {"id": as_id(entry.get("id")), **{side: as_side(entry.get(side)) for side in ("height", "width")}}
    return None if None in image.values() else {**image, "file_name": entry["file_name"]}


def _name(annotation: object, number: int, images: dict[int, dict]) -> str:
    """Return what an annotation is called in the report."""
    if not isinstance(annotation, dict):
        return f"annotations[{number}]"
    annotation_id, image_id = as_id(annotation.get("id")), as_id(annotation.get("image_id"))
    title = f"annotations[{number}]" if annotation_id is None else f"annotation {annotation_id}"
    if image_id not in images:
        return title
    image = images[image_id]
    return f"{title} of image id {image_id}" if "shared" in image else f"{title} of {image['file_name']}"
