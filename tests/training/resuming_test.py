"""What `--resume` takes and refuses, without training: settings, options, data that moved, and what is no run."""

import dataclasses
import random

import numpy as np
from absl.testing import absltest, parameterized

from kyolo.config import Config, apply_overrides, config_to_dict, load_config
from kyolo.errors import InputError
from kyolo.training.checkpoint import Checkpoint, save_checkpoint
from kyolo.training.resolving import fit_warmup
from kyolo.training.resuming import FREE, check_steps, differences, keep_data_path, resumed_config, state_of
from kyolo.training.run_folder import create_run, open_run
from tests.test_case import TestCase

# A setting and another value for it, of every kind: what changes steps, order, shapes, schedule or scores.
FITTING = (
    "train.batch_size=2", "train.epochs=9", "train.seed=1", "train.optimizer.accumulate_steps=2", "data.image_size=128",
    "data.fit=stretch", "augment.mosaic=0.5", "augment.multi_scale=0.5", "model.loss.box.weight=7",
    "train.optimizer.learning_rate_factors={neck: 2}", "train.freeze=[neck]", "evaluation.iou=0.5",
    "train.ema.decay=0.5", "data.dev_fraction=0.1",
    "data.repeat_threshold=0.5", "train.schedule.kind=cosine", "model.attention=[{kind: gam}]",
)  # fmt: skip
HARMLESS = (
    "train.checkpoint_every=5", "train.tensorboard=false", "train.time_limit=60", "data.cache=disk", "data.strict=true",
    "train.evaluate_every=3", "evaluation.batch_size=3", "model.weights={path: gone}",
)  # fmt: skip


class ResumingTest(TestCase):
    def setUp(self):
        super().setUp()
        (self.folder / "set").mkdir()
        settings = ["model.num_classes=1", "data.class_names=[a]", "train.batch_size=4", "train.precision=float32"]
        self.config = apply_overrides(Config(), [*settings, f"data.path={self.folder / 'set'}"])
        self.run_ = create_run(self.folder / "run", self.config)

    def save(self, **state):
        state = {"step": 6, "history": [{"epoch": 3}], **state}
        save_checkpoint(self.run_.weights_path("last"), Checkpoint({"model/a": np.zeros(1)}, state))

    def edit(self, *overrides):
        (self.run_.path / "config.yaml").unlink()
        edited = apply_overrides(self.config, overrides)
        kyolo_run = dataclasses.replace(self.run_, config=edited)
        (self.run_.path / "config.yaml").write_text("{}")
        keep_data_path(kyolo_run)  # writes it, as data.path differs from null
        return edited

    @parameterized.parameters(*FITTING)
    def test_an_edited_setting_that_the_checkpoint_does_not_fit_is_named(self, override):
        self.save(**state_of(self.config, 2))
        self.edit(override)
        name = override.partition("=")[0]
        with self.assertRaisesRegex(InputError, rf"config.yaml: .*last.npz, got others: .*{name}.* Restore them"):
            resumed_config(self.run_.path)

    def test_edited_settings_that_change_nothing_are_taken(self):
        self.save(**state_of(self.config, 2))
        edited = self.edit(*HARMLESS)
        self.assertEqual(resumed_config(self.run_.path), edited)

    def test_random_edits_are_refused_exactly_if_one_of_them_matters(self):
        draw = random.Random(0)
        self.save(**state_of(self.config, 2))
        for _ in range(10):
            harmful = draw.sample(FITTING, draw.randint(0, 2))
            self.edit(*draw.sample(HARMLESS, draw.randint(0, 3)), *harmful)
            if not harmful:
                resumed_config(self.run_.path)
                continue
            with self.assertRaises(InputError) as caught:
                resumed_config(self.run_.path)
            for override in harmful:
                self.assertIn(override.partition("=")[0], str(caught.exception))
            for name in FREE:
                self.assertNotIn(f"{name} (", str(caught.exception))

    def test_a_setting_that_an_older_version_did_not_have_is_its_default(self):
        state = state_of(self.config, 2)
        del state["config"]["augment"], state["config"]["train"]["seed"]
        self.save(**state)
        resumed_config(self.run_.path)
        self.edit("train.seed=5")
        with self.assertRaisesRegex(InputError, "train.seed .expected 0, got 5"):
            resumed_config(self.run_.path)

    def test_a_checkpoint_of_an_older_version_has_no_settings(self):
        self.save()
        self.edit("train.batch_size=2")
        resumed_config(self.run_.path)

    @parameterized.parameters(
        # (step, epochs in the history, steps per epoch that the checkpoint names, steps per epoch now, fits)
        (6, 3, 2, 2, True), (6, 3, None, 2, True), (7, 3, None, 2, True), (1, 0, None, 2, True),
        (6, 3, 2, 4, False), (6, 3, None, 4, False), (6, 3, None, 1, False), (5, 1, None, 2, False),
        (1, 0, 2, 3, False),
    )  # fmt: skip
    def test_steps_per_epoch(self, step, epochs, kept, now, fits):
        state = {"step": step, "history": [{"epoch": epoch + 1} for epoch in range(epochs)]}
        state |= {} if kept is None else {"steps_per_epoch": kept}
        if fits:
            check_steps(self.run_, state, now)
            return
        with self.assertRaisesRegex(
            InputError, f"config.yaml: expected .*, got {now} steps per epoch. Restore train.b"
        ):
            check_steps(self.run_, state, now)

    def test_the_config_that_the_run_was_started_with_is_its_own(self):
        started = apply_overrides(Config(), ["train.batch_size=auto"])  # the rest came from data and machine
        self.assertEqual(differences(self.config, started), [])
        short = apply_overrides(started, ["train.epochs=2"])
        self.assertEqual(differences(fit_warmup(apply_overrides(self.config, ["train.epochs=2"])), short), [])
        self.assertEqual(differences(self.config, short)[0], ("train.epochs", 100, 2))

    @parameterized.parameters(*FITTING, *HARMLESS)
    def test_a_config_that_differs_is_refused_by_name(self, override):
        given = apply_overrides(self.config, [override])
        with self.assertRaisesRegex(InputError, f"^{override.partition('=')[0]}.*: expected .*, as in .*, got "):
            resumed_config(self.run_.path, given)

    def test_data_that_moved(self):
        (self.folder / "set").rename(self.folder / "moved")
        with self.assertRaisesRegex(InputError, f"^{self.folder}/set: expected the data set .* --resume .* --data SET"):
            resumed_config(self.run_.path)
        moved = apply_overrides(self.config, [f"data.path={self.folder / 'moved'}"])
        config = resumed_config(self.run_.path, moved)
        self.assertEqual(config, moved)
        keep_data_path(dataclasses.replace(self.run_, config=config))
        self.assertEqual(config_to_dict(load_config(self.run_.path / "config.yaml")), config_to_dict(moved))


class WarmupTest(parameterized.TestCase):
    @parameterized.parameters(
        (1, 3.0, 0.5), (3, 3.0, 1.5), (4, 3.0, 3.0), (100, 3.0, 3.0), (2, 0.0, 0.0), (1, 1.0, 0.5)
    )
    def test_ends_within_the_training(self, epochs, given, expected):
        config = apply_overrides(Config(), [f"train.epochs={epochs}", f"train.schedule.warmup_epochs={given}"])
        self.assertEqual(fit_warmup(config).train.schedule.warmup_epochs, expected)


class OpenRunTest(TestCase):
    def setUp(self):
        super().setUp()
        self.config = apply_overrides(Config(), ["model.num_classes=1", "data.class_names=[a]"])
        create_run(self.folder / "runs" / "b", self.config)
        create_run(self.folder / "runs" / "a", self.config)
        (self.folder / "runs" / "a" / "weights" / "best.npz").touch()
        (self.folder / "empty").mkdir()
        for name in ("d.tflite", "d.keras", "other/d.npz"):
            (self.folder / name).parent.mkdir(exist_ok=True)
            (self.folder / name).touch()

    @parameterized.parameters(
        ("runs/a/config.yaml", "a part of the run {folder}/runs/a. Pass {folder}/runs/a."),
        ("runs/a/weights", "a part of the run {folder}/runs/a. Pass {folder}/runs/a."),
        ("runs/a/weights/best.npz", "a part of the run {folder}/runs/a. Pass {folder}/runs/a."),
        ("runs", "a folder of 2 runs: a, b. Pass one of them, such as {folder}/runs/a."),
        ("no", "a path that does not exist. Check the path."),
        ("runs/a/no", "a path that does not exist. Check the path."),
        ("empty", "an empty folder. Check the path."),
        ("other", "a folder without config.yaml."),
        ("d.tflite", "a file (.tflite). Pass the directory"),
        ("d.keras", "a file (.keras). Pass the directory"),
        ("other/d.npz", "a file (.npz). Pass the directory"),
    )
    def test_what_is_no_run(self, path, problem):
        with self.assertRaises(InputError) as caught:
            open_run(self.folder / path)
        expected = f"{self.folder / path}: expected a run directory, which `kyolo train` wrote, got "
        self.assertStartsWith(str(caught.exception), expected + problem.format(folder=self.folder))

    def test_a_run(self):
        self.assertEqual(open_run(self.folder / "runs" / "a").config, self.config)


if __name__ == "__main__":
    absltest.main()
