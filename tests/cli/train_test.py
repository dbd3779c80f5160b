"""`kyolo train`: what it says before it trains, and bad input."""

import json
from unittest import mock

from absl.testing import absltest, parameterized

from kyolo import training
from kyolo.config import Config, apply_overrides, config_to_dict, load_config
from kyolo.data.shapes import write_shapes
from kyolo.training.resuming import differences
from kyolo.training.run_folder import create_run
from tests.data.sets import write_yolo
from tests.test_case import ROOT, TestCase

CONFIG = ROOT / "configs" / "yolov8_n.yaml"
SET_MPDIOU = ("--set", "model.num_classes=2", "--set", "model.loss.box.kind=mpdiou")


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
        self.assertEqual(document["frozen_weights"], 0)
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

    @parameterized.parameters((True, "; continue with kyolo train --resume --output '{run}'"), (False, ""))
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

    @parameterized.parameters(
        ({"a": "0 0.5 0.5 0.5 0.5 0.9\n"}, "got none: all 1 in the annotations are skipped", "Remove the last column"),
        ({"a": ""}, "got 1 images without annotations", "Check that the labels"),
    )
    def test_no_box_to_train_on(self, rows, *parts):
        write_yolo(self.folder / "set", rows)
        write_yolo(self.folder / "set", {"a": "0 0.5 0.5 0.5 0.5"}, split="val")
        (self.folder / "set/data.yaml").write_text("train: train/images\nval: val/images\nnames: [cell]\n")
        arguments = ["train", "--config", CONFIG, "--data", self.folder / "set", "--output", self.folder / "run"]
        self.assert_bad_input(arguments, "split 'train': expected boxes to train on", *parts)
        self.assertFalse((self.folder / "run").exists())

    def resume(self, *arguments):
        """Resume a run of known settings without training; return exit code, stderr and the config that is trained."""
        run, data = self.folder / "run", self.folder / "set"
        if not run.exists():
            data.mkdir()
            settings = ["model.num_classes=1", "data.class_names=[a]", "train.epochs=2", "data.val_fraction=0.2"]
            settings += ["train.precision=float32", "train.schedule.warmup_epochs=1"]
            create_run(run, load_config(CONFIG, [*settings, f"data.path={data}"]))
        with mock.patch.object(training, "train", return_value={"ap": 0.5}) as train:
            code, _, stderr = self.run_kyolo("train", "--resume", "--output", run, *arguments)
        return code, stderr, train.call_args and train.call_args.args[0]

    def test_resume_takes_every_option_that_the_run_was_started_with(self):
        options = (
            (), ("--config", CONFIG, "--set", "train.epochs=2", "--val-fraction", "0.2"), ("--set", "train.epochs=2"),
            ("--data", self.folder / "set"), ("--val-fraction", "0.2"),
        )  # fmt: skip
        for arguments in options:
            code, stderr, config = self.resume(*arguments)
            self.assertEqual((code, stderr), (0, ""), arguments)
            self.assertEqual(differences(load_config(self.folder / "run" / "config.yaml"), config), [])

    @parameterized.parameters(
        (["--set", "train.epochs=9"], "--set train.epochs: expected 2, as in the run, got 9"),
        (
            ["--set", "train.batch_size=4", "--strict"],
            "--set train.batch_size: expected 16",
            "--strict: expected False",
        ),
        (["--val-fraction", "0.3"], "--val-fraction: expected 0.2, as in the run, got 0.3"),
        (["--config", CONFIG], f"--config {CONFIG} train.epochs: expected 2, as in the run, got 100"),
        (["--allow-outside"], "--allow-outside: expected False, as in the run, got True"),
        (["--set", "train.tensorboard=false"], "--set train.tensorboard: expected True"),
    )
    def test_resume_names_the_options_that_differ(self, arguments, *parts):
        code, stderr, config = self.resume(*arguments)
        self.assertEqual((code, config), (2, None))
        self.assertRegex(stderr, r"^kyolo: error: [^\n]+ Leave these out to resume [^\n]+\n$")
        for part in parts:
            self.assertIn(part, stderr)

    def test_resume_with_data_at_another_place(self):
        self.resume()
        (self.folder / "moved").mkdir()
        _, _, config = self.resume("--data", self.folder / "moved")
        self.assertEqual(config.data.path, str(self.folder / "moved"))

    def test_dry_run_without_data(self):
        arguments = ["train", "--config", CONFIG, "--set", "model.num_classes=80", "--dry-run"]
        code, stdout, stderr = self.run_kyolo(*arguments)
        self.assertEqual(code, 0, stderr)
        self.assertIn("3,157,184", stdout)
        self.assertIn("8.7", stdout)  # GFLOP, as published with the architecture

    def test_dry_run_reads_the_weights_to_start_from(self):
        arguments = ["train", "--config", CONFIG, "--dry-run", "--set", "model.num_classes=3"]
        missing = self.folder / "none.npz"
        self.assert_bad_input([*arguments, "--set", f"model.weights={missing}"], "No checkpoint", str(missing))

    def test_dry_run_counts_what_learns(self):
        small = ["--set", "model.backbone.size=p", "--set", "model.num_classes=80", "--dry-run", "--json"]
        freeze = ["--set", "train.freeze=[backbone, neck, top, head/P3, head/P4]"]
        code, stdout, stderr = self.run_kyolo("train", "--config", CONFIG, *small, *freeze)
        self.assertEqual(code, 0, stderr)
        document = json.loads(stdout)
        # The branches of P5 in the head: 3x3 convolutions 128 -> 64 -> 64 for boxes and 128 -> 80 -> 80 for classes,
        # two weights a channel in the norms, then 64 -> 4 x 16 and 80 -> 80 with biases.
        boxes = 9 * 128 * 64 + 9 * 64 * 64 + 4 * 64 + 64 * 64 + 64
        classes = 9 * 128 * 80 + 9 * 80 * 80 + 4 * 80 + 80 * 80 + 80
        self.assertEqual(document["trainable_weights"], boxes + classes)
        self.assertIn(f"{boxes + classes:,} ({document['frozen_weights']:,} frozen)", stderr)

    @parameterized.parameters(
        (["freeze=[backbone, head/P7]"], "train.freeze.1", "head/P3, head/P4, head/P5", "'head/P7'"),
        (["freeze=[backbone, top, neck, head]"], "train.freeze:", "left to train"),
        (["optimizer.learning_rate_factors={tail: 2}"], "learning_rate_factors.tail:", "backbone, top, neck, head"),
        (["freeze=[neck]", "optimizer.learning_rate_factors={neck: 2}"], "factors.neck:", "got frozen ones"),
    )
    def test_names_of_layers_are_checked(self, settings, *parts):
        small = ["--set", "model.backbone.size=p", "--set", "model.num_classes=2", "--dry-run"]
        overrides = [part for setting in settings for part in ("--set", f"train.{setting}")]
        self.assert_bad_input(["train", "--config", CONFIG, *small, *overrides], *parts)

    def test_more_batches_to_accumulate_than_there_are(self):
        write_shapes(self.folder / "shapes", train=5, val=1, image_size=64)
        few = ["train.batch_size=4", "train.epochs=3", "train.schedule.warmup_epochs=1"]
        overrides = [part for setting in [*few, "train.optimizer.accumulate_steps=7"] for part in ("--set", setting)]
        arguments = ["train", "--config", CONFIG, "--data", self.folder / "shapes", *overrides]
        code, _, stderr = self.run_kyolo(*arguments, "--output", self.folder / "run")
        self.assertEqual(code, 2)
        self.assertIn("train.optimizer.accumulate_steps: expected at most 6", stderr)
        self.assertFalse((self.folder / "run").exists())

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
        (
            ["--config", CONFIG, "--dry-run", *SET_MPDIOU, "--set", "augment.multi_scale=0.5"],
            "model.loss.box.image_size",
            "augment.multi_scale",
        ),
        (["--resume"], "--output is missing"),
        (["--resume", "--output", "/no/run"], "/no/run"),
    )
    def test_bad_input_is_one_line(self, arguments, *parts):
        self.assert_bad_input(["train", *arguments], *parts)


if __name__ == "__main__":
    absltest.main()
