"""A small run from beginning to end: its folder, and that stopping and going on changes nothing."""

import contextlib
import csv
import io
import json
import pathlib
import shutil
import tempfile
from unittest import mock

import numpy as np
import tensorflow as tf

from kyolo.config import Config, ConfigError, apply_overrides, load_config
from kyolo.data import write_shapes
from kyolo.errors import InputError
from kyolo.training import fit
from kyolo.training.checkpoint import load_checkpoint
from kyolo.training.fit import train
from kyolo.training.run_folder import WRITTEN, locked, open_run
from kyolo.training.start import start_detector

SETTINGS = (
    "model.backbone.size=p", "model.levels=[P4, P5]",
    "data.image_size=64", "train.epochs=2", "train.batch_size=4", "train.precision=float32",
    "train.schedule.warmup_epochs=0.5", "augment.close_mosaic=1", "train.checkpoint_every=2",
    "model.loss.box.kind=wiou",  # whose mean is state of the run too
    "data.repeat_threshold=0.4", "augment.multi_scale=0.5",  # 12 images an epoch, of 10
)  # fmt: skip


class Stop(Exception):
    """Stands for whatever ends a process."""


def quiet_train(*args, **kwargs):
    with contextlib.redirect_stderr(io.StringIO()):
        return train(*args, **kwargs)


class TrainTest(tf.test.TestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.folder = pathlib.Path(tempfile.mkdtemp())
        write_shapes(cls.folder / "data", train=10, val=4, image_size=64)
        cls.config = apply_overrides(Config(), [*SETTINGS, f"data.path={cls.folder / 'data'}"])
        with contextlib.redirect_stderr(io.StringIO()) as log:
            cls.metrics = train(cls.config, cls.folder / "run")
        cls.log = log.getvalue()

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.folder)
        super().tearDownClass()

    def test_folder(self):
        run = self.folder / "run"
        resolved = load_config(run / "config.yaml")
        self.assertEqual(resolved.data.class_names, ("circle", "square", "triangle", "star", "ring"))
        self.assertEqual(resolved.model.num_classes, 5)
        self.assertEqual(json.loads((run / "metrics.json").read_text()), self.metrics)
        with open(run / "history.csv") as file:
            rows = list(csv.DictReader(file))
        self.assertEqual([row["epoch"] for row in rows], ["1", "2"])
        self.assertTrue(all(float(row["loss"]) > 0 for row in rows))
        self.assertTrue(all(0 <= float(row["val_ap"]) <= 1 for row in rows))
        report = json.loads((run / "data_report.json").read_text())
        self.assertEqual(sorted(report), ["train", "val"])
        self.assertEqual(json.loads((run / "environment.json").read_text())["versions"]["tensorflow"], tf.__version__)
        self.assertTrue(list((run / "tensorboard").iterdir()))
        files = {path.relative_to(run).as_posix() for path in run.rglob("*") if path.is_file()}
        self.assertEqual({name for name in files if not name.startswith("tensorboard/")}, set(WRITTEN))
        self.assertFalse((run / "run.lock").exists())

    def test_says_how_many_images_an_epoch_shows(self):
        self.assertIn("an epoch shows 12 images: of the 10, ", self.log)

    def test_metrics(self):
        for key in ("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large", "per_class", "epoch", "protocol"):
            self.assertIn(key, self.metrics)

    def test_steps_are_counted_through(self):
        state = load_checkpoint(self.folder / "run" / "weights" / "last.npz").state
        self.assertEqual(state["step"], 2 * 3)  # 2 epochs of 12 / 4

    def test_weights_load_with_the_average(self):
        detector = open_run(self.folder / "run").load_detector("last")
        average = load_checkpoint(self.folder / "run" / "weights" / "last.npz").group("ema")
        self.assertCountEqual([variable.path for variable in detector.variables], average)
        for variable in detector.variables:
            self.assertAllEqual(variable, average[variable.path], msg=variable.path)

    def test_the_mean_of_the_box_loss_is_kept(self):
        (mean,) = load_checkpoint(self.folder / "run" / "weights" / "last.npz").group("loss").values()
        self.assertBetween(float(mean), 0.9, 0.9999)  # from 1, by steps of a hundredth

    def test_deterministic_operations_come_first(self):
        config = apply_overrides(self.config, ["train.deterministic=true"])
        with mock.patch.object(tf.config.experimental, "enable_op_determinism", side_effect=Stop):
            with self.assertRaises(Stop):
                quiet_train(config, self.folder / "new")
            data = mock.patch.object(fit, "load_splits", side_effect=InputError("reached"))
            with data, self.assertRaisesRegex(InputError, "reached"):
                quiet_train(self.config, self.folder / "new")

    def test_refuses_a_folder_with_a_run(self):
        before = {path: path.read_bytes() for path in (self.folder / "run").rglob("*") if path.is_file()}
        with self.assertRaisesRegex(InputError, "holds another run"):
            quiet_train(self.config, self.folder / "run")
        self.assertEqual(before, {path: path.read_bytes() for path in before})

    def test_bad_input_leaves_no_folder(self):
        for key in ("data.path", "model.weights", "model.backbone.weights"):
            config = apply_overrides(self.config, [f"{key}={self.folder / 'nothing'}"])
            with self.assertRaises(InputError, msg=key):
                quiet_train(config, self.folder / "new")
            self.assertFalse((self.folder / "new").exists(), key)

    def test_two_processes_cannot_train_one_run(self):
        with locked(self.folder / "run"), self.assertRaisesRegex(InputError, "another process"):  # noqa: SIM117
            with locked(self.folder / "run"):
                self.fail("the lock was given twice")

    def test_weights_carried_over(self):
        config = apply_overrides(self.config, [f"model.weights={self.folder / 'run'}", "model.num_classes=5"])
        with contextlib.redirect_stderr(io.StringIO()):
            detector = start_detector(config)
        best = load_checkpoint(self.folder / "run" / "weights" / "best.npz").group("ema")
        for variable in detector.variables:
            self.assertAllEqual(variable, best[variable.path], msg=variable.path)

    def test_weights_that_are_left_out(self):
        for skip, skipped in (("[sppf]", "top/sppf"), ("[head/P4_box_1]", "head/P4_box_1")):
            weights = f"model.weights={{path: {self.folder / 'run'}, skip: {skip}}}"
            config = apply_overrides(self.config, [weights, "model.num_classes=5"])
            with contextlib.redirect_stderr(io.StringIO()) as report:
                detector = start_detector(config)
            self.assertRegex(report.getvalue(), r"0 mismatched, [1-9]\d* skipped")
            best = load_checkpoint(self.folder / "run" / "weights" / "best.npz").group("ema")
            for variable in detector.variables:
                if variable.path.endswith("kernel"):
                    same = np.array_equal(variable, best[variable.path])
                    self.assertEqual(same, not variable.path.startswith(f"{skipped}/"), msg=variable.path)
        config = apply_overrides(
            self.config, [f"model.weights={{path: {self.folder / 'run'}, skip: [spp]}}", "model.num_classes=5"]
        )
        with self.assertRaisesRegex(ConfigError, "model.weights.skip: expected a part .*received 'spp'"):
            start_detector(config)

    def test_weights_of_a_part_and_of_other_levels(self):
        """What does not fit is an error unless it is left out; the branch of the classes too."""
        run = self.folder / "run"
        whole = f"model.weights={{path: {run}, skip: [backbone]}}"
        with contextlib.redirect_stderr(io.StringIO()):
            detector = start_detector(apply_overrides(self.config, [whole, "model.num_classes=5"]))
        best = load_checkpoint(run / "weights" / "best.npz").group("ema")
        self.assertNotAllClose(detector.backbone.get_layer("stem_1_conv").kernel, best["stem_1_conv/kernel"])
        other = apply_overrides(self.config, [f"model.weights={run}", "model.num_classes=5", "model.head.width=0.5"])
        with self.assertRaisesRegex(ConfigError, "^model.weights: expected weights whose shapes agree"):  # noqa: SIM117
            with contextlib.redirect_stderr(io.StringIO()):
                start_detector(other)

    def test_weights_of_another_kind_of_file(self):
        (self.folder / "a.weights.h5").touch()
        config = apply_overrides(self.config, [f"model.weights={self.folder / 'a.weights.h5'}", "model.num_classes=5"])
        with self.assertRaisesRegex(ConfigError, "^model.weights: expected the folder of a run or an .npz checkpoint"):
            start_detector(config)

    def test_damaged_weights_are_refused(self):
        copy = self.folder / "damaged"
        shutil.copytree(self.folder / "run", copy)
        file = copy / "weights" / "best.npz"
        file.write_bytes(file.read_bytes()[:5000])
        with self.assertRaisesRegex(InputError, "Damaged checkpoint"):
            open_run(copy).load_detector()


if __name__ == "__main__":
    tf.test.main()
