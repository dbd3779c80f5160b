"""Every file in configs/ loads, builds and runs."""

import dataclasses
import pathlib

import numpy as np
import pytest
from absl.testing import absltest, parameterized

import kyolo
from kyolo.models.cost import count_weights

FOLDER = pathlib.Path(__file__).parents[1] / "configs"
CONFIGS = sorted(FOLDER.glob("*.yaml"))
COCO = sorted((FOLDER / "coco").glob("*.yaml"))
SMALL_SIZES = ("p", "n", "s")  # The others take many seconds to build.

# Trainable weights at 80 classes, as published with the architecture.
PUBLISHED = {
    "yolov8_n": 3_157_184,
    "yolov8_s": 11_166_544,
    "yolov8_m": 25_902_624,
    "yolov8_l": 43_691_504,
    "yolov8_x": 68_229_632,
}


def is_small(path):
    return kyolo.load_config(path).model.backbone.size in SMALL_SIZES


class ConfigsTest(parameterized.TestCase):
    def check_runs(self, path):
        config = kyolo.load_config(path)
        detector = kyolo.build_detector(dataclasses.replace(config.model, num_classes=80))
        if path.stem in PUBLISHED:
            self.assertEqual(count_weights(detector), PUBLISHED[path.stem])

        strides = [2 ** int(level[1:]) for level in config.model.levels]
        height, width = strides[-1], 2 * strides[-1]
        outputs = detector(np.zeros([1, height, width, 3], np.uint8))

        num_points = sum((height // stride) * (width // stride) for stride in strides)
        self.assertEqual(outputs["class_logits"].shape, (1, num_points, 80))
        self.assertEqual(outputs["box_logits"].shape, (1, num_points, 4, config.model.head.reg_max))
        self.assertTrue(np.isfinite(outputs["class_logits"]).all())

    def test_there_are_files(self):
        self.assertContainsSubset(PUBLISHED, [path.stem for path in CONFIGS])

    @parameterized.named_parameters((path.stem, path) for path in CONFIGS if is_small(path))
    def test_small_model_builds_and_runs(self, path):
        self.check_runs(path)

    @parameterized.named_parameters((path.stem, path) for path in CONFIGS if not is_small(path))
    @pytest.mark.slow
    def test_large_model_builds_and_runs(self, path):
        self.check_runs(path)

    @parameterized.named_parameters((path.stem, path) for path in COCO)
    def test_the_recipe_of_coco_is_that_of_the_publication(self, path):
        config = kyolo.load_config(path)
        self.assertEqual(config.model, kyolo.load_config(FOLDER / path.name).model)  # which builds and runs, see above
        self.assertEqual((config.data.image_size, config.train.epochs, config.train.batch_size), (640, 500, 8 * 16))
        self.assertEqual(config.train.distribute, "mirrored")
        optimizer = config.train.optimizer
        self.assertEqual((optimizer.kind, optimizer.learning_rate, optimizer.momentum), ("sgd", 0.01, 0.937))
        # 5e-4 there for 64 images is added to the gradient, and goes through momentum: decay x (1 + m + m^2 + ...).
        self.assertAlmostEqual(optimizer.weight_decay, 5e-4 * 128 / 64 / (1 - 0.937), places=4)
        self.assertEqual(config.augment.scale, 0.5 if config.model.backbone.size in "ns" else 0.9)
        self.assertIn("Not run here", path.read_text())

    def test_every_size_has_a_recipe_for_coco(self):
        self.assertEqual({path.stem for path in COCO}, set(PUBLISHED))


if __name__ == "__main__":
    absltest.main()
