"""What tells two indices apart."""

import pathlib
import shutil

import tensorflow as tf
from absl.testing import parameterized

from kyolo.data import load_index
from tests.data.sets import annotation, write_set

BOXES = ([1, 1, 5, 5], [2, 3, 6, 4])  # xywh


class FingerprintTest(tf.test.TestCase, parameterized.TestCase):
    def fingerprint(self, folder, *, boxes=BOXES, names=("a.png", "b.png"), width=40):
        folder = pathlib.Path(self.get_temp_dir()) / folder
        shutil.rmtree(folder, ignore_errors=True)
        annotations = [annotation(box, image_id=i, id=i) for i, box in enumerate(boxes, 1)]
        write_set(folder, annotations, images=[(name, width, 20) for name in names])
        return load_index(folder, "train").fingerprint()

    def test_the_folder_does_not_count(self):
        self.assertEqual(self.fingerprint("here"), self.fingerprint("there"))

    def test_counts_images_and_boxes(self):
        self.assertRegex(self.fingerprint("here"), "^2 images, 2 boxes, [0-9a-f]{12}$")

    @parameterized.parameters(
        ({"names": ("a.png", "b.png", "c.png")},),
        ({"names": ("a.png", "c.png")},),
        ({"boxes": BOXES[:1]},),
        ({"boxes": BOXES[::-1]},),
        ({"boxes": ([1, 1, 5, 5], [2, 3, 6, 5])},),
        ({"width": 41},),
    )
    def test_each_of_these_counts(self, change):
        self.assertNotEqual(self.fingerprint("here"), self.fingerprint("there", **change))


if __name__ == "__main__":
    tf.test.main()
