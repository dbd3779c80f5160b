"""Boxes in the files = boxes used + crowds + boxes reported, for every reader and writer; labels keep their names."""

import json
import pathlib
import re
import tempfile
from collections import Counter

import hypothesis.strategies as st
import pytest
from absl.testing import absltest, parameterized

from kyolo.data import ShardedIndex, convert, load_index
from tests.data import mutations, worlds

FORMATS = ("coco", "yolo", "voc", "tfrecord")
SPLITS = ("train", "val")
SPELLINGS = (int, float, str, "{}.0".format)


def stem(name):
    """The part of an image's name that every format keeps."""
    return name.split("/")[-1].removeprefix("_").split(".")[0]


def contents(index):
    """Of an index by image: how often each (class, box) is there, and the number of crowds."""
    index = index.load() if isinstance(index, ShardedIndex) else index
    names = {image["id"]: stem(image["file_name"]) for image in index.truth["images"]}
    crowds = Counter(entry["image_id"] for entry in index.truth["annotations"] if entry["iscrowd"])
    return {
        names[record.image_id]: (
            Counter(
                (index.class_names[label], tuple(box.round(3).tolist()))
                for label, box in zip(record.labels, record.boxes, strict=True)
            ),
            crowds[record.image_id],
        )
        for record in index.records
    }


def boxes_in_files(folder, split, name):
    """Counts the boxes of a split without kyolo's readers."""
    if name == "coco":
        return len(json.loads((folder / f"annotations/instances_{split}.json").read_text())["annotations"])
    if name == "yolo":
        return sum(len(file.read_text().splitlines()) for file in (folder / f"labels/{split}").rglob("*.txt"))
    return sum(len(re.findall("<object>", file.read_text())) for file in (folder / split).rglob("*.xml"))


class QuickConservationTest(parameterized.TestCase):
    """A few examples of every format."""

    examples = 3

    def check_report(self, report, num_boxes):
        document = report.to_dict()
        reported = sum(found["boxes"] for found in document["problems"].values())
        self.assertEqual(document["boxes"] + document["crowds"] + reported, num_boxes, report.table())
        self.assertEqual(document["boxes_in_files"], num_boxes)
        self.assertEqual(document["boxes"], sum(document["boxes_per_class"].values()))

    def check_copy(self, expected, folder, name, reports):
        """The set in `folder` holds what was read from its source, and its files hold no other box."""
        for split in SPLITS:
            index = load_index(folder, split)
            without_crowds = {image: (boxes, 0) for image, (boxes, _) in expected[split].items()}
            self.assertEqual(contents(index), without_crowds if name == "yolo" else expected[split])
            self.assertEqual(index.problems.boxes, reports[split].boxes)
            self.assertEqual(index.problems.crowds, reports[split].crowds)
            if name != "tfrecord":
                self.check_report(index.problems, boxes_in_files(folder, split, name))

    def check(self, folder, expected, counts, to, then):
        """Reads a set, converts it to one format, and from there to another."""
        for split in SPLITS:
            index = load_index(folder, split)
            self.assertEqual(contents(index), expected[split])
            self.check_report(index.problems, counts[split])
        first, second = folder.parent / "first", folder.parent / "second"
        reports = convert(folder, first, to)
        for split in SPLITS:
            self.check_report(reports[split], counts[split])
        self.check_copy(expected, first, to, reports)
        reports = convert(first, second, then)
        without_crowds = {
            split: {image: (boxes, 0) for image, (boxes, _) in found.items()} for split, found in expected.items()
        }
        self.check_copy(without_crowds if to == "yolo" else expected, second, then, reports)

    def run_examples(self, write, *, yolo=False):
        """Draws sets, writes them by `write(folder, split, pictures, names, number)`, and checks them."""

        def check(drawn, names, to, then, number):
            with tempfile.TemporaryDirectory() as place:
                folder = pathlib.Path(place) / "set"
                folder.mkdir()
                counts, expected = {}, {}
                for split, pictures in zip(SPLITS, drawn, strict=True):
                    counts[split] = write(folder, split, pictures, names[split], number)
                    found = {stem(picture.name): picture.expected(yolo=yolo) for picture in pictures}
                    expected[split] = {name: used for name, used in found.items() if used is not None}
                self.check(folder, expected, counts, to, then)

        orders = st.permutations(worlds.NAMES)
        names = st.fixed_dictionaries({"train": orders, "val": orders})
        drawn = st.tuples(worlds.pictures(), worlds.pictures())
        formats = st.sampled_from(FORMATS)
        strategies = (drawn, names, formats, formats, st.integers(0, 3))
        mutations.run(check, *strategies, examples=self.examples, shrink=False)

    def test_coco(self):
        def write(folder, split, pictures, names, number):
            return worlds.write_coco(folder, split, pictures, SPELLINGS[number], names)

        self.run_examples(write)

    def test_yolo(self):
        def write(folder, split, pictures, names, number):  # noqa: ARG001
            return worlds.write_yolo(folder, split, pictures, worlds.NAMES)

        self.run_examples(write, yolo=True)

    def test_voc(self):
        def write(folder, split, pictures, names, number):  # noqa: ARG001
            return worlds.write_voc(folder, split, pictures, worlds.NAMES)

        self.run_examples(write)


@pytest.mark.slow
class ConservationTest(QuickConservationTest):
    """Many examples of every format."""

    examples = 30


if __name__ == "__main__":
    absltest.main()
