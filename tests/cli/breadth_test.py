"""The whole way with data at the edges: one class and a thousand, nothing in an image and 1,500 boxes, not square."""

import json

import numpy as np
import pytest
from absl.testing import absltest

from tests.data.sets import annotation, write_set
from tests.test_case import ROOT, TestCase

SETTINGS = ("train.epochs=1", "train.schedule.warmup_epochs=0", "train.batch_size=2", "train.tensorboard=false")
SETTINGS += ("model.levels=[P4, P5]",)


@pytest.mark.slow
class BreadthTest(TestCase):
    def kyolo(self, *arguments):
        code, stdout, stderr = self.run_kyolo(*arguments, "--json")
        self.assertEqual(code, 0, stderr)
        return [json.loads(line) for line in stdout.splitlines()]

    def train(self, *settings):
        run = self.folder / "run"
        sets = (part for setting in (*SETTINGS, *settings) for part in ("--set", setting))
        command = (
            "train",
            "--config",
            ROOT / "configs/quickstart.yaml",
            "--data",
            self.folder / "set",
            "--output",
            run,
        )
        self.kyolo(*command, *sets)
        history = (run / "history.csv").read_text().splitlines()
        loss = dict(zip(history[0].split(","), history[1].split(","), strict=True))["loss"]
        self.assertTrue(np.isfinite(float(loss)))
        return run

    def test_one_class_images_without_objects_not_square(self):
        images = [(f"{i}.png", 100 + i, 50 + 30 * i) for i in range(4)]
        for split in ("train", "val"):
            write_set(self.folder / "set", [annotation([5, 5, 30, 20], image_id=2)], images=images, split=split)
        run = self.train("data.image_size=[64, 128]")
        [metrics] = self.kyolo("evaluate", "--run", run)
        self.assertEqual(list(metrics["per_class"]), ["cell"])
        found = self.kyolo("predict", "--run", run, self.folder / "set/val", "--output", self.folder / "pictures")
        self.assertLen(found, 4)
        for target in ("tflite", "saved_model"):
            [report] = self.kyolo("export", "--run", run, "--to", target, "--output", self.folder / target)
            self.assertEqual(report["images"], 4)

    def test_a_thousand_classes_and_1500_boxes_in_an_image(self):
        categories = [{"id": i, "name": f"class {i}"} for i in range(1, 1001)]
        grid = [annotation([6 * (i % 50), 8 * (i // 50), 5, 7], category_id=1 + i % 1000) for i in range(1500)]
        for split in ("train", "val"):
            write_set(
                self.folder / "set",
                grid,
                images=[("a.png", 320, 256), ("b.png", 64, 64)],
                categories=categories,
                split=split,
            )
        run = self.train("data.image_size=64", "augment.mosaic=1.0")
        report = json.loads((run / "data_report.json").read_text())
        self.assertEqual((report["train"]["boxes"], len(report["train"]["boxes_per_class"])), (1500, 1000))
        [metrics] = self.kyolo("evaluate", "--run", run)
        self.assertLen(metrics["per_class"], 1000)


if __name__ == "__main__":
    absltest.main()
