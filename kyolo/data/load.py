"""From a folder to an index: tell the format, read the annotations, part the splits, check every image."""

import hashlib
import os
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from tqdm import tqdm

from kyolo.data import coco, tfrecord, voc, yolo
from kyolo.data.images import ImageStore, read_image
from kyolo.data.index import DatasetIndex, ImageRecord
from kyolo.data.layout import SPLITS, ReadOptions
from kyolo.data.report import DataReport
from kyolo.data.sharded_index import Index, ShardedIndex
from kyolo.errors import InputError, to_line

MIN_SIDE = 16  # Pixels. In smaller images all objects may be within the first pixel.
# By format, in the order in which they are looked for.
READERS = {"coco": coco, "yolo": yolo, "voc": voc, "tfrecord": tfrecord}


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
    folder = Path(path)
    read_split, splits = find_splits(folder, options)
    source, wanted = _choose(folder, split, splits, options)
    index = read_split(folder, splits[source], options, wanted)
    if isinstance(index, ShardedIndex):
        return index
    records, unusable = _check_images(index.records, store)
    report = _describe(index, records, unusable)
    if options.strict and report.num_problems:
        counts = ", ".join(f"{len(names)} x {kind}" for kind, names in report.problems.items())
        kind, names = next(iter(report.problems.items()))
        raise InputError(
            f"{path}, split {split!r}: expected no problem under strict, received {kind}: {names[0]} "
            f"({counts} in all); repair the files, or go without strict to skip them"
        )
    if not records:
        kind, names = next(iter(report.problems.items()), ("no image found", ("",)))
        raise InputError(
            f"{path}, split {split!r}: expected at least one usable image, got none. First problem: {kind}: "
            f"{names[0]}. Repair the images or the annotations."
        )
    report.check_boxes(f"{path}, split {split!r}")
    _check_units(records, f"{path}, split {split!r}")
    return replace(index, records=records, problems=report)


def find_splits(folder: Path, options: ReadOptions) -> tuple[Callable[..., Index], dict]:
    """The reader of a data set's format, and what it reads of each split: `reader(folder, splits["train"], options)`.

    Raises:
        InputError: there is no such folder, or nothing in it that a reader knows.
    """
    if not folder.is_dir():
        received = "a file" if folder.exists() else "a path where there is nothing"
        raise InputError(f"No data set at {folder}: expected a folder, received {received}")
    readers = READERS if options.format is None else {options.format: READERS[options.format]}
    for reader in readers.values():
        splits = reader.find_splits(folder, options)
        if splits:
            return reader.read_split, splits
    found = ", ".join(sorted(to_line(path.name) for path in folder.iterdir())[:8]) or "nothing"
    layouts = "; or ".join(reader.LAYOUT for reader in readers.values())
    raise InputError(f"No data set in {folder}: expected {layouts}; found {found}")


def _choose(folder: Path, split: str, splits: dict, options: ReadOptions) -> tuple[str, Callable[[str], bool] | None]:
    """The split in the files that a split is taken from, and which of its images belong to it.

    An image's name is hashed to a number in 0..1. What lies below `val_fraction` is val, where the set has none of its
    own; the next `dev_fraction` is dev; the rest is train.
    """
    if options.val_fraction and "val" in splits:
        raise InputError(f"{folder} has a val split: expected no val_fraction, received {options.val_fraction}")
    source = "train" if split == "dev" or (split == "val" and options.val_fraction) else split
    if source not in splits:
        hint = "; cut one off by --val-fraction 0.2" if split == "val" else ""
        raise InputError(f"No split {split!r} in {folder}: found {', '.join(splits)}{hint}")
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
        return "corrupt image", name
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
