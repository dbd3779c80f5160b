import numpy as np
from absl.testing import absltest, parameterized

from kyolo.data import ReadOptions, load_index
from kyolo.errors import InputError
from tests.data.sets import voc_xml, write_images, write_voc
from tests.test_case import TestCase

CELL = ("cell", 1, 2, 11, 12)
HARD = "<difficult>1</difficult>"
BOMB = """<?xml version="1.0"?>
<!DOCTYPE a [
  <!ENTITY b "0123456789"><!ENTITY c "&b;&b;&b;&b;&b;&b;&b;&b;&b;&b;"><!ENTITY d "&c;&c;&c;&c;&c;&c;&c;&c;&c;&c;">
]>
<annotation><object><name>&d;</name></object></annotation>"""


class VocTest(TestCase):
    def read(self, *objects, **options):
        """The index of one image, 40 wide and 20 high."""
        write_voc(self.folder, {"a": objects}, **options)
        return load_index(self.folder, "train")

    def assert_equal(self, array, expected):
        np.testing.assert_array_equal(array, expected)

    def rewrite(self, old, new):
        file = self.folder / "train/a.xml"
        text = file.read_text()
        self.assertIn(old, text)
        file.write_text(text.replace(old, new))
        return load_index(self.folder, "train")

    def test_edges_are_taken_as_they_are(self):
        (record,) = self.read(CELL, ("cell", 0.5, 0, 39.75, 20)).records
        self.assert_equal(record.boxes, [[1, 2, 11, 12], [0.5, 0, 39.75, 20]])
        self.assertEqual((record.height, record.width), (20, 40))

    def test_names_are_sorted_over_all_splits(self):
        self.read(("b", 1, 2, 3, 4), ("d", 1, 2, 3, 4))
        write_voc(self.folder, {"a": [("c", 1, 2, 3, 4), ("a", 1, 2, 3, 4)]}, split="val")
        for split in ("train", "val"):
            self.assertEqual(load_index(self.folder, split).class_names, ("a", "b", "c", "d"))
        self.assert_equal(load_index(self.folder, "val").records[0].labels, [2, 0])

    @parameterized.parameters("labels.txt", "classes.txt")
    def test_names_of_a_file(self, file):
        self.read(CELL)
        (self.folder / file).write_text("wall\r\ncell\r\n\r\n")
        index = load_index(self.folder, "train")
        self.assertEqual(index.class_names, ("wall", "cell"))
        self.assert_equal(index.records[0].labels, [1])

    def test_names_that_are_given(self):
        self.read(CELL, ("wall", 1, 2, 3, 4))
        index = load_index(self.folder, "train", ReadOptions(class_names=("x", "cell")))
        self.assert_equal(index.records[0].labels, [1])
        self.assertEqual(dict(index.problems.problems), {"object of an unknown class": ("train/a.xml:4",)})

    def test_names_of_a_file_are_there_once(self):
        self.read(CELL)
        (self.folder / "labels.txt").write_text("cell\nwall\ncell\n")
        with self.assertRaisesRegex(InputError, "labels.txt: expected class names .* received 'cell'"):
            load_index(self.folder, "train")

    def test_name_of_two_lines_is_no_class(self):
        index = self.read(CELL, ("two\nlines", 1, 2, 3, 4))
        self.assertEqual(index.class_names, ("cell",))
        self.assertEqual(dict(index.problems.problems), {"object of an unknown class": ("train/a.xml:4",)})

    def test_size_of_no_image(self):
        self.read(CELL)
        index = self.rewrite("<width>40<", f"<width>{'9' * 4000}<")
        self.assertEqual((index.records[0].height, index.records[0].width), (20, 40))

    def test_difficult_objects_are_neither_trained_on_nor_scored(self):
        self.read(CELL, ("cell", 5, 5, 9, 9))
        index = self.rewrite(
            "<object><name>cell</name><bndbox><xmin>1<", f"<object>{HARD}<name>cell</name><bndbox><xmin>1<"
        )
        self.assert_equal(index.records[0].boxes, [[5, 5, 9, 9]])
        self.assertEqual([entry["iscrowd"] for entry in index.truth["annotations"]], [1, 0])
        self.assertEqual(index.problems.crowds, 1)

    @parameterized.parameters(
        ("object without a name", "<name>cell</name>", ""),
        ("object without a name", "<name>cell</name>", "<name> </name>"),
        ("box that is not four finite numbers", "<xmin>1</xmin>", ""),
        ("box that is not four finite numbers", "<xmin>1<", "<xmin>one<"),
        ("box that is not four finite numbers", "<xmin>1<", "<xmin>nan<"),
        ("box that is not four finite numbers", "<xmin>1<", "<xmin>1_0<"),
        (
            "box that is not four finite numbers",
            "<bndbox><xmin>1</xmin><ymin>2</ymin><xmax>11</xmax><ymax>12</ymax></bndbox>",
            "<polygon><x1>1</x1><y1>2</y1><x2>5</x2><y2>7</y2><x3>9</x3></polygon>",
        ),
        ("box without area", "<xmax>11<", "<xmax>1<"),
        ("box without area", "<xmax>11<", "<xmax>-5<"),
        ("box outside the image", "<xmin>1</xmin><ymin>2</ymin><xmax>11<", "<xmin>40</xmin><ymin>2</ymin><xmax>50<"),
    )
    def test_bad_object_is_named_and_skipped(self, kind, old, new):
        self.read(CELL, ("wall", 5, 5, 9, 9))
        index = self.rewrite(old, new)
        self.assert_equal(index.records[0].boxes, [[5, 5, 9, 9]])
        self.assertLen(index.truth["annotations"], 1)
        self.assertEqual(dict(index.problems.problems), {kind: ("train/a.xml:3",)})

    @parameterized.parameters(("0",), ("no",), ("FALSE",), ("0.0",), ("",), (" false ",))
    def test_difficult_that_is_no(self, text):
        self.read(CELL)
        index = self.rewrite("<name>cell", f"<difficult>{text}</difficult><name>cell")
        self.assertEqual((index.problems.boxes, index.problems.crowds), (1, 0))
        self.assertEmpty(index.problems.notes)

    @parameterized.parameters("1", "true", "Yes", "1.0")
    def test_difficult_that_is_yes(self, text):
        self.read(CELL, ("wall", 5, 5, 9, 9))
        index = self.rewrite("<name>cell", f"<difficult>{text}</difficult><name>cell")
        self.assertEqual((index.problems.boxes, index.problems.crowds), (1, 1))

    @parameterized.parameters("Unspecified", "-1", "2", "nan", "1_0")
    def test_difficult_that_is_neither_is_noted_and_the_box_kept(self, text):
        self.read(CELL)
        index = self.rewrite("<name>cell", f"<difficult>{text}</difficult><name>cell")
        self.assertEqual((index.problems.boxes, index.problems.crowds), (1, 0))
        self.assertEqual(
            dict(index.problems.notes), {"flag that is neither yes nor no, taken for no": ("train/a.xml:3",)}
        )

    @parameterized.parameters(
        "<polygon><x1>3</x1><y1>4</y1><x2>9.5</x2><y2>4</y2><x3>6</x3><y3>8</y3></polygon>",
        "<polygon><username>a</username>"
        "<pt><x>3</x><y>4</y></pt><pt><x>9.5</x><y>4</y></pt><pt><x>6</x><y>8</y></pt></polygon>",
    )
    def test_polygon_gives_its_box_where_there_is_no_other(self, polygon):
        box = "<bndbox><xmin>1</xmin><ymin>2</ymin><xmax>11</xmax><ymax>12</ymax></bndbox>"
        self.read(CELL)
        self.assert_equal(self.rewrite(box, box + polygon).records[0].boxes, [[1, 2, 11, 12]])
        index = self.rewrite(box, "")
        self.assert_equal(index.records[0].boxes, [[3, 4, 9.5, 8]])
        self.assertEqual(dict(index.problems.notes), {"box taken from the outline": ("train/a.xml:3",)})

    def test_objects_in_a_list_of_their_own(self):
        self.read(CELL, ("wall", 5, 5, 9, 9))
        file = self.folder / "train/a.xml"
        text = (
            file.read_text().replace("</size>", "</size><objects>").replace("</annotation>", "</objects></annotation>")
        )
        file.write_text(text)
        index = load_index(self.folder, "train")
        self.assertEqual(index.class_names, ("cell", "wall"))
        self.assertLen(index.records[0].labels, 2)

    def test_names_with_spaces_and_marks_in_lists(self):
        """A line counts as a whole where an image has that name; else -1, 0 or 1 at its end is a mark."""
        names = ("photo 0", "photo 1", "photo -1", "photo", "c", "d 1")
        write_images(self.folder / "JPEGImages", [(f"{name}.png", 40, 20) for name in names])
        (self.folder / "Annotations").mkdir()
        (self.folder / "ImageSets/Main").mkdir(parents=True)
        for name in names:
            (self.folder / f"Annotations/{name}.xml").write_text(voc_xml([CELL], 40, 20))
        (self.folder / "ImageSets/Main/train.txt").write_text("photo 0\nphoto -1\nc\t-1\nd 1 1\nghost 1\n")
        (self.folder / "ImageSets/Main/val.txt").write_text("photo  1\nphoto 1\n")
        found = {split: load_index(self.folder, split) for split in ("train", "val")}
        read = {
            split: [image["file_name"].removesuffix(".png") for image in index.truth["images"]]
            for split, index in found.items()
        }
        self.assertCountEqual(read["train"], ["photo 0", "photo -1", "c", "d 1"])
        self.assertCountEqual(read["val"], ["photo", "photo 1"])
        self.assertEqual(dict(found["train"].problems.problems), {"name in a list without image": ("ghost",)})

    def test_box_given_twice(self):
        index = self.read(CELL, CELL)
        self.assertLen(index.records[0].labels, 1)
        self.assertEqual(dict(index.problems.problems), {"box given twice": ("train/a.xml:4",)})

    @parameterized.parameters("", "<size><width>0</width><height>0</height></size>", "<size/>")
    def test_size_that_is_not_given_is_the_image_s(self, size):
        self.read(CELL)
        index = self.rewrite("<size><width>40</width><height>20</height><depth>3</depth></size>", size)
        self.assertEqual((index.records[0].height, index.records[0].width), (20, 40))

    def test_size_of_another_image(self):
        self.read(CELL)
        with self.assertRaisesRegex(InputError, "image size differs"):
            self.rewrite("<width>40<", "<width>41<")

    @parameterized.parameters(
        ("not closed", "<annotation><object>", "a.xml:1: expected XML"),
        ("text", "cell 1 2 3", "a.xml:1: expected XML"),
        ("empty", "", "a.xml:1: expected XML"),
        ("unknown_encoding", '<?xml version="1.0" encoding="x"?><annotation/>', "a.xml: expected XML in UTF-8"),
        ("deep", "<a>" * 100, "a.xml:1: expected 16 levels"),
        ("entities", BOMB, "a.xml:2: expected XML without a document type"),
        ("file", '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]>\n<a>&x;</a>', "without a document type"),
    )
    def test_xml_that_is_refused(self, _, text, reason):
        self.read(CELL, images=[("a.png", 40, 20)])
        write_voc(self.folder, {"b": [CELL]}, images=[("b.png", 40, 20)])
        (self.folder / "train/a.xml").write_text(text)
        index = load_index(self.folder, "train")
        self.assertLen(index.records, 1)
        [(kind, (problem,))] = index.problems.problems.items()
        self.assertEqual(kind, "image or XML that cannot be read")
        self.assertIn(reason, problem)
        self.assertNotIn(str(self.folder), problem)

    def test_encodings(self):
        self.read(("z\u00e4hler", 1, 2, 11, 12))
        text = (self.folder / "train/a.xml").read_text()
        for encoding in ("utf-8", "utf-8-sig", "iso-8859-1", "utf-16"):
            head = f'<?xml version="1.0" encoding="{encoding.removesuffix("-sig")}"?>\r\n'
            (self.folder / "train/a.xml").write_bytes((head + text).encode(encoding))
            self.assertEqual(load_index(self.folder, "train").class_names, ("z\u00e4hler",))

    def test_what_has_no_partner(self):
        self.read(CELL, images=[("a.png", 40, 20), ("b.png", 40, 20)])
        (self.folder / "train/c.xml").write_text(voc_xml([CELL], 40, 20))
        problems = load_index(self.folder, "train").problems.problems
        self.assertEqual(dict(problems), {"image without XML": ("b.png",), "XML without image": ("train/c.xml",)})

    def test_one_xml_is_for_one_image(self):
        """Neither the masks of a development kit nor an image of another split with the same name get it too."""
        write_images(self.folder / "JPEGImages", [("a.jpg", 40, 20)])
        for folder in ("SegmentationClass", "SegmentationObject"):
            write_images(self.folder / folder, [("a.png", 40, 20)])
        (self.folder / "Annotations").mkdir()
        (self.folder / "Annotations/a.xml").write_text(voc_xml([CELL], 40, 20))
        index = load_index(self.folder, "train")
        self.assertLen(index.records, 1)
        self.assertEmpty(index.problems.problems)
        write_images(self.folder / "val", [("a.jpg", 40, 20), ("b.jpg", 40, 20)])
        (self.folder / "val/b.xml").write_text(voc_xml([CELL], 40, 20))
        self.assertEqual(dict(load_index(self.folder, "val").problems.problems), {"image without XML": ("a.jpg",)})

    def test_xml_is_not_for_an_image_of_another_split(self):
        """train/a.xml has lost its image; val/a.png keeps its own XML, and val/b.png gets none."""
        self.read(CELL, images=[("a.png", 40, 20), ("b.png", 40, 20), ("c.png", 40, 20)])
        for name in ("a", "b", "c"):
            (self.folder / f"train/{name}.xml").write_text(voc_xml([CELL], 40, 20))
        for name in ("a", "b"):
            (self.folder / f"train/{name}.png").unlink()
        images = [("a.png", 40, 20), ("b.png", 40, 20)]
        write_voc(self.folder, {"a": [("cell", 5, 5, 9, 9)]}, images=images, split="val")
        val, train = load_index(self.folder, "val"), load_index(self.folder, "train").problems
        self.assert_equal([record.boxes for record in val.records], [[[5, 5, 9, 9]]])
        self.assertEqual(dict(val.problems.problems), {"image without XML": ("b.png",)})
        self.assertEqual(dict(train.problems), {"XML without image": ("train/a.xml", "train/b.xml")})
        self.assertEqual((train.boxes, train.boxes_in_files), (1, 3))

    def test_names_in_lists(self):
        names = ("my photo", "b", "c.d")
        self.read(CELL, images=[("a.png", 40, 20), *((f"{name}.png", 40, 20) for name in names)])
        for name in names:
            (self.folder / f"train/{name}.xml").write_text(voc_xml([CELL], 40, 20))
        (self.folder / "ImageSets/Main").mkdir(parents=True)
        (self.folder / "ImageSets/Main/train.txt").write_text("my photo\nb.png\nc.d  -1\nghost\n")
        index = load_index(self.folder, "train")
        self.assertLen(index.records, 3)
        self.assertEqual(dict(index.problems.problems), {"name in a list without image": ("ghost",)})

    def test_linked_folders_and_capitals(self):
        write_voc(self.folder / "elsewhere", {"a": [CELL]})
        (self.folder / "elsewhere/train/a.xml").rename(self.folder / "elsewhere/train/a.XML")
        (self.folder / "set").mkdir()
        (self.folder / "set/train").symlink_to(self.folder / "elsewhere/train")
        (self.folder / "set/loop").symlink_to(self.folder / "set")
        self.assertLen(load_index(self.folder / "set", "train").records, 1)

    def test_xml_in_a_folder_of_its_own(self):
        self.read(CELL)
        write_voc(self.folder, {"b": [("cell", 5, 5, 9, 9)]}, images=[("b.png", 40, 20)], split="val")
        (self.folder / "voc").mkdir()
        (self.folder / "train/a.xml").rename(self.folder / "voc/a.xml")
        (self.folder / "val/b.xml").rename(self.folder / "voc/b.xml")
        for split, box in (("train", [1, 2, 11, 12]), ("val", [5, 5, 9, 9])):
            self.assert_equal(load_index(self.folder, split).records[0].boxes, [box])

    def test_images_and_xml_in_one_folder_are_all_train(self):
        write_images(self.folder, [("a.png", 40, 20)])
        (self.folder / "a.xml").write_text(voc_xml([CELL], 40, 20))
        self.assertLen(load_index(self.folder, "train").records, 1)

    def test_development_kits_side_by_side(self):
        """VOC2007 and VOC2012: the same names, other boxes, lists of the splits."""
        for year, box in (("VOC2007", (1, 2, 3, 4)), ("VOC2012", (5, 6, 7, 8))):
            root = self.folder / year
            write_images(root / "JPEGImages", [("a.png", 40, 20), ("b.png", 40, 20)])
            (root / "Annotations").mkdir()
            (root / "ImageSets/Main").mkdir(parents=True)
            for name, split in (("a", "train"), ("b", "val")):
                (root / f"Annotations/{name}.xml").write_text(voc_xml([("cell", *box)], 40, 20))
                (root / f"ImageSets/Main/{split}.txt").write_text(f"{name}\n")
            (root / "ImageSets/Main/trainval.txt").write_text("a\nb\n")
        for split in ("train", "val"):
            records = load_index(self.folder, split).records
            self.assert_equal([record.boxes[0] for record in records], [[1, 2, 3, 4], [5, 6, 7, 8]])

    def test_bccd_is_the_same_as_coco_and_voc(self):
        folder = self.real_data("bccd")
        for split in ("train", "val"):
            coco = load_index(folder, split)
            voc = load_index(folder, split, ReadOptions(format="voc", class_names=coco.class_names))
            self.assertEqual(voc.class_names, coco.class_names)
            self.assertEqual(voc.truth["images"], coco.truth["images"])
            for left, right in zip(voc.records, coco.records, strict=True):
                self.assertEqual((left.path, left.height, left.width), (right.path, right.height, right.width))
                self.assert_equal(left.boxes, right.boxes)
                self.assert_equal(left.labels, right.labels)
            scored = [
                [
                    (entry["image_id"], entry["category_id"], entry["bbox"], entry["area"])
                    for entry in truth["annotations"]
                ]
                for truth in (voc.truth, coco.truth)
            ]
            self.assertEqual(*scored)


if __name__ == "__main__":
    absltest.main()
