"""The index of a split in TFRecords: counts in memory, images and boxes in files that are streamed."""

import functools
import hashlib
import itertools
import json
import math
import os
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import tensorflow as tf
from tqdm import tqdm

from kyolo.data.example import Example, parse_example
from kyolo.data.index import DatasetIndex, ImageRecord
from kyolo.data.report import DataReport
from kyolo.errors import InputError

INDEX_FILE = "tfrecord.json"
UNREADABLE = (tf.errors.DataLossError, tf.errors.NotFoundError)  # what reading a damaged or missing file raises


class Shard(NamedTuple):
    """One file of records.

    Attributes:
        path: the file.
        images: number of its records, one an image.
        num_bytes: its size.
    """

    path: str
    images: int
    num_bytes: int

    def record_name(self, number: int) -> str:
        """What an error calls a record, numbered from 0."""
        return f"{self.path}, record {number} of {self.images}"


@dataclass(frozen=True, eq=False)
class ShardedIndex:
    """A split in TFRecords. Only counts are in memory: images and boxes are in the files, and are streamed.

    Args:
        shards: the files.
        class_names: one name a class; the position is the label.
        category_ids: the ids of the classes in `truth`, in the order of `class_names`.
        problems: counts; what was skipped was so when the files were written.
        most_boxes: the most that an image has.
        sha1: of all records, in hexadecimal.
    """

    shards: tuple[Shard, ...]
    class_names: tuple[str, ...]
    category_ids: tuple[int, ...]
    problems: DataReport
    most_boxes: int
    sha1: str

    @property
    def num_images(self) -> int:
        """Number of images of the split."""
        return self.problems.images

    @functools.cached_property
    def truth(self) -> dict:
        """The split as COCO json, for the evaluation: names and boxes, streamed once and then kept."""
        return self.load().truth

    def fingerprint(self) -> str:
        """Tells whether two sets of TFRecords are alike: in everything, by the sum that was noted when writing them.

        The same records in other files are not: they are read in another order.
        """
        layout = json.dumps([self.sha1, [(shard.images, shard.num_bytes) for shard in self.shards]])
        digest = hashlib.sha1(layout.encode(), usedforsecurity=False).hexdigest()
        return f"{self.problems.images} images, {self.problems.boxes} boxes, {digest[:12]}"

    def names(self, ids: Collection[int]) -> dict[int, str]:
        """The file names of images by id; the records are read until all are found."""
        found = {}
        for example in self.examples():
            if example.image_id in ids:
                found[example.image_id] = os.path.basename(example.image["file_name"])
            if len(found) == len(set(ids)):
                break
        return found

    def load(self) -> DatasetIndex:
        """The split with all names and boxes in memory, by name; `path` of a record says where it was read from."""
        examples: dict[int, tuple[str, ImageRecord, dict, list[dict]]] = {}
        annotation_ids: set[int] = set()
        bar = tqdm(self.examples(), "Reading boxes", self.num_images, delay=2.0, unit="image", disable=None)
        for example in bar:
            annotations = example.annotations(self.category_ids)
            ids = {annotation["id"] for annotation in annotations}
            if example.image_id in examples or len(ids) < len(annotations) or not annotation_ids.isdisjoint(ids):
                raise InputError(f"{example.where}: expected ids of its own, received one twice; convert the set anew")
            annotation_ids |= ids
            name = example.image["file_name"]
            examples[example.image_id] = (name, example.record, example.image, annotations)
        columns = zip(*sorted(examples.values(), key=lambda entry: entry[0]), strict=True)
        _, records, images, grouped = columns
        truth = {
            "images": list(images),
            "annotations": list(itertools.chain.from_iterable(grouped)),
            "categories": [
                {"id": category_id, "name": name}
                for category_id, name in zip(self.category_ids, self.class_names, strict=True)
            ],
        }
        return DatasetIndex(records, self.class_names, self.category_ids, truth, self.problems)

    def examples(self) -> Iterator[Example]:
        """The records, in the order of the files.

        Raises:
            InputError: one is damaged or missing.
        """
        return itertools.starmap(self.parse, self.read(self.in_order()))

    def images(self, step: int = 1) -> Iterator[np.ndarray]:
        """The decoded images, (H, W, 3) uint8 RGB each, in the order of the files: the first of every `step`."""
        return (example.decode() for example in itertools.islice(self.examples(), 0, None, step))

    def image_sizes(self) -> dict[str, tuple[int, int]]:
        """Return nothing: images of TFRecords are not kept."""
        return {}

    def sample_images(
        self,
        count: int,
        skipped: list[str],  # noqa: ARG002 (a damaged record is an error)
        *,
        spread: bool = True,
    ) -> Iterator[np.ndarray]:
        """Yield at most `count` images, as `DatasetIndex.sample_images` does."""
        step = math.ceil(self.num_images / count) if spread else 1
        return itertools.islice(self.images(step), count)

    def check(self) -> None:
        """Looks at what can be told at once: the files' sizes, and the first image of each.

        Raises:
            InputError: a file is missing, cut off or damaged.
        """
        for shard in self.shards:
            _check_size(shard)
        firsts = tf.data.Dataset.range(len(self.shards)).flat_map(lambda shard: self.read_shard(shard).take(1))
        for record in self.read(firsts):
            self.parse(*record).decode()

    def find_damage(self) -> None:
        """Reads everything, to name the first record that is damaged; TensorFlow's own error names not even the file.

        Raises:
            InputError: there is one, or a file is missing or cut off.
        """
        for shard in tqdm(self.shards, "Looking for the damage", unit="file", delay=2.0, leave=False, disable=None):
            _check_size(shard)
            number = 0
            try:
                for _ in tf.data.TFRecordDataset(shard.path):
                    number += 1
            except tf.errors.DataLossError as error:
                raise InputError(
                    f"{shard.record_name(number)}: expected a whole record, received one that is damaged; fetch the "
                    f"file again or convert the set anew"
                ) from error

    def read(self, records: tf.data.Dataset) -> Iterator[tuple[int, int, bytes]]:
        """Goes through records of this split, as `read_shard` gives them.

        Raises:
            InputError: one is damaged, or a file is missing.
        """
        options = tf.data.Options()
        options.autotune.enabled = False  # There is nothing to tune, and the end would wait for the thread that does.
        try:
            yield from records.with_options(options).as_numpy_iterator()
        except UNREADABLE:
            self.find_damage()
            raise

    def parse(self, shard: int, number: int, serialized: bytes) -> Example:
        """A record's content.

        Args:
            shard: number of the file.
            number: of the record in the file.
            serialized: the record, as `read_shard` gives it.

        Raises:
            InputError: it is missing, or not as `kyolo convert` writes it.
        """
        return parse_example(serialized, self.shards[shard].record_name(number), len(self.class_names))

    def in_order(self) -> tf.data.Dataset:
        """All records as `read_shard` gives them, file by file."""
        return tf.data.Dataset.range(len(self.shards)).flat_map(self.read_shard).prefetch(1)

    @tf.autograph.experimental.do_not_convert
    def read_shard(self, shard: tf.Tensor) -> tf.data.Dataset:
        """The records of a file as (number of the file, number of the record, content).

        There are as many as the index file says; the first that is not there is empty, for `parse` to name it.
        """
        paths = tf.constant([shard.path for shard in self.shards])
        images = tf.constant([shard.images for shard in self.shards], tf.int64)
        contents = tf.data.TFRecordDataset(paths[shard]).concatenate(tf.data.Dataset.from_tensors(""))
        numbers = tf.data.Dataset.range(images[shard])
        return tf.data.Dataset.zip((tf.data.Dataset.from_tensors(shard).repeat(), numbers, contents))


def _check_size(shard: Shard) -> None:
    """Raises InputError where a file is missing, or not of the size that the index file says."""
    try:
        size = os.path.getsize(shard.path)
    except OSError as error:
        raise InputError(
            f"{shard.path}: expected a file of TFRecords, received {str(error.strerror).lower()}; fetch it again or "
            f"convert the set anew"
        ) from error
    if size != shard.num_bytes:
        raise InputError(
            f"{shard.path}: expected {shard.num_bytes:,} bytes as in {INDEX_FILE}, received {size:,}; fetch the file "
            f"again or convert the set anew"
        )


Index = DatasetIndex | ShardedIndex  # A split of a data set, in memory or in files.
