"""The image and label files of a YOLO data set."""

from collections.abc import Sequence
from pathlib import Path

from kyolo.data.images import OTHER_SUFFIXES, SUFFIXES
from kyolo.data.paths import PathFinder
from kyolo.data.sources import find_files, read_lines


def list_images(finder: PathFinder, places: Sequence[Path]) -> tuple[dict[Path, str], list[Path]]:
    """Return names by image, and the image files of other formats.

    Names are relative to the image's folder, or to the data set if there are several folders or lists.
    """
    images: dict[Path, str] = {}
    others: list[Path] = []
    for place in places:
        if place.is_dir():
            root = place if len(places) == 1 else finder.folder
            images |= {path: relative_name(path, root) for path in find_files(place, SUFFIXES)}
            others += find_files(place, OTHER_SUFFIXES)
        else:
            images |= _read_list(finder, place)
    return images, others


def _read_list(finder: PathFinder, file: Path) -> dict[Path, str]:
    """Return names by image of a text file that names one image per line."""
    lines = filter(None, map(str.strip, read_lines(file)))
    found = finder.find_all(lines, (file.parent, finder.folder), source=file)
    return {
        finder.stand_in(line) if place is None else place.path: line
        if place is None
        else relative_name(place.path, finder.folder)
        for line, place in found.items()
    }


def label_of(finder: PathFinder, image: Path) -> Path:
    """Return the label file of an image, capital letters in its folders aside."""
    label = label_file(finder.folder, image)
    found = finder.match(label)
    if found is None:
        parent = finder.match(label.parent)
        found = label if parent is None else parent / label.name
    return found


def label_file(folder: Path, image: Path) -> Path:
    """Return labels/a.txt for images/a.jpg: the last folder of that name counts; else the .txt beside the image."""
    parts = list(image.parts)
    places = [number for number, part in enumerate(parts[:-1]) if part.lower() == "images"]
    if places and (places[-1] >= len(folder.parts) or not image.is_relative_to(folder)):
        parts[places[-1]] = "labels"
    return Path(*parts[:-1], f"{image.stem}.txt")  # with_suffix refuses "/", which a list may name


def relative_name(path: Path, folder: Path) -> str:
    """Return a path relative to a folder, with slashes; as it is if it lies outside."""
    return (path.relative_to(folder) if path.is_relative_to(folder) else path).as_posix()
