"""Writer of TFRecords: shards of a split, and the one index file of a set."""

import hashlib
import itertools
import json
import math
import os
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tensorflow as tf
from tqdm import tqdm

from kyolo.data.example import serialize_example
from kyolo.data.index import DatasetIndex
from kyolo.data.sharded_index import INDEX_FILE, Index, ShardedIndex
from kyolo.data.tfrecord import VERSION, shard_name

SHARD_BYTES = 128 * 2**20  # Large enough to be read at a disk's full speed, small enough that many can be read at once.


def write_shards(folder: Path, split: str, index: Index, shards: int | None) -> dict:
    """Writes the files of a split; returns what the index file says of it.

    The records of "train" are put into a random order, always the same: neighbours by name are often alike (frames of a
    video, classes by folder), and reading shuffles over a part of the records at a time only. Other splits keep theirs.

    Args:
        folder: of the new set.
        split: its name.
        index: what is written. Of TFRecords the order is kept: they are in a random one already.
        shards: number of files, at most one an image. None: as few as keep each below about 128 MB.
    """
    if isinstance(index, ShardedIndex):
        num_bytes, records = sum(shard.num_bytes for shard in index.shards), _copy(index)
    else:
        num_bytes = sum(os.path.getsize(record.path) for record in index.records)
        records = _serialize(index, shuffled=split == "train")
    count = min(shards or math.ceil(num_bytes / SHARD_BYTES), index.num_images)
    records = iter(tqdm(records, "Writing records", index.num_images, delay=2.0, unit="image", disable=None))
    written, digest = [], hashlib.sha1(usedforsecurity=False)
    for number in range(count):
        images = (number + 1) * index.num_images // count - number * index.num_images // count
        path = folder / shard_name(split, number, count)
        with tf.io.TFRecordWriter(str(path)) as writer:
            for record in itertools.islice(records, images):
                digest.update(record)
                writer.write(record)
        written.append([images, path.stat().st_size])
    report = index.problems
    return {
        "images": report.images,
        "crowds": report.crowds,
        "most_boxes": index.most_boxes,
        "boxes_per_class": [report.boxes_per_class[name] for name in index.class_names],
        "sha1": digest.hexdigest(),
        "shards": written,
    }


def write_index_file(folder: Path, index: Index, splits: dict[str, dict]) -> None:
    """Writes what stands once for all: the classes, as `index` has them, and what `write_shards` said of each split."""
    categories = [
        {"id": category_id, "name": name}
        for category_id, name in zip(index.category_ids, index.class_names, strict=True)
    ]
    content = {"version": VERSION, "categories": categories, "splits": splits}
    (folder / INDEX_FILE).write_text(json.dumps(content) + "\n", encoding="utf-8")


def _serialize(index: DatasetIndex, *, shuffled: bool) -> Iterator[bytes]:
    """The records of an index, the images read from their files."""
    images = {image["id"]: image for image in index.truth["images"]}
    annotations = defaultdict(list)
    for annotation in index.truth["annotations"]:
        annotations[annotation["image_id"]].append(annotation)
    labels = {category_id: label for label, category_id in enumerate(index.category_ids)}
    order = np.random.default_rng(0).permutation(len(index.records)) if shuffled else range(len(index.records))
    for number in order:
        record = index.records[number]
        image_id = record.image_id
        yield serialize_example(Path(record.path).read_bytes(), images[image_id], record, annotations[image_id], labels)


def _copy(index: ShardedIndex) -> Iterator[bytes]:
    """The records of a set of TFRecords, each looked at."""
    for record in index.read(index.in_order()):
        index.parse(*record)
        yield record[2]
