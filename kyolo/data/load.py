"""From a folder to an index: tell the format, read the annotations, part the splits, check every image."""

import os
import sys
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import tensorflow as tf
from tqdm import tqdm

from kyolo.data import coco, other_layouts, tfrecord, voc, yolo
from kyolo.data.images import OTHER_FORMAT, OTHER_SUFFIXES, OUT_OF_MEMORY, ImageStore, read_image
from kyolo.data.index import DatasetIndex, ImageRecord
from kyolo.data.layout import FORMATS, SPLITS, MissingSplit, ReadOptions
from kyolo.data.nearest_layout import describe_no_folder, describe_no_set
from kyolo.data.parts import Part
from kyolo.data.report import DataReport
from kyolo.data.sharded_index import Index, ShardedIndex
from kyolo.errors import InputError, to_line

OTHER_LAYOUTS = {"coco": other_layouts.find_coco, "yolo": other_layouts.find_yolo}
ROUNDING = 0.01  # pixels
READERS = dict(zip(FORMATS, (coco, yolo, voc, tfrecord), strict=True))


def load_index(
    path: str | os.PathLike,
    split: str,
    options: ReadOptions | None = None,
    *,
    store: ImageStore | None = None,
    check_images: bool = True,
) -> Index:
    """Reads a split of a data set and decodes every image of it once, so that nothing breaks later.

    The format is told by the files that are there, COCO json before YOLO before Pascal VOC before TFRecords;
    `kyolo.data.coco`, `.yolo`, `.voc` and `.tfrecord` say what each reader takes. What cannot be used is skipped and
    named in `index.problems`. The images stand in the order of their names, whatever the format, so that the same
    images train alike. TFRecords were checked when they were written, and stay where they are: their files' sizes and
    first images are looked at, and what is streamed later is checked then.

    Args:
        path: folder of the data set, or the YAML file of a YOLO set.
        split: "train", "val", "test", or "dev", the part that `options.dev_fraction` cuts out of train.
        options: how it is read.
        store: keeps the images that the check decodes, so that training does not decode them again.
        check_images: False leaves the image files alone, for those who need a few of them only; `check_index` checks
            them later.

    Raises:
        InputError: nothing there to read, no image left, or with `options.strict` any problem.

    Example:
        ```python
        index = load_index("path/to/set", "train", ReadOptions(val_fraction=0.2))
        print(index.problems.table())
        ```
    """
    options = options or ReadOptions()
    if split not in ("dev", *SPLITS):
        raise InputError(f'Unknown split: expected "train", "val", "test" or "dev", received {split!r}')
    if split == "dev" and not options.dev_fraction:
        raise InputError('Split "dev" is empty: expected dev_fraction above 0, received 0; set data.dev_fraction')
    read_split, splits = find_splits(Path(path), options)
    folder = set_folder(path)
    source, part = _choose(folder, split, splits, options)
    index = read_split(folder, splits[source], options, part)
    if part is not None and part.settle():
        index = read_split(folder, splits[source], options, part)
    if isinstance(index, ShardedIndex):
        return index
    name = f"{path}, split {split!r}"
    if check_images:
        return check_index(index, name, strict=options.strict, store=store)
    return _with_report(index, index.records, dict(index.problems.problems), name, strict=options.strict)


def check_index(index: Index, name: str, *, strict: bool = False, store: ImageStore | None = None) -> Index:
    """Decode every image of an index that was loaded without check, and return the index of the usable ones.

    Args:
        index: from `load_index(..., check_images=False)`. TFRecords are returned as they are.
        name: of the split, for errors.
        strict: raise where something would be skipped.
        store: keeps the decoded images.

    Raises:
        InputError: no image is left, memory ran out, or with `strict` any problem.
    """
    if isinstance(index, ShardedIndex):
        return index
    try:
        if store is not None:
            store.plan(index.image_sizes())
        records, image_problems = _check_images(index.records, store)
    except (MemoryError, tf.errors.ResourceExhaustedError) as error:
        raise InputError(f"{name}: {OUT_OF_MEMORY}") from error
    return _with_report(index, records, {**index.problems.problems, **image_problems}, name, strict=strict)


def _with_report(
    index: DatasetIndex, records: tuple[ImageRecord, ...], problems: dict, name: str, *, strict: bool
) -> DatasetIndex:
    """Return the index with the records that are used, and the report of what is not."""
    report = _describe(index, records, problems)
    if strict and report.num_problems:
        counts = ", ".join(f"{len(names)} x {kind}" for kind, names in report.problems.items())
        kind, names = next(iter(report.problems.items()))
        raise InputError(
            f"{name}: expected no problem under strict, received {kind}: {names[0]} ({counts} in all); repair the "
            f"files, or go without strict to skip them"
        )
    if not records:
        first = next(iter(report.problems.items()), None)
        raise InputError(
            f"{name}: expected at least one usable image, found none among {len(index.records)}"
            + (f"; first problem: {first[0]}: {first[1][0]}" if first else "")
        )
    return replace(index, records=records, problems=report)


def find_splits(folder: Path, options: ReadOptions) -> tuple[Callable[..., Index], dict]:
    """The reader of a data set's format, and what it reads of each split: `reader(folder, splits["train"], options)`.

    Raises:
        InputError: there is no such folder, or nothing in it that a reader knows.
    """
    if _is_yaml(folder) and options.format in (None, "yolo"):
        return yolo.read_split, yolo.find_splits_of(folder, options)
    if not folder.is_dir():
        raise InputError(describe_no_folder(folder))
    formats = FORMATS if options.format is None else (options.format,)
    ways = [(name, READERS[name].find_splits) for name in formats]
    ways += [(name, OTHER_LAYOUTS[name]) for name in formats if name in OTHER_LAYOUTS]
    for name, find in ways:
        splits = find(folder, options)
        if splits:
            return READERS[name].read_split, splits
    raise InputError(describe_no_set(folder, [READERS[name].LAYOUT for name in formats]))


def list_splits(folder: Path, options: ReadOptions) -> list[str]:
    """Return the splits of a data set that can be read; a test split that is named and not there is told on stderr.

    Raises:
        InputError: see `find_splits`; or train or val is named and not there.
    """
    names = []
    for split, files in find_splits(folder, options)[1].items():
        if not isinstance(files, MissingSplit):
            names.append(split)
        elif split == "test":
            tqdm.write(f"left out: {files.message}", file=sys.stderr)
        elif split == "train" or not options.val_fraction:
            raise InputError(files.message)
    return [*names, *["val"] * bool(options.val_fraction)]


def set_folder(path: str | os.PathLike) -> Path:
    """Return the folder of a data set that is given as a folder or as its YAML file."""
    path = Path(path)
    return path.parent if _is_yaml(path) else path


def _is_yaml(path: Path) -> bool:
    return path.suffix.lower() in (".yaml", ".yml") and path.is_file()


def _choose(folder: Path, split: str, splits: dict, options: ReadOptions) -> tuple[str, Part | None]:
    """Return the split in the files that a split is taken from, and which of its images belong to it (None: all)."""
    if options.val_fraction and "val" in splits and not isinstance(splits["val"], MissingSplit):
        raise InputError(f"{folder} has a val split: expected no val_fraction, received {options.val_fraction}")
    source = "train" if split == "dev" or (split == "val" and options.val_fraction) else split
    if source not in splits:
        hint = "Pass --val-fraction 0.2 to cut it off train." if split == "val" else "Choose one of them."
        raise InputError(f"{folder}: expected the split {split!r}, found {', '.join(splits)}. {hint}")
    if isinstance(splits[source], MissingSplit):
        raise InputError(splits[source].message)
    parted = source == "train" and options.val_fraction + options.dev_fraction > 0
    return source, Part(split, options) if parted else None


def _check_images(
    records: tuple[ImageRecord, ...], store: ImageStore | None
) -> tuple[tuple[ImageRecord, ...], dict[str, tuple[str, ...]]]:
    """Decodes all images in threads (decoding does not hold Python's lock); the usable records, and the problems."""
    good, problems = [], {}
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        checks = pool.map(lambda record: _check_image(record, store), records)
        bar = tqdm(records, "Checking images", delay=2.0, unit="image", disable=None)
        for record, problem in zip(bar, checks, strict=True):
            if problem is None:
                good.append(record)
            else:
                problems.setdefault(problem[0], []).append(problem[1])
    return tuple(good), {kind: tuple(names) for kind, names in problems.items()}


def _check_image(record: ImageRecord, store: ImageStore | None) -> tuple[str, str] | None:
    """The problem of an image file, (kind, name), or None. A good image goes into the store."""
    name = to_line(os.path.basename(record.path))
    if not os.path.isfile(record.path):
        return "missing image", name
    try:
        image = read_image(record.path)
    except InputError:
        return OTHER_FORMAT if name.lower().endswith(OTHER_SUFFIXES) else "corrupt image", name
    height, width = image.shape[:2]
    if (height, width) != (record.height, record.width):
        return (
            "image size differs from the annotations",
            f"{name} ({width}x{height}, not {record.width}x{record.height})",
        )
    if store is not None:
        store.put(record.path, image)
    return None


def _describe(index: DatasetIndex, records: tuple[ImageRecord, ...], problems: dict) -> DataReport:
    """The report of what is used and what is not."""
    counts = Counter(int(label) for record in records for label in record.labels)
    return DataReport(
        images=len(records),
        boxes=int(np.sum([len(record.labels) for record in records])),
        crowds=sum(bool(annotation["iscrowd"]) for annotation in index.truth["annotations"]),
        clipped=_count_clipped(index, records),
        boxes_per_class={name: counts[label] for label, name in enumerate(index.class_names)},
        problems=problems,
    )


def _count_clipped(index: DatasetIndex, records: tuple[ImageRecord, ...]) -> int:
    """Return the number of boxes of the records that stick out of their image by more than the rounding of a format."""
    sizes = {record.image_id: (record.width, record.height) for record in records}
    count = 0
    for annotation in index.truth["annotations"]:
        size = sizes.get(annotation["image_id"])
        if size is not None and not annotation["iscrowd"]:
            (x, y, width, height), (right, bottom) = annotation["bbox"], size
            used = width > 0 and height > 0 and x < right and y < bottom and x + width > 0 and y + height > 0
            beyond = max(-x, -y, x + width - right, y + height - bottom)
            count += used and beyond > ROUNDING
    return count
