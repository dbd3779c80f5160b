"""`kyolo predict`: documents, pictures, and what bad input leaves behind."""

import json

import numpy as np
from absl.testing import absltest
from PIL import Image

from kyolo.data.shapes import CLASS_NAMES
from tests.cli.run_case import RunTestCase


class PredictTest(RunTestCase):
    weak = ("--set", "evaluation.confidence=1.0e-6", "--set", "evaluation.max_detections=3")

    def predict(self, *arguments):
        return self.run_kyolo("predict", "--run", self.folder / "run", *arguments)

    def test_json_lines_pictures_and_file(self):
        output = self.folder / "out" / "pictures"
        code, stdout, stderr = self.predict(self.shapes / "val", "--output", output, "--json", *self.weak)
        self.assertEqual(code, 0, stderr)
        documents = [json.loads(line) for line in stdout.splitlines()]
        self.assertEqual([d["image"] for d in documents], sorted(str(path) for path in (self.shapes / "val").iterdir()))
        for document in documents:
            self.assertEqual(list(document), ["image", "boxes", "scores", "labels", "names"])
            self.assertBetween(len(document["boxes"]), 1, 3)
            self.assertEqual(np.shape(document["boxes"]), (len(document["labels"]), 4))
            self.assertEqual(document["names"], [CLASS_NAMES[label] for label in document["labels"]])
        self.assertEqual((output / "predictions.jsonl").read_text(), stdout)
        self.assertCountEqual(
            [path.name for path in output.iterdir()], ["000000.jpg", "000001.jpg", "000002.jpg", "predictions.jsonl"]
        )
        self.assertEqual(Image.open(output / "000000.jpg").size, (64, 64))
        self.assertEqual([path.name for path in output.parent.iterdir()], ["pictures"])

    def test_defaults_show_sure_detections_only(self):
        code, stdout, _ = self.predict(f"{self.shapes}/val/*1.jpg")
        self.assertEqual((code, stdout), (0, f"{self.shapes}/val/000001.jpg: nothing\n"))

    def test_image_that_is_none_leaves_nothing_behind(self):
        bad = self.shapes / "val" / "000003.jpg"
        bad.write_bytes(b"no image")
        code, _, stderr = self.predict(self.shapes / "val", "--output", self.folder / "pictures", *self.weak)
        self.assertEqual(code, 2)
        self.assertRegex(stderr, rf"^kyolo: error: [^\n]*{bad.name}[^\n]*\n$")
        self.assertEqual(sorted(path.name for path in self.folder.iterdir()), ["run", "shapes"])

    def test_output_in_use_is_left_alone(self):
        output = self.folder / "pictures"
        output.mkdir()
        (output / "mine.txt").write_text("mine")
        self.assert_bad_input(
            ["predict", "--run", self.folder / "run", self.shapes / "val", "--output", output], output, "new or empty"
        )
        self.assertEqual([path.name for path in output.iterdir()], ["mine.txt"])

    def test_empty_output_folder_is_taken(self):
        output = self.folder / "pictures"
        output.mkdir()
        self.assertEqual(self.predict(self.shapes / "val", "--output", output)[0], 0)
        self.assertLen(list(output.iterdir()), 4)

    def test_two_images_of_one_name_are_refused(self):
        paths = [self.shapes / "val" / "000000.jpg", self.shapes / "train" / "000000.jpg"]
        arguments = ["predict", "--run", self.folder / "run", *paths, "--output", self.folder / "pictures"]
        self.assert_bad_input(arguments, "different names", "000000.jpg")

    def test_missing_path_is_named(self):
        self.assert_bad_input(["predict", "--run", self.folder / "run", self.folder / "no.jpg"], "no.jpg")

    def test_settings_of_the_training_are_refused(self):
        self.assert_bad_input(
            ["predict", "--run", self.folder / "run", self.shapes / "val", "--set", "train.epochs=3"], "train.epochs"
        )


if __name__ == "__main__":
    absltest.main()
