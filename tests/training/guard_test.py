"""A NaN, planted in the losses or in the weights, ends a run in one line and is kept nowhere."""

import json
import math
import pathlib
from unittest import mock

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops

import kyolo
from kyolo import registry
from kyolo.data.shapes import write_shapes
from kyolo.errors import NonFiniteError
from kyolo.training import load_checkpoint
from kyolo.training.guard import FiniteGuard
from kyolo.training.run_folder import Run
from tests.data.streams import endless
from tests.test_case import TestCase

LOSSES = {"loss": 8.0, "box": 1.0, "classification": 0.5}


class FiniteGuardTest(TestCase):
    def setUp(self):
        super().setUp()
        (self.folder / "weights").mkdir()
        names = {4: ["a.jpg", "b.png"]}
        self.guard = FiniteGuard(Run(self.folder, kyolo.Config()), steps_per_epoch=3, name_images=names.get)

    def test_finite_numbers_pass(self):
        self.guard.check_losses(5, LOSSES)
        self.guard.check_variables(5, [("a", keras.Variable([1e38])), ("n", keras.Variable(1, dtype="int64"))])

    def test_a_loss_that_is_no_number(self):
        for bad in (math.nan, math.inf, -math.inf):
            with self.assertRaises(NonFiniteError) as caught:
                self.guard.check_losses(5, {**LOSSES, "box": bad})
            message = str(caught.exception)
            # Step 5 of epochs of 3 steps is the second of the second epoch; its batch is number 4 from 0.
            for part in (
                "epoch 2, step 2 of 3",
                f"box {bad}",
                "classification 0.5",
                "a.jpg, b.png",
                "no checkpoint yet",
            ):
                self.assertIn(part, message)

    def test_all_losses_are_bad(self):
        self.guard.name_images = {4: ["a.jpg"], 3: ["c.jpg"], 0: ["d.jpg"]}.get
        bad = dict.fromkeys(LOSSES, math.nan)
        with self.assertRaisesRegex(NonFiniteError, "of the batch: a.jpg; of the one before: c.jpg; "):
            self.guard.check_losses(5, bad)
        with self.assertRaisesRegex(NonFiniteError, "epoch 1, step 1 of 3.*of the batch: d.jpg; there"):
            self.guard.check_losses(1, bad)

    def test_images_that_cannot_be_read_again(self):
        self.guard.name_images = mock.Mock(side_effect=OSError("the disk is gone"))
        with self.assertRaisesRegex(NonFiniteError, "images of the batch: unknown, .*the disk is gone.*no checkpoint"):
            self.guard.check_losses(5, {**LOSSES, "box": math.nan})

    def test_a_weight_that_is_no_number(self):
        (self.folder / "weights/last.npz").touch()
        variables = [(name, keras.Variable([1.0, value])) for name, value in (("good", 2.0), ("bad", math.nan))]
        with self.assertRaisesRegex(NonFiniteError, "1 that are not after its update, bad first.*last.npz is the last"):
            self.guard.check_variables(5, variables)


class Planted(kyolo.losses.BoxLoss):
    """SIoU, but for the fifth step: there it is NaN."""

    steps = None

    def call(self, y_true, y_pred):
        bad = ops.where(self.steps.assign_add(1) == 5, math.nan, 0.0)
        return kyolo.losses.SIoULoss().call(y_true, y_pred) + bad


@pytest.mark.slow
class PlantedTest(TestCase):
    def test_a_loss(self):
        write_shapes(self.folder / "data", train=10, val=2, image_size=64)
        self.enterContext(mock.patch.dict(registry._registered["box_loss"], planted=Planted))
        self.enterContext(mock.patch.object(Planted, "steps", tf.Variable(0)))
        (self.folder / "config.yaml").write_text(
            "model: {backbone: {size: p}, levels: [P4, P5], loss: {box: {kind: planted}}}\n"
            "data: {image_size: 64}\n"
            "train: {epochs: 2, batch_size: 4, checkpoint_every: 2, precision: float32, schedule: {warmup_epochs: 0}}\n"
        )
        arguments = ["--config", self.folder / "config.yaml", "--data", self.folder / "data"]
        code, _, stderr = self.run_kyolo("train", *arguments, "--output", self.folder / "run")
        self.assertEqual(code, 1, stderr)
        line = stderr.strip().splitlines()[-1]
        self.assertTrue(line.startswith("kyolo: error: Training stopped at epoch 2, step 2 of 3"), line)
        self.assertRegex(line, "received box nan, classification [0-9.]+, dfl [0-9.]+, loss nan")
        for name in self.images_of_step(4):
            self.assertIn(name, line)
        last, best = (load_checkpoint(self.folder / f"run/weights/{name}.npz") for name in ("last", "best"))
        self.assertEqual(last.state["step"], 4)
        for value in (*last.arrays.values(), *best.arrays.values()):
            self.assertTrue(np.isfinite(value).all())

    def images_of_step(self, number):
        """The names of the images in a batch, from the stream itself."""
        stream = endless(self.folder / "data", image_size=64, batch_size=4, epochs=2, start_step=number)
        ids = next(iter(stream))[1]["source_ids"].numpy().ravel()
        truth = json.loads((self.folder / "data/annotations/instances_train.json").read_text())
        names = {image["id"]: pathlib.Path(image["file_name"]).name for image in truth["images"]}
        return [names[number] for number in ids]


if __name__ == "__main__":
    tf.test.main()
