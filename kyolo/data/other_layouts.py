"""Layouts that annotation tools write and that name no splits, looked for where no customary layout is."""

import re
from collections.abc import Sequence
from pathlib import Path

from kyolo.data.coco import CocoSplit, image_folder
from kyolo.data.images import SUFFIXES
from kyolo.data.layout import SPLITS, ReadOptions, check_class_names, split_in, split_of
from kyolo.data.paths import PathFinder
from kyolo.data.sources import find_files, read_json, read_lines
from kyolo.data.yolo import YoloSplit
from kyolo.data.yolo_files import label_file
from kyolo.errors import InputError, to_line

NAME_FILES = ("classes.txt", "obj.names", "labels/classes.txt", "_darknet.labels")
MAX_JSONS = 8  # In a folder with more, each is the labels of one image.
LISTS = ("images", "annotations", "categories")


def find_coco(folder: Path, options: ReadOptions) -> dict[str, CocoSplit]:  # noqa: ARG001 (as every reader has it)
    """Return the splits of COCO json files of any name, as Label Studio and FiftyOne write them.

    They lie in the data set's folder, in `annotations/` or in a folder per split. A file whose name holds no split is
    "train".

    Raises:
        InputError: two files are the same split.
    """
    finder = PathFinder(folder)
    places = [folder, finder.match_folder(folder / "annotations"), *_split_folders(finder, folder)]
    files = [file for place in filter(None, places) for file in _jsons(place) if _is_coco(file)]
    found: dict[str, CocoSplit] = {}
    for file in files:
        beside = split_of(file.relative_to(folder).parts[:-1])
        split = split_in(file.stem) or beside or "train"
        if split in found:
            names = " and ".join(to_line(str(path.relative_to(folder))) for path in (found[split].json, file))
            raise InputError(
                f"{folder}: expected one COCO json per split, found {names} for {split}. Rename them to "
                f"annotations/instances_train.json and annotations/instances_val.json."
            )
        images = file.parent if beside else image_folder(finder, split, split)
        found[split] = CocoSplit(file, images)
    return found


def find_yolo(folder: Path, options: ReadOptions) -> dict[str, YoloSplit]:  # noqa: ARG001
    """Return the splits of images and labels with a list of class names, as Label Studio and LabelImg write them."""
    finder = PathFinder(folder)
    inner = _split_folders(finder, folder)
    homes = [folder, *inner]
    names_file = finder.match_file(*(home / name for home in homes for name in NAME_FILES))
    if names_file is None:
        return {}
    names = [line.strip() for line in read_lines(names_file)]
    class_names = check_class_names(filter(None, names), source=names_file)
    images = finder.match_folder(folder / "images")
    parted = inner or (_split_folders(finder, images) if images is not None else [])
    places = {split_of((place.name,)) or "train": place for place in reversed(parted)}
    places = places or {"train": images or folder}
    splits = {split: YoloSplit(names_file, class_names, (place,)) for split, place in places.items()}
    labelled = any(_has_labels(finder, place) for place in places.values())
    return {split: splits[split] for split in SPLITS if split in splits} if labelled else {}


def _split_folders(finder: PathFinder, folder: Path) -> list[Path]:
    """Return the folders below one that are named after a split."""
    found = (finder.match_folder(folder / name) for names in SPLITS.values() for name in names)
    return [place for place in found if place is not None]


def _jsons(folder: Path) -> Sequence[Path]:
    files = sorted(path for path in folder.iterdir() if path.suffix.lower() == ".json" and path.is_file())
    return files if len(files) <= MAX_JSONS else ()


def _is_coco(file: Path) -> bool:
    """Return whether a json file holds the lists of COCO. A file of a customary name must be json."""
    try:
        content = read_json(file)
    except InputError:
        if re.search("annotation|instances|coco|result", file.stem.lower()):
            raise
        return False
    return isinstance(content, dict) and all(isinstance(content.get(key), list) for key in LISTS)


def _has_labels(finder: PathFinder, place: Path) -> bool:
    """Return whether any image in a folder has a label file."""
    return any(finder.match_file(label_file(finder.folder, path)) for path in find_files(place, SUFFIXES))
