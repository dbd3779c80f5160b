"""Backbones, runs of levels and places of attention put together: each trains, saves, loads and exports."""

import contextlib
import importlib
import sys
import tempfile
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from absl.testing import parameterized

import kyolo
from kyolo import registry
from kyolo.config import AttentionConfig, BackboneConfig, ModelConfig
from kyolo.config.model import PLACES
from kyolo.export import TFLiteDetector, to_tflite
from kyolo.layers import GAM
from kyolo.losses import DetectionLoss
from tests.models.build_test import RUNS
from tests.test_case import ROOT

MOBILENET_V2 = {"model": "MobileNetV2", "layers": ("block_2_add", "block_5_add", "block_12_add", "block_16_project")}
# Every backbone, run of levels, place and module at least once; pairs of runs and places are further down.
COMBINATIONS = [
    ({"kind": "yolov8", "size": "p"}, ("P2", "P3"), "sppf_in", "gam"),
    ({"kind": "yolov8", "size": "n"}, ("P3", "P4", "P5"), "N5", "eca"),
    ({"kind": "mobilenet_v3", "size": "small"}, ("P3", "P4", "P5"), "P3", "cbam"),
    ({"kind": "mobilenet_v3", "size": "large"}, ("P2", "P3", "P4"), "N2", "gam"),
    ({"kind": "mobilenet_v3", "size": "large_minimalistic"}, ("P2", "P3", "P4", "P5", "P6"), "N6", "coord_attention"),
    ({"kind": "mobilenet_v3", "size": "small_minimalistic"}, ("P4", "P5", "P6"), "P6", "simam"),
    ({"kind": "efficientnet_lite", "size": "b0"}, ("P3", "P4"), "N3", "se"),
    ({"kind": "efficientnet_lite", "size": "b1"}, ("P5", "P6"), "P5", "eca"),
    ({"kind": "keras", **MOBILENET_V2}, ("P2", "P3", "P4", "P5"), "P2", "gam"),
    ({"kind": "keras", "model": "own.keras", "layers": ("P4_sum_0", "P5_sum_0")}, ("P4", "P5"), "P4", "cbam"),
    ({"kind": "separable_net", "arguments": {"width": 8}}, ("P3", "P4", "P5", "P6"), "N4", "se"),
]


# One of each kind of backbone; tests/export has the precisions.
EXPORTED = [COMBINATIONS[i] for i in (0, 4, 6, 9, 10)]


def build(backbone, levels, place, kind):
    attention = (AttentionConfig(kind=kind, at=place),)
    backbone = BackboneConfig(**backbone)
    return kyolo.build_detector(ModelConfig(num_classes=3, levels=levels, backbone=backbone, attention=attention))


class BackbonesCase(tf.test.TestCase, parameterized.TestCase):
    """A folder of its own that holds the backbone `own.keras`, and the example's backbone registered."""

    def setUp(self):
        super().setUp()
        self.folder = Path(self.enterContext(tempfile.TemporaryDirectory()))
        self.enterContext(contextlib.chdir(self.folder))
        self.addCleanup(registry._registered["backbone"].clear)
        sys.modules.pop("examples.custom_backbone", None)
        with contextlib.chdir(ROOT):
            own = importlib.import_module("examples.custom_backbone").separable_net
        own(width=8).save("own.keras")
        self.images = np.random.default_rng(0).integers(0, 256, (4, 64, 128, 3)).astype("uint8")


@pytest.mark.slow
class TrainingTest(BackbonesCase):
    def test_each_is_there(self):
        blocks, runs, places, kinds = zip(*COMBINATIONS, strict=True)
        self.assertEqual({block["kind"] for block in blocks}, set(registry.names("backbone")))
        self.assertEqual((set(runs), set(places)), (set(RUNS), set(PLACES)))
        self.assertEqual(set(kinds), set(registry.names("attention")))
        self.assertEqual({block["kind"] for block, *_ in EXPORTED}, set(registry.names("backbone")))

    @parameterized.parameters(*COMBINATIONS)
    def test_trains_saves_and_loads(self, *combination):
        detector = build(*combination)
        truth = {
            "boxes": np.float32([[[8, 8, 40, 40], [50, 10, 100, 60]]] * 4),
            "labels": np.int32([[0, 2]] * 4),
            "mask": np.ones((4, 2), bool),
        }
        detector.compile(optimizer=keras.optimizers.Adam(1e-3), loss=DetectionLoss())
        before = [variable.numpy() for variable in detector.trainable_variables]
        losses = [detector.train_on_batch(self.images, truth) for _ in range(2)]
        self.assertTrue(np.isfinite(losses).all())
        still = [
            variable.path
            for variable, value in zip(detector.trainable_variables, before, strict=True)
            if np.array_equal(variable, value) and not variable.path.endswith("bias")
        ]
        # The boxes of a level learn where it has an object, those of another not.
        self.assertEmpty([path for path in still if "_box_" not in path])
        detector.save(self.folder / "detector.keras")
        loaded = keras.models.load_model(self.folder / "detector.keras")
        expected = detector(self.images)
        for name, output in loaded(self.images).items():
            self.assertAllClose(output, expected[name], rtol=1e-5, atol=1e-5)


@pytest.mark.slow
class ExportTest(BackbonesCase):
    @parameterized.parameters(*EXPORTED)
    def test_tflite(self, *combination):
        path = self.folder / "detector.tflite"
        report = to_tflite(build(*combination), path, images=list(self.images))
        self.assertLess(report.box_error, 0.05)
        self.assertEqual(TFLiteDetector(path).num_classes, 3)


@pytest.mark.slow
class PlacesTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.parameters(*RUNS)
    def test_every_place_of_a_run(self, *levels):
        """All at once, without a change to the outputs."""
        places = ("sppf_in", *levels, *(level.replace("P", "N") for level in levels))
        config = {"num_classes": 3, "levels": levels, "backbone": BackboneConfig(size="p")}
        blocks = tuple(AttentionConfig(kind="gam", at=place) for place in places)
        plain, attended = (kyolo.build_detector(ModelConfig(**config, attention=each)) for each in ((), blocks))
        found = {layer.name for layer in attended._flatten_layers() if isinstance(layer, GAM)}
        self.assertEqual(found, {f"attention_{place}_gam" for place in places})
        images = np.random.default_rng(0).integers(0, 256, (1, 64, 128, 3)).astype("uint8")
        for name, output in plain(images).items():
            self.assertAllClose(attended(images)[name], output, rtol=1e-5, atol=1e-5)


if __name__ == "__main__":
    tf.test.main()
