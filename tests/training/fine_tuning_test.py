"""A run with frozen layers, learning-rate factors and accumulated gradients, stopped within an accumulation."""

import contextlib
import io
import pathlib
import shutil
import tempfile

import keras
import numpy as np
import pytest
import tensorflow as tf

from kyolo.config import (
    BackboneConfig,
    Config,
    ModelConfig,
    OptimizerConfig,
    ScheduleConfig,
    TrainConfig,
    apply_overrides,
)
from kyolo.data import write_shapes
from kyolo.models import build_detector
from kyolo.training.checkpoint import load_checkpoint
from kyolo.training.fit import train
from kyolo.training.optimizers import build_optimizer

# Ten images in batches of 4 are 3 steps an epoch; the one update is made after step 4, and 5 and 6 come too late.
SETTINGS = (
    "model.backbone.size=p", "model.levels=[P4, P5]", "data.image_size=64", "train.epochs=2", "train.batch_size=4",
    "train.precision=float32", "train.schedule.warmup_epochs=0", "train.evaluate_every=2",
    "train.checkpoint_every=2", "train.tensorboard=false",
    "train.freeze=[backbone, neck/top_down]", "train.optimizer.accumulate_steps=4", "train.optimizer.kind=sgd",
    "train.optimizer.learning_rate_factors={head/P4: 0.000001}",
)  # fmt: skip


@pytest.mark.slow
class FineTuningTest(tf.test.TestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.folder = pathlib.Path(tempfile.mkdtemp())
        write_shapes(cls.folder / "data", train=10, val=2, image_size=64)
        cls.config = apply_overrides(Config(), [*SETTINGS, f"data.path={cls.folder / 'data'}"])
        cls.last = cls.run_to_the_end("whole")

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.folder)
        super().tearDownClass()

    @classmethod
    def run_to_the_end(cls, name, **kwargs):
        with contextlib.redirect_stderr(io.StringIO()):
            train(cls.config, cls.folder / name, **kwargs)
        return load_checkpoint(cls.folder / name / "weights" / "last.npz")

    def test_frozen_weights_are_bit_equal_and_others_moved(self):
        start = build_detector(apply_overrides(self.config, ["model.num_classes=5"]).model)
        paths = {part: {v.path for v in getattr(start, part).variables} for part in ("backbone", "neck", "head")}
        model, average = self.last.group("model"), self.last.group("ema")
        self.assertEqual(set(model), {variable.path for variable in start.variables})
        self.assertEqual(set(average), set(model))
        for variable in start.variables:
            frozen = variable.path in paths["backbone"] or variable.path.startswith("neck/top_down")
            for found in (model, average):
                equal = np.array_equal(found[variable.path], variable.numpy())
                if frozen:
                    self.assertTrue(equal, variable.path)
                elif variable.name == "kernel" and not variable.path.startswith("head/"):
                    self.assertFalse(equal, variable.path)

    def test_small_factor_small_step(self):
        start = build_detector(apply_overrides(self.config, ["model.num_classes=5"]).model)
        steps = {v.path: np.abs(self.last.group("model")[v.path] - v.numpy()).max() for v in start.trainable_variables}
        self.assertLess(steps["head/P4_class_logits/bias"], 1e-4 * steps["head/P5_class_logits/bias"])

    def test_the_average_moves_with_updates(self):
        # The first weights after an update stand for all before them, and there was one update.
        for path, value in self.last.group("model").items():
            if "moving" not in path:
                self.assertAllClose(self.last.group("ema")[path], value, rtol=1e-6, atol=1e-7, msg=path)


@pytest.mark.slow
class AccumulationTest(tf.test.TestCase):
    def train(self, batches, accumulate_steps):
        """What one update adds to the weights of a detector whose batch norms keep their statistics."""
        model = ModelConfig(num_classes=3, levels=("P4", "P5"), backbone=BackboneConfig(size="p"))
        detector = build_detector(model)
        for layer in detector._flatten_layers():
            if isinstance(layer, keras.layers.BatchNormalization):
                layer.trainable = False
        settings = OptimizerConfig(
            kind="sgd", learning_rate=0.001, momentum=0.0, clip_norm=None, accumulate_steps=accumulate_steps
        )
        config = TrainConfig(optimizer=settings, schedule=ScheduleConfig(warmup_epochs=0, final_fraction=1.0))
        detector.compile(build_optimizer(config, len(batches), detector), run_eagerly=True)
        before = [variable.numpy() for variable in detector.trainable_variables]
        for batch in batches:
            detector.train_step(tf.nest.map_structure(tf.constant, batch))
        return [after.numpy() - value for after, value in zip(detector.trainable_variables, before, strict=True)]

    def test_batches_make_the_update_of_one_large_one(self):
        # Large objects, so that the sum of target scores, the divisor, is above its floor of 1. The second batch has
        # the images of the first in another order, and so the same sum.
        boxes = (
            [[2, 2, 122, 122], [2, 60, 120, 126], [60, 2, 126, 120]],
            [[14, 2, 120, 122], [2, 8, 122, 122], [2, 2, 126, 66]],
        )
        truth = {"boxes": np.float32(boxes), "labels": np.int32([[0, 1, 2], [2, 0, 1]]), "mask": np.ones((2, 3), bool)}
        images = np.random.default_rng(0).integers(0, 256, (2, 128, 128, 3)).astype("uint8")
        batches = [tf.nest.map_structure(lambda array: array[order], (images, truth)) for order in ([0, 1], [1, 0])]  # noqa: B023
        both = tf.nest.map_structure(lambda *arrays: np.concatenate(arrays), *batches)
        steps, expected = self.train(batches, 2), self.train([both], 1)
        self.assertGreater(max(np.abs(value).max() for value in expected), 1e-3)
        for step, value in zip(steps, expected, strict=True):
            self.assertAllClose(step, value, rtol=1e-3, atol=1e-7)


if __name__ == "__main__":
    tf.test.main()
