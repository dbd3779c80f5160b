"""The scripts in tools/ and examples/, as a user runs them from a clone."""

import importlib.util
import json
import os
import pathlib
import subprocess
import sys

import keras
import pytest
from absl.testing import absltest, parameterized

import kyolo
from kyolo.data.shapes import write_shapes
from tests.test_case import ROOT, TestCase
from tests.web.browser import MISSING, served, use_page

TOOLS = sorted((ROOT / "tools").glob("*.py"))


def run_script(path, *arguments):
    """Run a script somewhere else than in the clone; only the example needs kyolo on its path."""
    command = [sys.executable, str(path), *map(str, arguments)]
    path = {"PYTHONPATH": str(ROOT)} if path.parent.name == "examples" else {}
    return subprocess.run(command, cwd="/", env=os.environ | path, capture_output=True, text=True, check=False)


class ToolsTest(TestCase):
    @parameterized.named_parameters((path.stem, path) for path in TOOLS)
    def test_help(self, path):
        done = run_script(path, "--help")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("--output", done.stdout + "--output" * (path.stem in ("evaluate", "describe")))

    def test_bad_input_ends_with_2_and_one_line(self):
        done = run_script(ROOT / "tools" / "train.py", "--config", "no.yaml", "--output", "run")
        self.assertEqual((done.returncode, done.stdout), (2, ""))
        self.assertRegex(done.stderr, r"^kyolo: error: [^\n]*no.yaml[^\n]*\n$")

    def test_quickstart_leaves_an_existing_folder_alone(self):
        done = run_script(ROOT / "tools" / "quickstart.py", "--output", self.folder)
        self.assertEqual(done.returncode, 2)
        self.assertIn(str(self.folder), done.stderr)
        self.assertEmpty(list(self.folder.iterdir()))


def quickstart(test, *arguments):
    """Run the quickstart; return its folder, its scores and what it prints."""
    output = test.folder / "quickstart"
    done = run_script(ROOT / "tools" / "quickstart.py", "--output", output, *arguments)
    test.assertEqual(done.returncode, 0, done.stderr)
    return output, json.loads((output / "summary.json").read_text()), done.stdout


@pytest.mark.slow
class QuickstartTest(TestCase):
    def test_quickstart_learns_shapes(self):
        output, summary, stdout = quickstart(self)
        for name in ("keras", "tflite"):
            self.assertGreaterEqual(summary[name]["ap50"], 0.90)
            self.assertGreaterEqual(summary[name]["ap"], 0.60)
        for path in ("data", "run", "detector.tflite", "pictures"):
            self.assertTrue((output / path).exists())
            self.assertIn(str(output / path), stdout)
        self.check_predict_agrees_with_evaluate(output, summary["keras"])
        if not MISSING:  # tests/web says so when it skips
            self.check_page_shows_what_predict_finds(output)

    def check_page_shows_what_predict_finds(self, output):
        """examples/web, on a validation image, lists the boxes that Keras finds."""
        image = sorted((output / "data" / "val").iterdir())[0]
        code, line, stderr = self.run_kyolo("predict", "--run", output / "run", image, "--json")
        self.assertEqual(code, 0, stderr)
        expected = json.loads(line)
        with served(output / "detector.tflite") as url:
            shown = use_page(url, image=image)
        self.assertEqual([row[0] for row in shown["detections"]], expected["names"])
        self.assertGreater(len(expected["names"]), 1)
        for row, score, box in zip(shown["detections"], expected["scores"], expected["boxes"], strict=True):
            found, *sides = map(float, row[1:])
            self.assertAlmostEqual(found, score, delta=1e-3)
            for side, wanted in zip(sides, box, strict=True):
                self.assertAlmostEqual(side, wanted, delta=0.1)

    def check_predict_agrees_with_evaluate(self, output, metrics):
        """pycocotools itself, on the data set's file and what predict printed, gives the AP that evaluate gives."""
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval

        settings = ("--set", "evaluation.confidence=0.001", "--set", "evaluation.multi_label=true")
        code, lines, stderr = self.run_kyolo(
            "predict", "--run", output / "run", output / "data" / "val", *settings, "--json"
        )
        self.assertEqual(code, 0, stderr)
        truth = COCO(str(output / "data" / "annotations" / "instances_val.json"))
        image_ids = {image["file_name"]: image["id"] for image in truth.dataset["images"]}
        category_ids = {category["name"]: category["id"] for category in truth.dataset["categories"]}
        results = [
            {
                "image_id": image_ids[pathlib.Path(document["image"]).name],
                "category_id": category_ids[name],
                "bbox": [x1, y1, x2 - x1, y2 - y1],
                "score": score,
            }
            for document in map(json.loads, lines.splitlines())
            for (x1, y1, x2, y2), score, name in zip(
                document["boxes"], document["scores"], document["names"], strict=True
            )
        ]
        evaluation = COCOeval(truth, truth.loadRes(results), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
        self.assertAlmostEqual(evaluation.stats[0], metrics["ap"], delta=1e-6)
        self.assertAlmostEqual(evaluation.stats[1], metrics["ap50"], delta=1e-6)


@pytest.mark.slow
class ShuffledQuickstartTest(TestCase):
    def test_quickstart_learns_nothing_from_shuffled_labels(self):
        # Half of the epochs: with true labels AP50 is 0.77 after them.
        _, summary, _ = quickstart(self, "--shuffle-labels", "--epochs", 10)
        self.assertLess(summary["keras"]["ap50"], 0.20)


@pytest.mark.slow
class FitExampleTest(TestCase):
    def test_best_file_scores_what_was_logged(self):
        write_shapes(self.folder / "shapes", train=48, val=8, image_size=96)
        output = self.folder / "best.keras"
        sizes = ["--size", "p", "--epochs", "14", "--image-size", "96", "--batch-size", "4"]
        spec = importlib.util.spec_from_file_location("fit_example", ROOT / "examples" / "fit.py")
        example = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(example)
        history = example.main([str(self.folder / "shapes"), str(output), *sizes])
        best = keras.saving.load_model(output)
        self.assertEqual((best.image_size, best.num_classes), ((96, 96), 5))
        val = kyolo.data.make_dataset(self.folder / "shapes", "val", image_size=best.image_size)
        self.assertGreater(max(history["val_ap"]), 0.0)
        self.assertAlmostEqual(kyolo.evaluate(best, val)["ap"], max(history["val_ap"]), delta=1e-6)
        image = self.folder / "shapes" / "val" / sorted(os.listdir(self.folder / "shapes" / "val"))[0]
        self.assertEqual(sorted(best.detect(image)), ["boxes", "labels", "names", "scores"])


if __name__ == "__main__":
    absltest.main()
