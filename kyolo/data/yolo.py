"""Reader of YOLO text labels: `data.yaml`, and a .txt file an image with a row a box."""

import os
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from tqdm import tqdm

from kyolo.data.builder import IndexBuilder
from kyolo.data.images import OTHER_FORMAT, SUFFIXES, read_image_size
from kyolo.data.index import DatasetIndex
from kyolo.data.layout import SPLITS, MissingSplit, ReadOptions, check_class_names
from kyolo.data.paths import PathFinder
from kyolo.data.rows import parse_row
from kyolo.data.sources import find_files, read_lines
from kyolo.data.values import as_id
from kyolo.data.yolo_files import label_of, list_images, relative_name
from kyolo.errors import InputError, to_line

LAYOUT = "data.yaml (YOLO)"
YAMLS = ("data.yaml", "data.yml", "dataset.yaml", "dataset.yml")
DARKNET = "obj.data"  # what CVAT writes for YOLO 1.1
MAX_YAML_BYTES = 256 * 1024
MAX_LABEL_BYTES = 4 * 2**20


@dataclass(frozen=True)
class YoloSplit:
    """Where a split lies.

    Attributes:
        yaml: `data.yaml`, or another file that says where the split lies.
        class_names: in the order of the labels.
        places: folders of images, and text files that list images.
        keypoints: how many numbers of keypoints a row has; None without `kpt_shape`.
    """

    yaml: Path
    class_names: tuple[str, ...]
    places: tuple[Path, ...]
    keypoints: int | None = None


def find_splits(folder: Path, options: ReadOptions) -> dict[str, YoloSplit | MissingSplit]:
    """Return the splits that `data.yaml`, one of its other names or `obj.data` names, by split name."""
    finder = PathFinder(folder)
    file = finder.match_file(*(folder / name for name in YAMLS))
    if file is not None:
        return find_splits_of(file, options)
    file = finder.match_file(folder / DARKNET)
    return {} if file is None else _splits_of(file, _load_darknet(file, finder), options)


def find_splits_of(file: Path, options: ReadOptions) -> dict[str, YoloSplit | MissingSplit]:
    """Return the splits that a YAML file names, by split name; the file's folder is the data set."""
    return _splits_of(file, _load_yaml(file), options)


def _splits_of(file: Path, content: dict, options: ReadOptions) -> dict[str, YoloSplit | MissingSplit]:
    """Return the splits of a mapping with names, train, val and test."""
    names, keypoints = _read_names(file, content), _read_keypoints(file, content)
    finder = PathFinder(file.parent, allow_outside=options.allow_outside)
    splits: dict[str, YoloSplit | MissingSplit] = {}
    for split, keys in SPLITS.items():
        key = next((key for key in keys if content.get(key)), None)
        if key is not None:
            try:
                places = [_locate(finder, key, text, file, content) for text in _as_texts(content[key], file)]
                splits[split] = YoloSplit(file, names, tuple(places), keypoints)
            except InputError as error:  # It counts only for those who want this split.
                splits[split] = MissingSplit(str(error))
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
    finder = PathFinder(folder, allow_outside=options.allow_outside)
    images, others = list_images(finder, files.places)
    labels = {path: label_of(finder, path) for path in (*images, *others)}
    _check_found(files, images, others, labels)
    uses = Counter(labels[path] for path in images)
    shared = {label for label, count in uses.items() if count > 1 and os.path.isfile(label)}
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
        _add_labelled(builder, path, images[path], size, label, relative_name(label, folder), files.keypoints)
    for path in others:
        if builder.wants(path.name):
            builder.skip(OTHER_FORMAT, relative_name(path, folder), _count_rows(labels[path]))
    for path in _labels_without_image(finder, files, labels):
        if builder.wants(path.name):
            builder.skip("labels without image", relative_name(path, folder), _count_rows(path))
    return builder.build()


def _count_rows(labels: Path) -> int:
    """Return the number of rows of a label file; 0 where it is missing or not text."""
    try:
        return sum(bool(row.strip()) for row in read_lines(labels, MAX_LABEL_BYTES)) if os.path.isfile(labels) else 0
    except InputError:
        return 0


def _check_found(files: YoloSplit, images: Collection[Path], others: Sequence[Path], labels: dict[Path, Path]) -> None:
    """Raise InputError for a split without images, or without labels for them."""
    if not images:
        counts = Counter(path.suffix.lower() for path in others)
        found = ", ".join(f"{count} {suffix}" for suffix, count in counts.items()) or "none"
        places = ", ".join(map(str, files.places))
        raise InputError(
            f"{to_line(places):.300}: expected images ({', '.join(SUFFIXES)}), found {found}. "
            f"{'Convert them to .png' if others else 'Correct the path in ' + files.yaml.name}."
        )
    if not any(os.path.isfile(label) for label in labels.values()):
        first = to_line(str(next(iter(labels.values()))))
        raise InputError(
            f"{files.yaml}: expected labels such as {first}, found none for {len(images)} images. Put the .txt files "
            f"there."
        )


def _labels_without_image(finder: PathFinder, files: YoloSplit, labels: dict[Path, Path]) -> list[Path]:
    """Return the .txt files in folders of labels that belong to no image of the split."""
    taken = set(labels.values())
    places = [place for place in files.places if place.is_dir()]
    # Beside the images, a .txt may be anything.
    folders = {place: label_of(finder, place / "a.jpg").parent for place in places}
    found = {path for place, folder in folders.items() if folder != place for path in find_files(folder, (".txt",))}
    return sorted(path for path in found if path not in taken and path.name != "classes.txt")


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


def _read_keypoints(file: Path, content: dict) -> int | None:
    """Return how many numbers of keypoints a row has by `kpt_shape`, None where data.yaml does not give it."""
    shape = content.get("kpt_shape")
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


def _load_darknet(file: Path, finder: PathFinder) -> dict:
    """Return what `obj.data` says, as the mapping that a `data.yaml` would hold."""
    rows = (line.partition("=") for line in read_lines(file, MAX_YAML_BYTES) if "=" in line)
    content: dict[str, Any] = {key.strip().lower(): value.strip() for key, _, value in rows}
    names = finder.find(content.pop("names", "obj.names"), (file.parent,), source=file)
    if names is None or not names.path.is_file():
        raise InputError(f"{file}: expected the file that lists the class names, found none. Add obj.names beside it.")
    lines = [line.strip() for line in read_lines(names.path, MAX_YAML_BYTES)]
    return {**content, "names": [line for line in lines if line]}


def _locate(finder: PathFinder, key: str, text: str, file: Path, content: dict) -> Path:
    """Return the folder or list that an entry means, inside the data set unless there is only another.

    Raises:
        InputError: there is none, or it lies outside the data set.
    """
    root = content.get("path")
    root = root if isinstance(root, str) else ""
    found = finder.find(text, (file.parent, file.parent / root), source=file)
    if found is None and root:
        found = finder.find(f"{root}/{text}", (file.parent,), source=file)
    if found is None:
        raise InputError(
            f"{file}: {key}: {to_line(text):.300} is not there. Correct the path in {file.name}, or add the images."
        )
    return found.path
