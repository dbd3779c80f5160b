"""Reader of TFRecords: a set in a few large files, read from front to back, for what fills no memory."""

import re
import reprlib
from collections.abc import Callable
from pathlib import Path

from kyolo.data.layout import SPLITS, ReadOptions, check_class_names
from kyolo.data.report import DataReport
from kyolo.data.sharded_index import INDEX_FILE, Shard, ShardedIndex
from kyolo.data.sources import read_json
from kyolo.data.values import is_id
from kyolo.errors import InputError

LAYOUT = "tfrecord.json (TFRecords)"
VERSION = 1
COUNTS = ("images", "crowds", "most_boxes")  # of a split, in the index file


def find_splits(folder: Path, options: ReadOptions) -> dict[str, ShardedIndex]:  # noqa: ARG001 (as every reader has it)
    """The splits that the index file names, by name."""
    file = folder / INDEX_FILE
    if not file.is_file():
        return {}
    content = read_json(file)
    if not isinstance(content, dict) or content.get("version") != VERSION:
        received = content.get("version") if isinstance(content, dict) else content
        raise InputError(
            f"{file}: expected an index of version {VERSION}, received {reprlib.repr(received)}; convert the set anew"
        )
    category_ids, class_names = _read_categories(file, content.get("categories"))
    splits = content.get("splits")
    if not isinstance(splits, dict) or not splits or not splits.keys() <= SPLITS.keys():
        expected = ", ".join(SPLITS)
        raise InputError(f"{file}: expected splits out of {expected}, received {reprlib.repr(splits)}")
    return {
        split: _read_index(file, split, splits[split], class_names, category_ids) for split in SPLITS if split in splits
    }


def read_split(
    folder: Path,
    files: ShardedIndex,
    options: ReadOptions,
    wanted: Callable[[str], bool] | None = None,
) -> ShardedIndex:
    """Checks the files of a split: all are there and whole by their size, and the first image of each decodes.

    Args:
        folder: the data set.
        files: of the split, not checked yet.
        options: fractions are refused, see `wanted`.
        wanted: a part of the split cannot be told without reading all of it.

    Raises:
        InputError: a file is missing, cut off or damaged, or a part of the split is asked for.
    """
    if wanted is not None:
        received = f"val_fraction {options.val_fraction} and dev_fraction {options.dev_fraction}"
        raise InputError(
            f"{folder}: expected no fraction of TFRecords, received {received}; cut val off when converting: "
            f"kyolo convert SOURCE --to tfrecord --val-fraction 0.2 ..."
        )
    files.check()
    return files


def shard_name(split: str, number: int, count: int) -> str:
    """The name of a file: "train-00000-of-00016.tfrecord"."""
    return f"{split}-{number:05d}-of-{count:05d}.tfrecord"


def _read_categories(file: Path, categories: object) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """Ids and names of the classes."""
    if not isinstance(categories, list) or not categories or not all(map(_is_category, categories)):
        raise InputError(f"{file}: expected categories with an id and a name, received {reprlib.repr(categories)}")
    ids = tuple(category["id"] for category in categories)
    if len(set(ids)) < len(ids):
        raise InputError(f"{file}: expected categories with different ids, received {reprlib.repr(ids)}")
    return ids, check_class_names((category["name"] for category in categories), source=file)


def _is_category(category: object) -> bool:
    return isinstance(category, dict) and is_id(category.get("id")) and isinstance(category.get("name"), str)


def _read_index(
    file: Path, split: str, entry: object, class_names: tuple[str, ...], category_ids: tuple[int, ...]
) -> ShardedIndex:
    """The index of a split from its entry in the index file."""
    numbers = entry if isinstance(entry, dict) else {}
    boxes, shards = numbers.get("boxes_per_class"), numbers.get("shards")
    pairs = shards if isinstance(shards, list) and all(isinstance(pair, list) for pair in shards) else []
    sound = (
        all(_is_count(numbers.get(name)) for name in COUNTS)
        and isinstance(boxes, list)
        and len(boxes) == len(class_names)
        and all(map(_is_count, boxes))
        and bool(pairs)
        and all(len(pair) == 2 and all(_is_count(number) and number > 0 for number in pair) for pair in pairs)
        and sum(pair[0] for pair in pairs) == numbers["images"]
        and isinstance(numbers.get("sha1"), str)
        and re.fullmatch("[0-9a-f]{40}", numbers["sha1"]) is not None
    )
    if not sound or boxes is None:
        raise InputError(
            f"{file}: expected of split {split!r} the counts {', '.join(COUNTS)} and boxes_per_class, a sha1, and "
            f"shards that hold all images, as [images, bytes] each, received {reprlib.repr(entry)}; convert anew"
        )
    names = (str(file.parent / shard_name(split, number, len(pairs))) for number in range(len(pairs)))
    return ShardedIndex(
        tuple(Shard(name, *pair) for name, pair in zip(names, pairs, strict=True)),
        class_names,
        category_ids,
        DataReport(
            images=numbers["images"],
            boxes=sum(boxes),
            crowds=numbers["crowds"],
            boxes_per_class=dict(zip(class_names, boxes, strict=True)),
        ),
        numbers["most_boxes"],
        numbers["sha1"],
    )


def _is_count(value: object) -> bool:
    return is_id(value) and value >= 0
