"""Reader of YOLO text labels: `data.yaml`, and a .txt file an image with a row a box."""

import os
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from tqdm import tqdm

from kyolo.data.builder import IndexBuilder
from kyolo.data.images import SUFFIXES, read_image_size
from kyolo.data.index import DatasetIndex
from kyolo.data.layout import SPLITS, ReadOptions, check_class_names
from kyolo.data.rows import parse_row
from kyolo.data.sources import check_inside, find_files, read_lines
from kyolo.data.values import as_id
from kyolo.errors import InputError, to_line

LAYOUT = "YOLO: data.yaml with names, train and val; images in images/ folders, a .txt an image in labels/ beside them"
MAX_YAML_BYTES = 256 * 1024
MAX_LABEL_BYTES = 4 * 2**20


@dataclass(frozen=True)
class YoloSplit:
    """Where a split lies.

    Attributes:
        yaml: `data.yaml`.
        class_names: in the order of the labels.
        places: folders of images, and text files that list images.
    """

    yaml: Path
    class_names: tuple[str, ...]
    places: tuple[Path, ...]


def find_splits(folder: Path, options: ReadOptions) -> dict[str, YoloSplit]:  # noqa: ARG001 (as every reader has it)
    """The splits that `data.yaml` names, by name; val or test that is not there is none."""
    file = folder / "data.yaml"
    if not file.is_file():
        return {}
    content = _load_yaml(file)
    names = _read_names(file, content)
    splits = {}
    for split, keys in SPLITS.items():
        entries = next((content[key] for key in keys if content.get(key)), None)
        if entries is not None:
            places = [_locate(folder, entry, content) for entry in _as_texts(entries, file)]
            if split == "train" or all(map(os.path.exists, places)):
                splits[split] = YoloSplit(file, names, tuple(places))
    return splits


def read_split(
    folder: Path, files: YoloSplit, options: ReadOptions, wanted: Callable[[str], bool] | None = None
) -> DatasetIndex:
    """Read the labels of a split, and the sizes of its images.

    A row is `class x y width height`, centre and sides as fractions of the image, or `class x1 y1 x2 y2 x3 y3 ...`, a
    polygon, of which the box is taken. Where `data.yaml` has `kpt_shape: [K, D]`, a row is `class x y width height` and
    K x D numbers of keypoints, which are not used. An image without a .txt, or with an empty one, has no objects. Rows
    that cannot be used are named by file and line and skipped; an image whose .txt is not text, or belongs to another
    image too (a.jpg and a.png), is skipped as a whole.

    Args:
        folder: the data set.
        files: of the split.
        options: `allow_outside` counts here.
        wanted: see `IndexBuilder`.

    Raises:
        InputError: there is no image or not one .txt, or a path leads out of the data set.
    """
    builder = IndexBuilder(files.class_names, wanted=wanted)
    keypoints = _read_keypoints(files.yaml)
    images = _list_images(folder, files, options)
    labels = {path: label_file(folder, path) for path in images}
    if not any(os.path.isfile(label) for label in labels.values()):
        first = next(iter(labels.values()), "labels/*.txt")
        raise InputError(
            f"{files.yaml}: expected labels such as {to_line(str(first))}, found none beside {len(images)} images"
        )
    shared = {label for label, count in Counter(labels.values()).items() if count > 1 and os.path.isfile(label)}
    seen = set()
    order = sorted(images, key=images.__getitem__)
    for path in tqdm(order, "Reading labels", delay=2.0, unit="image", disable=None):
        label = labels[path]
        rows = 0 if label in seen else None  # A shared label file counts once, with the first of its images.
        seen.add(label)
        if not builder.wants(images[path]):
            continue
        if label in shared:
            boxes = _count_rows(label) if rows is None else rows
            builder.skip("image whose label file is another image's too", images[path], boxes)
            continue
        try:
            size = read_image_size(path)
        except InputError:
            kind = "corrupt image" if os.path.isfile(path) else "missing image"
            builder.skip(kind, images[path], _count_rows(label))
            continue
        _add_labelled(builder, path, images[path], size, label, _shown(label, folder), keypoints)
    for path in _labels_without_image(folder, files, set(labels.values())):
        if builder.wants(path.name):
            builder.skip("labels without image", _shown(path, folder), _count_rows(path))
    return builder.build()


def _count_rows(labels: Path) -> int:
    """Return the number of rows of a label file; 0 where it is missing or not text."""
    try:
        return sum(bool(row.strip()) for row in read_lines(labels, MAX_LABEL_BYTES)) if os.path.isfile(labels) else 0
    except InputError:
        return 0


def _labels_without_image(folder: Path, files: YoloSplit, taken: set[Path]) -> list[Path]:
    """The .txt files in folders of labels that belong to no image of the split."""
    found = []
    for place in filter(os.path.isdir, files.places):
        labels = label_file(folder, place / "a.jpg").parent
        if labels != place:  # beside the images, a .txt may be anything
            found += [
                path for path in find_files(labels, (".txt",)) if path not in taken and path.name != "classes.txt"
            ]
    return found


def _add_labelled(
    builder: IndexBuilder,
    path: Path,
    name: str,
    size: tuple[int, int],
    labels: Path,
    shown: str,
    keypoints: int | None,
) -> None:
    """Add an image and the rows of its label file."""
    try:
        rows = read_lines(labels, MAX_LABEL_BYTES) if os.path.exists(labels) else []
    except InputError:
        builder.skip("image whose labels are no text", shown)
        return
    image_id = builder.add_image(path, name, size)
    for number, row in enumerate(rows, 1):
        if row.strip():
            parsed = parse_row(row, size, len(builder.class_names), keypoints)
            if isinstance(parsed, str):
                builder.skip(parsed, f"{shown}:{number}", boxes=1)
            else:
                label, bbox = parsed
                builder.add_annotation(
                    {"image_id": image_id, "category_id": label + 1, "bbox": bbox}, f"{shown}:{number}"
                )


def _read_keypoints(file: Path) -> int | None:
    """Return how many numbers of keypoints a row has by `kpt_shape`, None where data.yaml does not give it."""
    shape = _load_yaml(file).get("kpt_shape")
    if shape in (None, "", "null", "~"):
        return None
    sides = [as_id(side) for side in shape] if isinstance(shape, list) else []
    numbers = [side for side in sides if side is not None]
    if len(sides) != 2 or len(numbers) != 2 or not 1 <= numbers[0] <= 10000 or numbers[1] not in (2, 3):
        raise InputError(
            f"{file}: expected kpt_shape: [number of keypoints, 2 or 3], got {shape!r:.80}. Correct it, or remove it "
            f"where the rows have no keypoints."
        )
    return numbers[0] * numbers[1]


class _PlainLoader(yaml.BaseLoader):
    """Every scalar as the text that stands there, and no aliases: with them a few lines can hold gigabytes."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.MarkedYAMLError(problem="aliases (*) are not allowed", problem_mark=self.peek_event().start_mark)
        return super().compose_node(parent, index)


def _load_yaml(file: Path) -> dict:
    """The file's mapping, every scalar as the text that stands there: `names: [yes, no]` are no booleans."""
    text = "\n".join(read_lines(file, MAX_YAML_BYTES))
    try:
        content = _PlainLoader(text).get_single_data()
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise InputError(f"{file}: expected YAML, received a mistake: {' '.join(str(error).split()):.200}") from error
    if not isinstance(content, dict):
        raise InputError(f"{file}: expected a mapping with names, train and val, received {content!r:.80}")
    return content


def _read_names(file: Path, content: dict) -> tuple[str, ...]:
    """The class names: a list, or a mapping from 0, 1, 2, ... to names."""
    names, count = content.get("names"), content.get("nc")
    if isinstance(names, dict):
        numbers = [str(number) for number in range(len(names))]
        if sorted(names) != sorted(numbers):
            received = ", ".join(map(str, names))
            raise InputError(f"{file}: expected names numbered 0, 1, 2, ..., received {received:.80}")
        names = [names[number] for number in numbers]
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        raise InputError(f"{file}: expected the names of the classes, a list or a mapping, received {names!r:.80}")
    if count is not None and count != str(len(names)):
        raise InputError(f"{file}: expected nc: {len(names)}, as many as names, received {count!r:.80}")
    return check_class_names(map(str.strip, names), source=file)


def _as_texts(entries: object, file: Path) -> list[str]:
    texts = entries if isinstance(entries, list) else [entries]
    if not all(isinstance(text, str) for text in texts):
        raise InputError(f"{file}: expected a path or a list of paths of a split, received {entries!r:.80}")
    return texts


def _locate(folder: Path, entry: str, content: dict) -> Path:
    """The folder or list that an entry of data.yaml means: inside the data set, unless there is only another.

    Roboflow writes `../train/images` for train/images, and Ultralytics sets a `path` of another machine before all.
    """
    root = content.get("path")
    inner = Path(*(part for part in Path(entry).parts if part not in ("..", "/")))
    candidates = [folder / inner, *([folder / root / entry] if isinstance(root, str) else []), folder / entry]
    return next(filter(os.path.exists, candidates), candidates[0])


def _list_images(folder: Path, files: YoloSplit, options: ReadOptions) -> dict[Path, str]:
    """Names by image: those in its folder, and where there are several folders or lists, those in the data set."""
    images = {}
    for place in files.places:
        place = check_inside(folder, place, source=files.yaml, allow_outside=options.allow_outside)  # noqa: PLW2901
        if not os.path.exists(place):
            raise InputError(f"{files.yaml}: expected {str(place)!r:.300}, which it names, found nothing there")
        root = place if len(files.places) == 1 and place.is_dir() else folder
        found = find_files(place, SUFFIXES) if place.is_dir() else _read_list(folder, place, options)
        images |= {path: (path.relative_to(root) if path.is_relative_to(root) else path).as_posix() for path in found}
    return images


def _read_list(folder: Path, file: Path, options: ReadOptions) -> Iterator[Path]:
    """The images that a text file names, one a line."""
    for line in filter(None, map(str.strip, read_lines(file))):
        path = next((path for path in (file.parent / line, folder / line) if os.path.exists(path)), folder / line)
        yield check_inside(folder, path, source=file, allow_outside=options.allow_outside)


def label_file(folder: Path, image: Path) -> Path:
    """labels/a.txt for images/a.jpg, the last folder of that name counting; without one the .txt beside the image."""
    parts = list(image.parts)
    places = [number for number, part in enumerate(parts[:-1]) if part == "images"]
    if places and (places[-1] >= len(folder.parts) or not image.is_relative_to(folder)):
        parts[places[-1]] = "labels"
    return Path(*parts[:-1], f"{image.stem}.txt")  # with_suffix refuses "/", which a list may name


def _shown(path: Path, folder: Path) -> str:
    return str(path.relative_to(folder) if path.is_relative_to(folder) else path)
