import json
import pathlib
import tempfile

import hypothesis
import hypothesis.strategies as st
import numpy as np
from absl.testing import absltest, parameterized

from kyolo.data import ReadOptions, convert, load_index
from kyolo.data.paths import PathFinder
from kyolo.errors import InputError
from tests.data import layouts
from tests.data.sets import annotation, write_images, write_set, write_voc, write_yolo
from tests.test_case import TestCase

ALIASES = {
    "train": ("train", "training", "train2017"),
    "val": ("val", "valid", "validation"),
    "test": ("test", "testing"),
}


class LayoutsTest(TestCase):
    def check(self, index, numbers):
        """The index holds what was drawn, whatever the layout: names, labels and boxes."""
        self.assertEqual(index.class_names, layouts.CLASSES)
        found = {pathlib.Path(record.path).stem: record for record in index.records}
        self.assertEqual(sorted(found), [f"{number:03}" for number in numbers], index.problems.table())
        for number in numbers:
            record = found[f"{number:03}"]
            boxes = {(label, x, y, x + w, y + h) for label, x, y, w, h in layouts.boxes_of(number)}
            read = np.concatenate([record.labels[:, None], record.boxes.round(4)], axis=1)
            self.assertEqual({tuple(row) for row in read.tolist()}, boxes)
        self.assertEmpty(index.problems.problems)

    @hypothesis.settings(max_examples=40, deadline=None)
    @hypothesis.given(
        layout=st.sampled_from(sorted(layouts.LAYOUTS)),
        style=st.sampled_from(sorted(layouts.STYLES)),
        spelling=st.sampled_from(sorted(layouts.SPELLINGS)),
        split=st.sampled_from(sorted(ALIASES)),
        alias=st.integers(0, 2),
        count=st.integers(1, 4),
    )
    def test_any_layout_is_read_alike(self, layout, style, spelling, split, alias, count):
        numbers = range(1, count + 1)
        names = ALIASES[split]
        if layout == "one json":
            split = "train"
        with tempfile.TemporaryDirectory() as folder:
            arguments = (pathlib.Path(folder), numbers, style, layouts.SPELLINGS[spelling])
            layouts.LAYOUTS[layout](*arguments, names[alias % len(names)])
            self.check(load_index(folder, split), numbers)

    @parameterized.parameters(*layouts.SPLIT_LAYOUTS)
    def test_fingerprints_agree(self, layout):
        """The same images, boxes and ids in the plainest layout and in this one, spelled as on Windows."""
        layouts.write_coco(self.folder / "plain", range(1, 5), "posix", str.lower, "train")
        layouts.LAYOUTS[layout](self.folder / "drawn", range(1, 5), "drive", str.title, "train")
        expected, found = (load_index(self.folder / name, "train") for name in ("plain", "drawn"))
        self.assertEqual(found.fingerprint(), expected.fingerprint())

    @parameterized.parameters(".yaml", ".yml")
    def test_yaml_as_data(self, suffix):
        layouts.write_yaml_folder(self.folder, range(1, 4), "posix", str.lower, "train")
        (file,) = self.folder.glob("*.y*ml")
        file = file.rename(self.folder / f"plates{suffix}")
        self.check(load_index(file, "train"), range(1, 4))
        self.assertEqual(convert(file, self.folder / "out", "coco")["train"].images, 3)

    @parameterized.parameters(
        ("annotations/instances_train.json", "got a file. Pass {folder}."),
        ("set.zip", "got an archive. Unpack it"),
        ("train/a.png", "got a file. Pass {folder}/train."),
    )
    def test_another_file_as_data(self, name, advice):
        write_set(self.folder, [])
        (self.folder / "set.zip").write_bytes(b"")
        with self.assertRaises(InputError) as caught:
            load_index(self.folder / name, "train")
        self.assertIn(advice.format(folder=self.folder), str(caught.exception))

    @parameterized.parameters(
        ((), "found nothing. Pass the folder that holds images and annotations."),
        (("a.zip",), "Unpack a.zip"),
        (("inner/data.yaml",), "Pass {folder}/inner."),
        (("images/a.png", "labels/a.txt"), "Add data.yaml"),
        (("images/a.png", "boxes.json"), "Name the COCO json annotations/instances_train.json"),
        (("images/a.png",), "Add the annotations of the 1 images."),
        (("images/a.png", "boxes.csv"), "instead of CSV"),
        (("images/a.png", "plates.yaml"), "Rename the YAML that lists train, val and names to data.yaml."),
    )
    def test_unknown_layout_names_the_one_thing_to_do(self, names, advice):
        for name in names:
            (self.folder / name).parent.mkdir(exist_ok=True)
            (self.folder / name).write_text("{}")
        with self.assertRaises(InputError) as caught:
            load_index(self.folder, "train")
        message = str(caught.exception)
        self.assertIn(advice.format(folder=self.folder), message)
        self.assertLess(len(message.replace(str(self.folder), "")), 260)
        self.assertNotIn("\n", message)

    @parameterized.product(split=("train", "val", "test"), alias=(0, 1), entry=("images/vall", "/c/images/x", "a\\b"))
    def test_yaml_entry_that_leads_to_nothing_is_quoted(self, split, alias, entry):
        layouts.write_yaml_folder(self.folder, range(1, 3), "posix", str.lower, "train")
        key = ALIASES[split][alias] if split != "test" else "test"
        content = {"train": "images/train", "names": list(layouts.CLASSES)}
        content = {**{k: v for k, v in content.items() if k != "train" or split != "train"}, key: entry}
        (file,) = self.folder.glob("*.y*ml")
        file.write_text(json.dumps(content))
        with self.assertRaises(InputError) as caught:
            load_index(self.folder, split)
        self.assertIn(f"{file}: {key}: {entry} is not there.", str(caught.exception))
        self.assertNotIn("fraction", str(caught.exception))

    def test_convert_leaves_out_a_test_split_that_is_not_there_but_no_val(self):
        layouts.write_yaml_folder(self.folder / "set", range(1, 3), "posix", str.lower, "train")
        (file,) = (self.folder / "set").glob("*.y*ml")
        file.write_text("train: images/train\ntest: ../test/images\nnames: [red, blue]\n")
        self.assertEqual(list(convert(self.folder / "set", self.folder / "out", "coco")), ["train"])
        file.write_text("train: images/train\nval: ../valid/images\nnames: [red, blue]\n")
        with self.assertRaisesRegex(InputError, "val: ../valid/images is not there"):
            convert(self.folder / "set", self.folder / "out2", "coco")
        # To cut val off train is a way out that the user chose.
        reports = convert(self.folder / "set", self.folder / "out3", "coco", ReadOptions(val_fraction=0.5))
        self.assertEqual([report.images for report in reports.values()], [1, 1])

    def test_two_json_of_one_split_are_refused(self):
        content = write_set(self.folder, [annotation([1, 1, 5, 5])])
        (self.folder / "annotations/instances_train.json").unlink()
        for name in ("a", "b"):
            (self.folder / f"{name}.json").write_text(json.dumps(content))
        with self.assertRaisesRegex(InputError, "found a.json and b.json for train. Rename"):
            load_index(self.folder, "train")


class PathsTest(TestCase):
    def find(self, text, *files, **options):
        for name in files:
            (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
            (self.folder / name).write_text("")
        finder = PathFinder(self.folder / "set", **options)
        return finder.find(text, (self.folder / "set",), source=self.folder / "list.txt")

    @parameterized.parameters(
        ("train/a.png", "set/train/a.png"),
        ("train\\a.png", "set/train/a.png"),
        ("TRAIN/A.png", "set/train/a.png"),
        ("../train/a.png", "set/train/a.png"),
        ("/content/set/train/a.png", "set/train/a.png"),
        ("C:\\data\\set\\train\\a.png", "set/train/a.png"),
        ("other/a.png", "set/a.png"),  # the longest tail that is there
    )
    def test_finds(self, text, expected):
        found = self.find(text, "set/train/a.png", "set/a.png")
        self.assertEqual(found.path, self.folder / expected)

    def test_as_written_comes_first(self):
        found = self.find("b\\a.png", "set/b\\a.png", "set/b/a.png")
        self.assertEqual(found.path, self.folder / "set/b\\a.png")
        self.assertTrue(found.as_written)

    @parameterized.parameters("../test/images", "D:\\set\\valid\\images", "test/../test/images")
    def test_tail_of_another_split_is_not_taken(self, text):
        found = self.find(text, "set/images/train/a.png", "set/train/b.png", "set/train.txt")
        self.assertIsNone(found)

    def test_two_spellings_are_not_guessed_between(self):
        self.assertIsNone(self.find("A.PNG", "set/a.png", "set/A.png"))

    @parameterized.parameters("b.png", "x" * 5000, "a\0", "a/" * 3000, "b/" * 3000 + "a.png", "..\\..\\b.png")
    def test_nothing_is_found(self, text):
        self.assertIsNone(self.find(text, "set/train/a.png"))

    def test_outside_needs_allow_outside(self):
        files = ("b.png", "set/a.png")
        with self.assertRaisesRegex(InputError, "list.txt.*leads out of it.*--allow-outside"):
            self.find("../b.png", *files)
        self.assertEqual(self.find("../b.png", *files, allow_outside=True).path, self.folder / "b.png")
        self.assertEqual(self.find(f"{self.folder}/b.png", allow_outside=True).path, self.folder / "b.png")

    def test_set_in_the_current_folder_does_not_lead_out(self):
        finder = PathFinder(pathlib.Path())
        self.assertIsNone(finder.match(pathlib.Path("..")))

    def test_two_names_for_one_file_are_both_missing(self):
        images = [("0.png", 40, 20)]
        content = write_set(
            self.folder, [annotation([1, 1, 5, 5]), annotation([2, 2, 5, 5], image_id=2)], images=images
        )
        content["images"] = [
            {**content["images"][0], "id": number, "file_name": f"cam{number}/0.png"} for number in (1, 2)
        ]
        (self.folder / "annotations/instances_train.json").write_text(json.dumps(content))
        with self.assertRaisesRegex(InputError, "got none. First problem: missing image"):
            load_index(self.folder, "train")


class SuffixesTest(TestCase):
    @parameterized.product(suffix=(".jfif", ".JPE", ".tif", ".TIFF", ".Jpeg"), form=("coco", "yolo", "voc"))
    def test_every_reader_takes(self, suffix, form):
        from PIL import Image

        image = self.folder / "train" / ("images" if form == "yolo" else "") / f"a{suffix}"
        image.parent.mkdir(parents=True)
        Image.new("RGB", (40, 20)).save(image, format="TIFF" if "tif" in suffix.lower() else "JPEG")
        if form == "yolo":
            write_yolo(self.folder, {"a": "0 0.5 0.5 0.5 0.5"}, images=[])
        elif form == "voc":
            write_voc(self.folder, {}, images=[])
            (self.folder / "train/a.xml").write_text(layouts.voc_xml(1).replace("48", "40").replace("32", "20"))
        else:
            content = write_set(self.folder, [annotation([1, 1, 5, 5])])
            content["images"][0]["file_name"] = f"a{suffix}"
            (self.folder / "annotations/instances_train.json").write_text(json.dumps(content))
        (record,) = load_index(self.folder, "train").records
        self.assertEqual(record.path, str(image))
        self.assertNotEmpty(record.labels)

    @parameterized.product(suffix=(".heic", ".AVIF", ".psd"), form=("coco", "yolo", "voc"))
    def test_other_formats_are_reported(self, suffix, form):
        images = [("a.png", 40, 20), ("b.png", 40, 20)]
        if form == "yolo":
            write_yolo(self.folder, {"a": "0 0.5 0.5 0.5 0.5", "b": "0 0.5 0.5 0.5 0.5"}, images=images)
            (self.folder / "train/images/b.png").rename(self.folder / f"train/images/b{suffix}")
        elif form == "voc":
            boxes = [("cell", 1, 2, 3, 4)]
            write_voc(self.folder, {"a": boxes, "b": boxes}, images=images)
            (self.folder / "train/b.png").write_bytes(b"no image that is read")
            (self.folder / "train/b.png").rename(self.folder / f"train/b{suffix}")
        else:
            content = write_set(self.folder, [], images=images)
            content["images"][1]["file_name"] = f"b{suffix}"
            (self.folder / "annotations/instances_train.json").write_text(json.dumps(content))
            (self.folder / f"train/b{suffix}").write_bytes(b"no image that is read")
        index = load_index(self.folder, "train")
        self.assertLen(index.records, 1)
        self.assertEqual([*index.problems.problems], ["image of another format"])
        self.assertIn("skipped: image of another format", index.problems.table())

    def test_only_other_formats(self):
        write_yolo(self.folder, {"a": "0 0.5 0.5 0.5 0.5"})
        (self.folder / "train/images/a.png").rename(self.folder / "train/images/a.heic")
        with self.assertRaisesRegex(InputError, r"expected images \(.jpg.*found 1 .heic. Convert"):
            load_index(self.folder, "train")

    def test_no_images_at_all(self):
        write_yolo(self.folder, {}, images=[])
        write_images(self.folder / "elsewhere", [("a.png", 4, 4)])
        with self.assertRaisesRegex(InputError, "train/images: expected images.*found none"):
            load_index(self.folder, "train")


if __name__ == "__main__":
    absltest.main()
