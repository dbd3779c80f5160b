"""From a folder to an index: tell the format, read the annotations, part the splits, check every image."""

import hashlib
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
from kyolo.data.report import DataReport
from kyolo.data.sharded_index import Index, ShardedIndex
from kyolo.errors import InputError, to_line

OTHER_LAYOUTS = {"coco": other_layouts.find_coco, "yolo": other_layouts.find_yolo}
READERS = dict(zip(FORMATS, (coco, yolo, voc, tfrecord), strict=True))


def load_index(
    path: str | os.PathLike, split: str, options: ReadOptions | None = None, *, store: ImageStore | None = None
) -> Index:
    """Reads a split of a data set and decodes every image of it once, so that nothing breaks later.

    The format is told by the files that are there, COCO json before YOLO before Pascal VOC before TFRecords;
    `kyolo.data.coco`, `.yolo`, `.voc` and `.tfrecord` say what each reader takes. What cannot be used is skipped and
    named in `index.problems`. The images stand in the order of their names, whatever the format, so that the same
    images train alike. TFRecords were checked when they were written, and stay where they are: their files' sizes and
    first images are looked at, and what is streamed later is checked then.

    Args:
        path: folder of the data set.
        split: "train", "val", "test", or "dev", the part that `options.dev_fraction` cuts out of train.
        options: how it is read.
        store: keeps the images that the check decodes, so that training does not decode them again.

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
    source, wanted = _choose(folder, split, splits, options)
    index = read_split(folder, splits[source], options, wanted)
    if isinstance(index, ShardedIndex):
        return index
    try:
        if store is not None:
            store.plan({record.path: (record.height, record.width) for record in index.records})
        records, image_problems = _check_images(index.records, store)
    except (MemoryError, tf.errors.ResourceExhaustedError) as error:
        raise InputError(f"{path}, split {split!r}: {OUT_OF_MEMORY}") from error
    report = _describe(index, records, {**index.problems.problems, **image_problems})
    if options.strict and report.num_problems:
        counts = ", ".join(f"{len(names)} x {kind}" for kind, names in report.problems.items())
        kind, names = next(iter(report.problems.items()))
        raise InputError(
            f"{path}, split {split!r}: expected no problem under strict, received {kind}: {names[0]} "
            f"({counts} in all); repair the files, or go without strict to skip them"
        )
    if not records:
        first = next(iter(report.problems.items()), None)
        raise InputError(
            f"{path}, split {split!r}: expected at least one usable image, found none among {len(index.records)}"
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


def _choose(folder: Path, split: str, splits: dict, options: ReadOptions) -> tuple[str, Callable[[str], bool] | None]:
    """The split in the files that a split is taken from, and which of its images belong to it.

    An image's name is hashed to a number in 0..1. What lies below `val_fraction` is val, where the set has none of its
    own; the next `dev_fraction` is dev; the rest is train.
    """
    if options.val_fraction and "val" in splits and not isinstance(splits["val"], MissingSplit):
        raise InputError(f"{folder} has a val split: expected no val_fraction, received {options.val_fraction}")
    source = "train" if split == "dev" or (split == "val" and options.val_fraction) else split
    if source not in splits:
        hint = "Pass --val-fraction 0.2 to cut it off train." if split == "val" else "Choose one of them."
        raise InputError(f"{folder}: expected the split {split!r}, found {', '.join(splits)}. {hint}")
    if isinstance(splits[source], MissingSplit):
        raise InputError(splits[source].message)
    if source != "train" or not options.val_fraction + options.dev_fraction:
        return source, None
    ends = {"val": options.val_fraction, "dev": options.val_fraction + options.dev_fraction, "train": 1.0}
    starts = {"val": 0.0, "dev": options.val_fraction, "train": ends["dev"]}
    if ends["dev"] >= 1:
        raise InputError(f"expected val_fraction + dev_fraction below 1, received {ends['dev']}: train would be empty")
    return source, lambda name: starts[split] <= _hash(name) < ends[split]


def _hash(name: str) -> float:
    """A number in 0..1 that depends on the name of the file alone, whatever folder it lies in.

    The key makes it another hash than those by which data sets are chosen, as by the smallest sha1 of the names: a part
    by the same hash would be all of such a set, or nothing.
    """
    name = name.rsplit("/", 1)[-1].encode(errors="replace")
    return int.from_bytes(hashlib.blake2b(name, digest_size=6, key=b"kyolo split").digest(), "big") / 2**48


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
        boxes_per_class={name: counts[label] for label, name in enumerate(index.class_names)},
        problems=problems,
    )
