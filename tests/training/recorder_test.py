"""What ends a run and which weights it keeps: the recorder is called as `fit` calls it, and scores are given."""

import contextlib
import io
import pathlib
import shutil
import tempfile
import types
from unittest import mock

import keras
import numpy as np
import tensorflow as tf

import kyolo
from kyolo import registry
from kyolo.config import Config, apply_overrides
from kyolo.data.shapes import CLASS_NAMES
from kyolo.errors import InputError, NonFiniteError
from kyolo.models import build_detector
from kyolo.training import recorder
from kyolo.training.checkpoint import load_checkpoint
from kyolo.training.guard import FiniteGuard
from kyolo.training.recorder import RunRecorder
from kyolo.training.run_folder import create_run, open_run

EPOCHS, STEPS = 4, 3
SETTINGS = (
    "model.backbone.size=p", "model.num_classes=5", "train.schedule.warmup_epochs=0.5", "train.tensorboard=false",
    f"train.epochs={EPOCHS}", f"data.class_names=[{', '.join(CLASS_NAMES)}]",
)  # fmt: skip
ONE_EPOCH = "train.time_limit=0.000001"
LOGS = {"loss": 1.0, "box": 0.5, "classification": 0.25, "dfl": 0.25}


@contextlib.contextmanager
def spoilt(variable):
    """A variable has a NaN."""
    kept = variable.numpy()
    variable.assign(np.full_like(kept, np.nan))
    try:
        yield
    finally:
        variable.assign(kept)


class RecorderTest(tf.test.TestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.config = apply_overrides(Config(), SETTINGS)
        cls.detector = build_detector(cls.config.model)

    def drive(self, scores, *overrides, ema_decay=0.9, data=None, spoilt_step=None):
        """Runs through the epochs with the AP of each evaluation given; returns the run, its state and its metrics."""
        folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
        self.detector.compile(keras.optimizers.SGD(0.1, name="sgd"), ema_decay=ema_decay)
        self.detector.stop_training = False
        self.run_ = run = create_run(folder / "run", apply_overrides(self.config, overrides))
        metrics = [dict.fromkeys(("ap", "ap50", "ap75"), ap) for ap in scores]
        predictor = types.SimpleNamespace(detector=self.detector)
        guard = FiniteGuard(run, STEPS, lambda step: [f"image of step {step}"])
        recorded = RunRecorder(run, predictor, val=None, steps_per_epoch=STEPS, data=data or {}, guard=guard)
        with contextlib.ExitStack() as stack:
            stack.enter_context(mock.patch.object(recorder, "score", side_effect=metrics))
            stack.enter_context(contextlib.redirect_stderr(io.StringIO()))
            for epoch in range(EPOCHS):
                recorded.on_epoch_begin(epoch)
                for batch in range(STEPS):
                    if epoch * STEPS + batch + 1 == spoilt_step:
                        stack.enter_context(spoilt(self.detector.trainable_variables[0]))
                    recorded.on_train_batch_end(batch)
                recorded.on_epoch_end(epoch, LOGS)
                if self.detector.stop_training:
                    break
            best = recorded.finish()
        return run, load_checkpoint(run.weights_path("last")).state, best

    def test_weights_that_an_update_spoilt_are_not_kept(self):
        # Found by a checkpoint after every step, and without one at the end of the epoch.
        for every, found, kept in ((1, 2, 4), (100, 3, 3)):
            problem = (
                f"epoch 2, step {found} of 3: expected finite weights.*image of step {2 + found}; .*last good state"
            )
            with self.assertRaisesRegex(NonFiniteError, problem):
                self.drive([0.1] * EPOCHS, f"train.checkpoint_every={every}", spoilt_step=5)
            self.assertEqual(load_checkpoint(self.run_.weights_path("last")).state["step"], kept)
            best = load_checkpoint(self.run_.weights_path("best"))
            self.assertEqual(best.state["epoch"], 1)
            self.assertTrue(all(np.isfinite(value).all() for value in best.arrays.values()))

    def test_goes_on_with_the_states_of_dropout(self):
        """They have other paths in another build; the masks that follow are those that would have followed."""

        @kyolo.register("attention", "drop")
        class Drop(keras.layers.Layer):
            def __init__(self, **kwargs):
                super().__init__(**kwargs)
                self.drop = keras.layers.Dropout(0.5)

            def call(self, inputs, training=None):
                return self.drop(inputs, training=training)

        self.addCleanup(registry._registered["attention"].clear)
        config = apply_overrides(self.config, ["model.attention=[{kind: drop}]"]).model
        first, second = (build_detector(config, seed=seed) for seed in (0, 1))
        ones, masks = np.ones((1, 4, 4, 128), "float32"), []
        for _ in range(3):
            first.top.attention["sppf_in"][0](ones, training=True)
        self.detector = first
        run, _, _ = self.drive([0.1] * EPOCHS)
        second.compile(keras.optimizers.SGD(0.1, name="sgd"), ema_decay=0.9)
        self.detector = second
        self.resume(run)
        for detector in (first, second):
            masks.append(detector.top.attention["sppf_in"][0](ones, training=True))
        self.assertAllEqual(*masks)
        self.assertNotIn("seed_generator", "".join(load_checkpoint(run.weights_path("last")).arrays))

    def test_early_stopping(self):
        _, state, best = self.drive([0.2, 0.4, 0.3, 0.5], "train.early_stopping=1")
        self.assertLen(state["history"], 3)
        self.assertEqual((best["epoch"], best["ap"]), (2, 0.4))

    def test_the_latest_of_equal_scores_is_kept(self):
        run, _, best = self.drive([0.2, 0.5, 0.5, 0.4])
        self.assertEqual((best["epoch"], best["ap"]), (3, 0.5))
        self.assertEqual(load_checkpoint(run.weights_path("best")).state["epoch"], 3)

    def test_time_limit_ends_with_a_scored_epoch(self):
        _, state, best = self.drive([0.4], "train.evaluate_every=2", ONE_EPOCH)
        self.assertEqual([row["val_ap"] for row in state["history"]], [0.4])
        self.assertEqual((state["stopped"], best["epoch"]), (True, 1))

    def test_evaluation_every_other_epoch(self):
        _, state, best = self.drive([0.4, 0.3], "train.evaluate_every=2")
        self.assertEqual([row.get("val_ap") for row in state["history"]], [None, 0.4, None, 0.3])
        self.assertEqual(best["epoch"], 2)

    def test_without_anything_to_find_the_latest_weights_are_kept(self):
        _, state, best = self.drive([None] * EPOCHS, "train.early_stopping=1")
        self.assertLen(state["history"], EPOCHS)
        self.assertEqual((best["epoch"], best["ap"]), (EPOCHS, None))

    def resume(self, run, data=None):
        predictor = types.SimpleNamespace(detector=self.detector)
        recorded = RunRecorder(run, predictor, None, STEPS, data or {}, guard=mock.Mock())
        recorded.restore()
        return recorded

    def test_refuses_to_go_on_with_other_data(self):
        run, _, _ = self.drive([0.1], ONE_EPOCH, data={"train": "10 images", "val": "4 images"})
        self.resume(run, {"train": "10 images", "val": "4 images"})
        with self.assertRaisesRegex(
            InputError, "data .* has changed .*: expected in train 10 images, received 11 images"
        ):
            self.resume(run, {"train": "11 images", "val": "4 images"})
        with self.assertRaisesRegex(InputError, "data .* has changed .*: expected in val 4 images, received 5 images"):
            self.resume(run, {"train": "10 images", "val": "5 images"})

    def test_refuses_to_go_on_with_weights_that_are_no_state(self):
        run, _, _ = self.drive([0.1], ONE_EPOCH)
        shutil.copy(run.weights_path("best"), run.weights_path("last"))
        with self.assertRaisesRegex(InputError, "Cannot resume from .*last.npz.* got epoch, metrics. Restore"):
            self.resume(run)

    def test_a_kill_between_the_last_checkpoint_and_the_files_that_follow_from_it(self):
        run, _, best = self.drive([0.1], ONE_EPOCH)
        files = [run.path / "history.csv", run.path / "metrics.json"]
        before = [file.read_text() for file in files]
        for file in files:
            file.unlink()
        resumed = self.resume(run)
        self.assertTrue(resumed.finished)
        self.assertEqual(resumed.finish(), best)
        self.assertEqual([file.read_text() for file in files], before)

    def test_a_full_disk_is_one_line_of_tensorboard_too(self):
        full = tf.errors.ResourceExhaustedError(None, None, "events.v2; No space left on device\n\tFailed to flush")
        with (
            mock.patch.object(tf.summary, "scalar", side_effect=full),
            self.assertRaisesRegex(InputError, "tensorboard: .* No space left on device. .*with --resume.$"),
        ):
            self.drive([0.1], ONE_EPOCH, "train.tensorboard=true")

    def test_a_damaged_checkpoint_says_what_can_be_done(self):
        run, _, _ = self.drive([0.1], ONE_EPOCH)
        file = run.weights_path("last")
        file.write_bytes(file.read_bytes()[:5000])
        with self.assertRaisesRegex(InputError, "Damaged checkpoint .*last.npz: .* without last.npz --resume begins"):
            self.resume(run)

    def test_without_an_average_the_weights_themselves_are_kept(self):
        run, _, _ = self.drive([0.1, 0.2, 0.3, 0.4], ema_decay=None)
        for variable in open_run(run.path).load_detector().variables:
            own = next(v for v in self.detector.variables if v.path == variable.path)
            self.assertAllEqual(variable, own, msg=variable.path)


if __name__ == "__main__":
    tf.test.main()
