"""`kyolo train`: what it says before it trains, and bad input."""

import json
from unittest import mock

from absl.testing import absltest, parameterized

from kyolo import training
from kyolo.config import Config, apply_overrides, config_to_dict
from kyolo.data.shapes import write_shapes
from kyolo.training.run_folder import create_run
from tests.test_case import ROOT, TestCase

CONFIG = ROOT / "configs" / "yolov8_n.yaml"


class TrainTest(TestCase):
    def test_dry_run_describes_model_and_data_and_writes_nothing(self):
        write_shapes(self.folder / "shapes", train=2, val=1, image_size=64)
        before = sorted(self.folder.rglob("*"))
        arguments = ["train", "--config", CONFIG, "--data", self.folder / "shapes", "--output", self.folder / "run"]
        code, stdout, _ = self.run_kyolo(*arguments, "--dry-run", "--json")
        self.assertEqual(code, 0)
        document = json.loads(stdout)
        self.assertEqual(document["config"]["model"]["num_classes"], 5)
        self.assertEqual(document["config"]["data"]["class_names"], ["circle", "square", "triangle", "star", "ring"])
        self.assertEqual(document["config"]["data"]["path"], str(self.folder / "shapes"))
        # The class branch has two 3x3 convolutions with batch norm, W wide, and a 1x1 to K with bias, on levels of
        # C = 64, 128, 256 channels: 9CW + 2W + 9WW + 2W + WK + K. W = max(64, min(K, 100)) is 80 at K = 80 and 64 at 5:
        # 720 * 448 + 3 * 64,400 = 515,760 become 576 * 448 + 3 * 37,445 = 370,383 of the published 3,157,184.
        self.assertEqual(document["trainable_weights"], 3_157_184 - 515_760 + 370_383)
        self.assertEqual(sorted(self.folder.rglob("*")), before)

    def test_takes_the_config_of_a_run(self):
        write_shapes(self.folder / "shapes", train=2, val=1, image_size=64)
        names = "data.class_names=[circle, square, triangle, star, ring]"
        settings = ["model.backbone.size=p", "model.num_classes=5", names, f"data.path={self.folder / 'shapes'}"]
        run = create_run(self.folder / "run", apply_overrides(Config(), settings))
        code, stdout, stderr = self.run_kyolo("train", "--config", run.path / "config.yaml", "--dry-run", "--json")
        self.assertEqual(code, 0, stderr)
        config = json.loads(stdout)["config"] | {"train": None}  # There `auto` has become a precision.
        self.assertEqual(config, config_to_dict(run.config) | {"train": None})

    @parameterized.parameters((True, "; go on by kyolo train --resume --output '{run}'"), (False, ""))
    def test_an_interrupted_run_says_how_to_go_on_where_there_is_one(self, begun, advice):
        run = self.folder / "my run"

        def interrupted(*_, **__):
            if begun:
                create_run(run, apply_overrides(Config(), ["model.num_classes=1", "data.class_names=[a]"]))
            raise KeyboardInterrupt

        with mock.patch.object(training, "train", interrupted):
            code, stdout, stderr = self.run_kyolo("train", "--config", CONFIG, "--output", run)
        self.assertEqual((code, stdout), (130, ""))
        self.assertEqual(stderr, f"kyolo: interrupted{advice.format(run=run)}\n")

    def test_dry_run_without_data(self):
        arguments = ["train", "--config", CONFIG, "--set", "model.num_classes=80", "--dry-run"]
        code, stdout, stderr = self.run_kyolo(*arguments)
        self.assertEqual(code, 0, stderr)
        self.assertIn("3,157,184", stdout)
        self.assertIn("8.7", stdout)  # GFLOP, as published with the architecture

    @parameterized.parameters(
        (["--output", "run"], "--config is missing"),
        (["--config", CONFIG], "--output is missing"),
        (["--config", CONFIG, "--output", "run"], "data.path", "--data"),
        (["--config", "no.yaml", "--data", "x", "--output", "run"], "no.yaml", "No such file"),
        (["--config", CONFIG, "--data", "/no/set", "--output", "run"], "/no/set"),
        (["--config", CONFIG, "--output", "run", "--set", "train.epochs"], "train.epochs=60", "'train.epochs'"),
        (["--config", CONFIG, "--output", "run", "--set", "train.epoch=3"], "did you mean epochs?"),
        (["--config", CONFIG, "--output", "run", "--set", "train.epochs=x"], "train.epochs", "whole number"),
        (["--config", CONFIG, "--output", "run", "--set", "model.levels=[P3, P5]"], "model.levels", "consecutive"),
        (["--config", CONFIG, "--output", "run", "--set", "data.image_size=100"], "data.image_size", "32"),
        (["--config", CONFIG, "--dry-run"], "model.num_classes"),
        (["--resume"], "--output is missing"),
        (["--resume", "--output", "/no/run"], "/no/run"),
        (["--resume", "--output", "run", "--set", "train.epochs=9", "--strict"], "received --set, --strict too"),
    )
    def test_bad_input_is_one_line(self, arguments, *parts):
        self.assert_bad_input(["train", *arguments], *parts)


if __name__ == "__main__":
    absltest.main()
