"""From a folder to an index: tell the format, read the annotations, part the splits, check every image."""

import os
import sys
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import tensorflow as tf
from tqdm import tqdm

from kyolo.data import coco, other_layouts, tfrecord, voc, yolo
from kyolo.data.images import OTHER_FORMAT, OTHER_SUFFIXES, OUT_OF_MEMORY, ImageStore, read_image
from kyolo.data.index import DatasetIndex, ImageRecord
from kyolo.data.layout import SPLITS, MissingSplit, ReadOptions
from kyolo.data.nearest_layout import describe_no_folder, describe_no_set
from kyolo.data.parts import Part
from kyolo.data.report import DataReport
from kyolo.data.sharded_index import Index, ShardedIndex
from kyolo.errors import InputError, to_line

MIN_SIDE = 16  # Pixels. In smaller images all objects may be within the first pixel.
# By format, in the order in which they are looked for.
READERS = {"coco": coco, "yolo": yolo, "voc": voc, "tfrecord": tfrecord}
OTHER_LAYOUTS = {"coco": other_layouts.find_coco, "yolo": other_layouts.find_yolo}


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
        InputError: nothing there to read, no image left, annotations of which no box is left to train on, or with
            `options.strict` any problem.

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
    return _with_report(index, index.records, [], name, strict=options.strict)


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
        records, unusable = _check_images(index.records, store)
    except (MemoryError, tf.errors.ResourceExhaustedError) as error:
        raise InputError(f"{name}: {OUT_OF_MEMORY}") from error
    return _with_report(index, records, unusable, name, strict=strict)


def _with_report(
    index: DatasetIndex,
    records: tuple[ImageRecord, ...],
    unusable: list[tuple[ImageRecord, str, str]],
    name: str,
    *,
    strict: bool,
) -> DatasetIndex:
    """Return the index with the records that are used, and the report of what is not."""
    report = _describe(index, records, unusable)
    if strict and report.num_problems:
        counts = ", ".join(f"{len(names)} x {kind}" for kind, names in report.problems.items())
        kind, names = next(iter(report.problems.items()))
        raise InputError(
            f"{name}: expected no problem under strict, received {kind}: {names[0]} ({counts} in all); repair the "
            f"files, or go without strict to skip them"
        )
    if not records:
        kind, names = next(iter(report.problems.items()), ("no image found", ("",)))
        raise InputError(
            f"{name}: expected at least one usable image, got none. First problem: {kind}: {names[0]}. Repair the "
            f"images or the annotations."
        )
    report.check_boxes(name)
    _check_units(records, name)
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
    formats = tuple(READERS) if options.format is None else (options.format,)
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


def _check_units(records: tuple[ImageRecord, ...], source: str) -> None:
    """Refuse boxes that are fractions where pixels are expected: they would all be within the first pixel."""
    boxes = [record.boxes.max() for record in records if len(record.boxes)]
    if boxes and max(boxes) <= 1 and all(min(record.height, record.width) >= MIN_SIDE for record in records):
        raise InputError(
            f"{source}: expected boxes in pixels, got numbers in 0..1 only. Multiply x and width by the width of the "
            f"image, y and height by its height."
        )


def _check_images(
    records: tuple[ImageRecord, ...], store: ImageStore | None
) -> tuple[tuple[ImageRecord, ...], list[tuple[ImageRecord, str, str]]]:
    """Decode all images in threads (decoding does not hold Python's lock).

    Returns:
        The usable records, and the others with kind and name of their problem.
    """
    good, bad = [], []
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        checks = pool.map(lambda record: _check_image(record, store), records)
        bar = tqdm(records, "Checking images", delay=2.0, unit="image", disable=None)
        for record, problem in zip(bar, checks, strict=True):
            if problem is None:
                good.append(record)
            else:
                bad.append((record, *problem))
    return tuple(good), bad


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


def _describe(
    index: DatasetIndex, records: tuple[ImageRecord, ...], unusable: list[tuple[ImageRecord, str, str]]
) -> DataReport:
    """Return the report of the reader with the counts, and with what the check of the images has found."""
    counts = Counter(int(label) for record in records for label in record.labels)
    crowds = Counter(annotation["image_id"] for annotation in index.truth["annotations"] if annotation["iscrowd"])
    problems = {kind: list(names) for kind, names in index.problems.problems.items()}
    boxes_skipped = Counter(index.problems.boxes_skipped)
    for record, kind, name in unusable:
        problems.setdefault(kind, []).append(name)
        boxes_skipped[kind] += len(record.labels) + crowds[record.image_id]
    return replace(
        index.problems,
        images=len(records),
        boxes=sum(len(record.labels) for record in records),
        crowds=sum(crowds[record.image_id] for record in records),
        boxes_per_class={name: counts[label] for label, name in enumerate(index.class_names)},
        problems={kind: tuple(names) for kind, names in problems.items()},
        boxes_skipped=dict(+boxes_skipped),
    )
