import contextlib
import copy
import io
import json
import pathlib

import numpy as np
import tensorflow as tf
from absl.testing import parameterized
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from kyolo.data import ReadOptions, load_index
from kyolo.data.coco import find_splits, read_split
from kyolo.errors import InputError
from tests.data.sets import annotation, write_set

FILE = "annotations/instances_train.json"
DEFAULTS = ReadOptions()


def read_coco(folder, wanted=None, options=DEFAULTS):
    return read_split(folder, find_splits(folder, options)["train"], options, wanted)


def average_precisions(truth, detections):
    """The 12 numbers of pycocotools."""
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = copy.deepcopy(truth)
        coco.createIndex()
        evaluation = COCOeval(coco, coco.loadRes(detections), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation.stats


class CocoTest(tf.test.TestCase, parameterized.TestCase):
    def setUp(self):
        super().setUp()
        self.folder = pathlib.Path(self.get_temp_dir())

    def read(self, annotations, **options):
        write_set(self.folder, annotations, **options)
        return read_coco(self.folder)

    def test_boxes_become_xyxy_clipped_to_the_image(self):
        # The image is 40 wide, 20 high. 30 + 15 > 40 and -2 < 0 are cut.
        index = self.read([annotation([1, 2, 10.5, 4]), annotation([30, -2, 15, 6])])
        (record,) = index.records
        self.assertAllEqual(record.boxes, [[1, 2, 11.5, 6], [30, 0, 40, 4]])
        self.assertEqual(record.boxes.dtype, np.float32)
        self.assertEqual(record.labels.dtype, np.int32)
        self.assertEqual((record.height, record.width, record.image_id), (20, 40, 1))
        self.assertEqual(record.path, str(self.folder / "train" / "a.png"))

    def test_sparse_category_ids_become_labels_in_their_order(self):
        categories = [{"id": 90, "name": "z"}, {"id": 7, "name": "s"}, {"id": 18, "name": "e"}]
        index = self.read([annotation([0, 0, 5, 5], category_id=c) for c in (90, 7, 18)], categories=categories)
        self.assertEqual(index.category_ids, (7, 18, 90))
        self.assertEqual(index.class_names, ("s", "e", "z"))
        self.assertAllEqual(index.records[0].labels, [2, 0, 1])

    def test_crowds_are_truth_but_not_trained_on(self):
        index = self.read([annotation([0, 0, 5, 5], iscrowd=1, id=3), annotation([1, 1, 5, 5], id=4)])
        self.assertAllEqual(index.records[0].boxes, [[1, 1, 6, 6]])
        self.assertEqual([entry["id"] for entry in index.truth["annotations"]], [3, 4])
        self.assertEmpty(index.problems.problems)

    @parameterized.parameters(
        ("annotation of an unknown image", {"image_id": 9}),
        ("annotation of an unknown image", {"image_id": None}),
        ("annotation of an unknown category", {"category_id": 2}),
        ("box that is not four finite numbers", {"bbox": [1, 2, 3]}),
        ("box that is not four finite numbers", {"bbox": [1, 2, 3, float("nan")]}),
        ("box that is not four finite numbers", {"bbox": [1, 2, 3, float("inf")]}),
        ("box that is not four finite numbers", {"bbox": [1, 2, 3, "four"]}),
        ("box that is not four finite numbers", {"bbox": [1, 2, 3, True]}),
        ("box that is not four finite numbers", {"bbox": None}),
        ("box without area", {"bbox": [1, 2, 0, 5]}),
        ("box without area", {"bbox": [1, 2, 5, -5]}),
        ("box outside the image", {"bbox": [40, 2, 5, 5]}),
        ("box outside the image", {"bbox": [2, -9, 5, 8]}),
    )
    def test_bad_annotation_is_named_and_skipped(self, kind, fields):
        index = self.read([{**annotation([1, 2, 3, 4]), **fields, "id": 17}, annotation([1, 1, 2, 2], id=1)])
        self.assertLen(index.records[0].boxes, 1)
        name = (
            f"{FILE}: annotation 17" if kind == "annotation of an unknown image" else f"{FILE}: annotation 17 of a.png"
        )
        self.assertEqual(dict(index.problems.problems), {kind: (name,)})
        stays_in_truth = kind in ("box without area", "box outside the image")
        self.assertLen(index.truth["annotations"], 2 if stays_in_truth else 1)

    @parameterized.parameters((5,), ("text",), (None,), ([],))
    def test_annotation_that_is_no_object(self, entry):
        index = self.read([entry])
        self.assertEqual(
            dict(index.problems.problems), {"annotation of an unknown image": (f"{FILE}: annotations[0]",)}
        )

    def test_bad_image_entries_are_named(self):
        content = write_set(self.folder, [], images=[("a.png", 40, 20)])
        content["images"] += [{"id": 2}, 5, {"id": "c", "file_name": "b", "height": 1, "width": 1}]
        content["images"] += [{"id": 4, "file_name": "c", "height": 0, "width": 1}, {**content["images"][0]}]
        (self.folder / "annotations/instances_train.json").write_text(json.dumps(content))
        index = read_coco(self.folder)
        self.assertLen(index.records, 1)
        self.assertEqual(
            dict(index.problems.problems),
            {
                "image entry without id, file_name, height or width": tuple(
                    f"{FILE}: images[{i}]" for i in (1, 2, 3, 4)
                ),
                "image id used twice": ("a.png",),
            },
        )

    @parameterized.parameters(1, 1.0, "1", "1.0")
    def test_ids_and_sides_of_any_spelling(self, one):
        """Images, annotations and categories follow one rule."""
        content = write_set(self.folder, [annotation([1, 2, 3, 4], image_id=one, category_id=1, id=one)])
        for entries in (content["images"], content["categories"]):
            entries[0]["id"] = 1.0 if one == 1 else one
        content["images"][0] |= {"width": "40", "height": 20.0}
        (self.folder / FILE).write_text(json.dumps(content))
        index = load_index(self.folder, "train")
        self.assertEqual(index.problems.boxes, 1)
        (entry,) = index.truth["annotations"]
        self.assertEqual((entry["id"], entry["image_id"], entry["category_id"]), (1, 1, 1))

    @parameterized.parameters(("1", "01"), (1, "1.5"), (1, True), ("a", "a"))
    def test_ids_that_are_not_equal_are_not_joined(self, image_id, other):
        content = write_set(self.folder, [annotation([1, 2, 3, 4], image_id=other)])
        content["images"][0]["id"] = image_id
        (self.folder / FILE).write_text(json.dumps(content))
        with self.assertRaisesRegex(InputError, "annotation of an unknown image|image entry without id"):
            load_index(self.folder, "train")

    def test_images_with_one_id_are_left_out_with_its_annotations(self):
        images = [(name, 40, 20) for name in ("a.png", "b.png", "c.png", "d.png")]
        boxes = [annotation([i, 1, 5, 5], image_id=i, id=i) for i in (1, 2, 3, 4)]
        content = write_set(self.folder, boxes, images=images)
        content["images"][1]["id"] = 1
        content["images"][3] = {"id": 3, "file_name": "d.png"}  # without a size; nobody knows whose boxes are 3's
        (self.folder / FILE).write_text(json.dumps(content))
        with self.assertRaisesRegex(InputError, "at least one usable image"):
            load_index(self.folder, "train")
        content["images"][3]["id"] = 4
        (self.folder / FILE).write_text(json.dumps(content))
        index = load_index(self.folder, "train")
        self.assertEqual([image["file_name"] for image in index.truth["images"]], ["c.png"])
        self.assertEqual([entry["image_id"] for entry in index.truth["annotations"]], [3])
        problems = index.problems.problems
        self.assertEqual(problems["image id used twice"], ("a.png", "b.png"))
        self.assertLen(problems["annotation of an image id used twice"], 1)
        self.assertLen(problems["annotation of an unknown image"], 2)
        self.assertEqual((index.problems.boxes, index.problems.boxes_in_files), (1, 4))

    def test_file_with_two_ids_is_left_out(self):
        images = [(name, 40, 20) for name in ("a.png", "b.png")]
        content = write_set(self.folder, [annotation([i, 1, 5, 5], image_id=i) for i in (1, 2, 3)], images=images)
        content["images"].append({**content["images"][0], "id": 3, "file_name": "./a.png"})
        (self.folder / FILE).write_text(json.dumps(content))
        problems = load_index(self.folder, "train").problems
        self.assertEqual(problems.problems["image file used twice"], ("a.png", "./a.png"))
        self.assertLen(problems.problems["annotation of an image file used twice"], 2)
        self.assertEqual((problems.images, problems.boxes, problems.boxes_in_files), (1, 1, 3))

    @parameterized.parameters((None,), ([],), ([0, 0, 0, 0],), ([1, 2, 3],), ("none",))
    def test_outline_gives_the_box_where_there_is_none(self, bbox):
        mask = {"size": [20, 40], "counts": [2 * 20 + 3, 4, 16, 4, 800 - 67]}  # rows 3..6 of the columns 2 and 3
        index = self.read(
            [
                annotation(bbox, id=1, segmentation=[[1, 2, 9, 2, 9, 8.5]]),
                annotation(bbox, id=2, segmentation=mask),
                annotation([3, 3, 4, 4], id=3, segmentation=[[1, 2, 9, 2, 9, 8.5]]),
                annotation(bbox, id=4, segmentation=[[1, 2]]),
            ]
        )
        self.assertAllEqual(index.records[0].boxes, [[1, 2, 9, 8.5], [2, 3, 4, 7], [3, 3, 7, 7]])
        self.assertEqual(
            dict(index.problems.notes),
            {"box taken from the outline": tuple(f"{FILE}: annotation {i} of a.png" for i in (1, 2))},
        )
        self.assertEqual(index.problems.num_problems, 1)

    @parameterized.parameters(
        ("true", 1), ("yes", 1), (True, 1), (1.0, 1), ("0", 0), ("false", 0), ("no", 0), (None, 0)
    )
    def test_crowd_flags(self, flag, crowd):
        index = self.read([annotation([0, 0, 5, 5], iscrowd=flag), annotation([1, 1, 5, 5])])
        self.assertEqual([entry["iscrowd"] for entry in index.truth["annotations"]], [crowd, 0])
        self.assertLen(index.records[0].boxes, 2 - crowd)
        self.assertEmpty(index.problems.notes)

    @parameterized.parameters("maybe", -1, 2, ([],))
    def test_crowd_flag_that_is_neither(self, flag):
        index = self.read([annotation([0, 0, 5, 5], iscrowd=flag, id=3)])
        self.assertLen(index.records[0].boxes, 1)
        note = "flag that is neither yes nor no, taken for no"
        self.assertEqual(dict(index.problems.notes), {note: (f"{FILE}: annotation 3 of a.png",)})

    def test_clipped_box_is_noted(self):
        index = self.read([annotation([30, 1, 10.005, 5], id=1), annotation([30, 2, 10.5, 5], id=2)])
        self.assertEqual(dict(index.problems.notes), {"box clipped to its image": (f"{FILE}: annotation 2 of a.png",)})

    @parameterized.parameters(*range(8))
    def test_labels_mean_the_same_in_every_split(self, seed):
        """Each split lists some of the names, in any order, with ids of its own."""
        rng = np.random.default_rng(seed)
        names = ["red", "blue", "green", "cyan"]
        expected = {}
        for split in ("train", "val", "test")[: rng.integers(2, 4)]:
            chosen = rng.permutation(names)[: rng.integers(1, 5)].tolist()
            ids = rng.permutation(9)[: len(chosen)].tolist()
            boxes = [annotation([i, i, 5, 5], category_id=ids[i]) for i in range(len(chosen))]
            categories = [{"id": category_id, "name": name} for category_id, name in zip(ids, chosen, strict=True)]
            write_set(self.folder, boxes, categories=categories, split=split)
            expected[split] = dict(enumerate(chosen))
        indices = {split: load_index(self.folder, split) for split in expected}
        self.assertLen({index.class_names for index in indices.values()}, 1)
        for split, index in indices.items():
            self.assertCountEqual(index.class_names, {name for found in expected.values() for name in found.values()})
            (record,) = index.records
            by_label = [(int(box[0]), index.class_names[k]) for box, k in zip(record.boxes, record.labels, strict=True)]
            self.assertEqual(dict(by_label), expected[split])
            categories = {entry["id"]: entry["name"] for entry in index.truth["categories"]}
            self.assertLen(categories, len(index.class_names))
            by_id = {entry["bbox"][0]: categories[entry["category_id"]] for entry in index.truth["annotations"]}
            self.assertEqual(by_id, expected[split])

    def test_categories_of_another_split_that_cannot_be_read_do_not_count(self):
        write_set(self.folder, [annotation([1, 1, 5, 5])])
        for text in ("{", "[]", '{"categories": [{"id": 1}]}', '{"categories": 5}', ""):
            (self.folder / "annotations/instances_val.json").write_text(text)
            self.assertEqual(load_index(self.folder, "train").class_names, ("cell",))

    def test_categories_elsewhere_in_the_json_do_not_count(self):
        content = write_set(self.folder, [], split="val")
        info = {"categories": [{"id": 1, "name": "other"}], "text": '"categories": [{"id": 2, "name": "text"}]'}
        (self.folder / "annotations/instances_val.json").write_text(json.dumps({"info": info, **content}))
        write_set(self.folder, [annotation([1, 1, 5, 5])])
        self.assertEqual(load_index(self.folder, "train").class_names, ("cell",))

    def test_missing_fields_of_annotations_are_filled_in(self):
        # Area 3 * 4; the free ids begin after the largest, 5.
        index = self.read(
            [
                annotation([1, 2, 3, 4]),
                annotation([1, 2, 5, 5], id=5, area=7, iscrowd=0, segmentation=[[1, 2]], score=3),
            ]
        )
        first, second = index.truth["annotations"]
        self.assertEqual(first, {**annotation([1, 2, 3, 4]), "area": 12, "iscrowd": 0, "id": 6})
        self.assertEqual(second, {**annotation([1, 2, 5, 5]), "id": 5, "area": 7, "iscrowd": 0})

    @parameterized.parameters(
        (None,), ("7a",), ("07",), (1.5,), ([],), (float("nan"),), (2**63,), (4,), ("4",), (True,)
    )
    def test_ids_that_are_no_numbers_or_used_are_replaced(self, annotation_id):
        index = self.read(
            [annotation([i, 2, 3, 4], id=i) for i in (4, 9)] + [annotation([1, 2, 5, 5], id=annotation_id)]
        )
        self.assertEqual([entry["id"] for entry in index.truth["annotations"]], [4, 9, 10])
        self.assertLen(index.records[0].boxes, 3)

    def test_box_that_float32_makes_flat(self):
        # From 16 to 32 float32 has steps of 2^-19, some 2e-6.
        index = self.read([annotation([30, 2, 5e-7, 5], id=1), annotation([30, 2, 4e-6, 5], id=2)])
        self.assertEqual(dict(index.problems.problems), {"box without area": (f"{FILE}: annotation 1 of a.png",)})
        ((x1, _, x2, _),) = index.records[0].boxes
        self.assertLess(x1, x2)

    @parameterized.parameters("x" * 300, "a\x00.png", "\ud800.png", "two\nlines.png", "")
    def test_file_names_that_no_file_can_have(self, name):
        content = write_set(self.folder, [])
        content["images"].append({"id": 2, "file_name": name, "width": 1, "height": 1})
        (self.folder / FILE).write_text(json.dumps(content))
        (problem,) = load_index(self.folder, "train").problems.problems["missing image"]
        self.assertLen(problem.splitlines(), 1)
        problem.encode()

    @parameterized.parameters((("a", "a"),), (("",),), (("a\nb",),), (("\ud800",),), ((None,),), (([[]],),))
    def test_class_names_that_cannot_be_told_apart_or_printed(self, names):
        write_set(self.folder, [], categories=[{"id": i, "name": name} for i, name in enumerate(names)])
        with self.assertRaisesRegex(InputError, "instances_train.json: expected c[^\\n]*$"):
            read_coco(self.folder)

    def test_pycocotools_sees_no_difference(self):
        # Crowds, boxes beyond the border, without area and outside, an own area: all of it counts there.
        rng = np.random.default_rng(0)
        categories = [{"id": 3, "name": "a"}, {"id": 1, "name": "b"}]
        annotations, detections = [], []
        for number in range(1, 61):
            x, y, w, h = rng.uniform((-4, -4, 3, 3), (34, 14, 15, 12)).round(2).tolist()
            where = {"image_id": int(rng.integers(1, 5)), "category_id": int(rng.choice([1, 3]))}
            more = {"id": number, "area": w * h * 0.8, "iscrowd": int(rng.random() < 0.1)}
            annotations.append({"bbox": [x, y, w, h], **where, **more})
            if rng.random() < 0.8:
                box = (np.array([x, y, w, h]) + rng.normal(0, 0.5, 4)).tolist()
                detections.append({"bbox": box, "score": float(rng.random()), **where})
        annotations[5]["bbox"] = [5, 5, 0, 3]
        annotations[6]["bbox"] = [90, 5, 4, 3]
        images = [(f"{number}.png", 40, 20) for number in range(4)]
        original = write_set(self.folder, annotations, images=images, categories=categories)
        truth = read_coco(self.folder).truth
        expected = average_precisions(original, detections)
        self.assertGreater(expected[0], 0.1)
        self.assertAllEqual(average_precisions(truth, detections), expected)

    def test_part_of_the_images(self):
        images = [(f"{number}.png", 8, 8) for number in range(3)]
        write_set(self.folder, [annotation([1, 1, 2, 2], image_id=i) for i in (1, 2, 3)], images=images)
        index = read_coco(self.folder, wanted=lambda name: name == "1.png")
        self.assertEqual([record.image_id for record in index.records], [2])
        self.assertEqual([image["id"] for image in index.truth["images"]], [2])
        self.assertEqual([entry["image_id"] for entry in index.truth["annotations"]], [2])
        self.assertEmpty(index.problems.problems)

    @parameterized.parameters(
        ("{", "line 1, column 2"),
        ("[]", "no list 'images'"),
        ('{"images": [], "categories": 3}', "no list 'annotations'"),
        (
            '{"images": [], "annotations": [], "categories": [{"id": 1, "name": "a"}]}',
            "one entry in 'images', found none",
        ),
        ('{"images": [{}], "annotations": [], "categories": []}', "one entry in 'categories', found none"),
        ('{"images": [{}], "annotations": [], "categories": [{"id": 1}]}', "an integer id and a name"),
        ('{"images": [{}], "annotations": [], "categories": [{"id": 1, "name": 1}, {"id": 1, "name": 2}]}', "1 twice"),
    )
    def test_broken_json_is_one_clear_line(self, text, pattern):
        write_set(self.folder, [])
        file = self.folder / "annotations/instances_train.json"
        file.write_text(text)
        with self.assertRaisesRegex(InputError, pattern) as caught:
            read_coco(self.folder)
        self.assertIn(str(file), str(caught.exception))
        self.assertNotIn("\n", str(caught.exception))

    def test_json_in_another_encoding(self):
        write_set(self.folder, [])
        (self.folder / "annotations/instances_train.json").write_bytes(b'{"images": "\xe9"}')
        with self.assertRaisesRegex(InputError, "UTF-8"):
            read_coco(self.folder)

    def test_box_given_twice_is_trained_on_once(self):
        twice = annotation([1, 2, 3, 4])
        index = self.read([annotation([1, 2, 3, 4], id=1), twice | {"id": 2}, twice | {"id": 3, "iscrowd": 1}])
        self.assertLen(index.records[0].boxes, 1)
        self.assertEqual(dict(index.problems.problems), {"box given twice": (f"{FILE}: annotation 2 of a.png",)})
        self.assertLen(index.truth["annotations"], 3)  # As pycocotools counts them.

    @parameterized.parameters(
        ("annotations/instances_train.json", "train"),
        ("annotations/instances_train2017.json", "train2017"),
        ("annotations/instances_train.json", "images/train"),
        ("annotations/instances_default.json", "images"),
        ("train/_annotations.coco.json", "train"),
    )
    def test_layouts(self, file, images):
        write_set(self.folder / "written", [annotation([1, 1, 5, 5])])
        for source, target in ((FILE, file), ("train/a.png", f"{images}/a.png")):
            (self.folder / "set" / target).parent.mkdir(parents=True, exist_ok=True)
            (self.folder / "written" / source).rename(self.folder / "set" / target)
        (record,) = load_index(self.folder / "set", "train").records
        self.assertEqual(record.path, str(self.folder / "set" / images / "a.png"))

    def test_splits_of_other_names(self):
        write_set(self.folder, [], split="train2017")
        write_set(self.folder, [], split="valid")
        write_set(self.folder, [], split="test")
        self.assertEqual(set(find_splits(self.folder, ReadOptions())), {"train", "val", "test"})

    def test_file_names_that_begin_with_the_split(self):
        content = write_set(self.folder, [])
        content["images"][0]["file_name"] = "train/a.png"
        (self.folder / FILE).write_text(json.dumps(content))
        self.assertLen(load_index(self.folder, "train").records, 1)

    def test_placeholder_of_roboflow_is_no_class(self):
        categories = [{"id": 0, "name": "cells", "supercategory": "none"}]
        categories += [{"id": i, "name": name, "supercategory": "cells"} for i, name in ((1, "RBC"), (2, "WBC"))]
        content = write_set(self.folder, [annotation([1, 1, 5, 5], category_id=2)], categories=categories)
        self.assertEqual(load_index(self.folder, "train").class_names, ("cells", "RBC", "WBC"))
        (self.folder / FILE).unlink()
        (self.folder / "train/_annotations.coco.json").write_text(json.dumps(content))
        index = load_index(self.folder, "train")
        self.assertEqual(index.class_names, ("RBC", "WBC"))
        self.assertAllEqual(index.records[0].labels, [1])

    @parameterized.parameters("../../b.png", "{folder}/b.png", "c/../../../b.png")
    def test_images_outside_need_allow_outside(self, name):
        content = write_set(self.folder / "set", [])
        outside = self.folder / "b.png"
        Image.new("RGB", (40, 20)).save(outside)
        content["images"][0]["file_name"] = name.format(folder=self.folder)
        (self.folder / "set" / FILE).write_text(json.dumps(content))
        with self.assertRaisesRegex(InputError, "instances_train.json.*leads out.*--allow-outside"):
            read_coco(self.folder / "set")
        (record,) = read_coco(self.folder / "set", options=ReadOptions(allow_outside=True)).records
        self.assertEqual(record.path, str(outside))


if __name__ == "__main__":
    tf.test.main()
