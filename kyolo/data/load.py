"""From a folder to an index: read the annotations, cut off a dev part, check every image."""

import hashlib
import os
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
from tqdm import tqdm

from kyolo.data.coco import read_coco
from kyolo.data.images import ImageStore, read_image
from kyolo.data.index import DatasetIndex, ImageRecord
from kyolo.data.report import DataReport
from kyolo.errors import InputError


def load_index(
    path: str | os.PathLike,
    split: str,
    *,
    strict: bool = False,
    dev_fraction: float = 0.0,
    store: ImageStore | None = None,
) -> DatasetIndex:
    """Reads a split of a data set and decodes every image of it once, so that nothing breaks later.

    What cannot be used is skipped and named in `index.problems`.

    Args:
        path: folder in COCO layout: SET/{train,val}/*.jpg with SET/annotations/instances_{train,val}.json.
        split: "train", "val", or "dev", the part that `dev_fraction` cuts out of train.
        strict: raise instead of skipping.
        dev_fraction: share of the train images, 0..1, that goes to "dev" and not to "train". An image's side depends
            on its file name only (sha1), so it stays there when images are added.
        store: keeps the images that the check decodes, so that training does not decode them again.

    Raises:
        InputError: nothing there to read, no image left, or with `strict` any problem.

    Example:
        ```python
        index = load_index("path/to/set", "train")
        print(index.problems.table())
        ```
    """
    if split not in ("train", "val", "dev"):
        raise InputError(f'Unknown split: expected "train", "val" or "dev", received {split!r}')
    if split == "dev" and not dev_fraction:
        raise InputError('Split "dev" is empty: expected dev_fraction above 0, received 0; set data.dev_fraction')
    file_split = "train" if split == "dev" else split
    fraction = 0.0 if split == "val" else dev_fraction
    index = read_coco(Path(path), file_split, wanted=lambda name: _in_dev(name, fraction) == (split == "dev"))
    records, image_problems = _check_images(index.records, store)
    report = _describe(index, records, {**index.problems.problems, **image_problems})
    if strict and report.num_problems:
        counts = ", ".join(f"{len(names)} x {kind}" for kind, names in report.problems.items())
        kind, names = next(iter(report.problems.items()))
        raise InputError(
            f"{path}, split {split!r}: expected no problem under strict, received {kind}: {names[0]} "
            f"({counts} in all); repair the files, or go without strict to skip them"
        )
    if not records:
        raise InputError(
            f"{path}, split {split!r}: expected at least one usable image, found none among {len(index.records)}"
            + (f"; first problem: {next(iter(report.problems))}" if report.problems else "")
        )
    return replace(index, records=records, problems=report)


def _in_dev(name: str, fraction: float) -> bool:
    """Whether an image belongs to the dev part: its name's hash, read as a number in 0..1, is below the fraction."""
    digest = hashlib.sha1(name.encode(), usedforsecurity=False).digest()
    return int.from_bytes(digest[:8], "big") < fraction * 2**64


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
    name = os.path.basename(record.path)
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
