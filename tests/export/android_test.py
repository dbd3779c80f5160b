"""The folder for an Android app: what lies in it agrees with itself and with the detector."""

import importlib.util
import json
import sys
import tempfile
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter

from kyolo.data import read_image
from kyolo.errors import InputError
from kyolo.evaluation.detect import NMSSettings
from kyolo.export import ExportError, TFLiteDetector, TFLiteEndToEnd, to_android
from kyolo.export.network import find
from tests.export.lively import CLASS_NAMES, IMAGE_SIZE, TinyDetector

SETTINGS = {"confidence": 0.55, "iou": 0.5}


@pytest.mark.skipif(importlib.util.find_spec("mediapipe") is None, reason="needs the extra mediapipe")
class AndroidTest(tf.test.TestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        # Noise in every pixel: no two points have equal scores. Larger than the input, and of another shape.
        cls.images = list(np.random.default_rng(0).integers(0, 256, (4, 90, 120, 3), dtype=np.uint8))
        cls.folder = Path(cls.enterClassContext(tempfile.TemporaryDirectory()))
        cls.path = cls.folder / "new" / "app"
        cls.reports = cls.make(cls.path)
        cls.contract = json.loads((cls.path / "contract.json").read_text())

    @classmethod
    def make(cls, path, detector=None, **changes):
        arguments = {"images": cls.images} | changes
        return to_android(detector or TinyDetector(), path, calibration=cls.images, **arguments, **SETTINGS)

    def test_files(self):
        found = sorted(str(path.relative_to(self.path)) for path in self.path.rglob("*") if path.is_file())
        self.assertEqual(
            found,
            [
                "README.md", "check/0.png", "check/1.png", "check/2.png", "check/expected.json", "contract.json",
                "detector_gpu.tflite", "detector_int8.tflite", "detector_mediapipe.tflite", "labels.txt",
            ],
        )  # fmt: skip
        self.assertEqual((self.path / "labels.txt").read_text().splitlines(), list(CLASS_NAMES))
        self.assertEqual({name: report.images for name, report in self.reports.items()}, dict.fromkeys(found[6:9], 4))
        self.assertLen(list(self.path.parent.iterdir()), 1)

    def test_contract_is_that_of_the_files(self):
        self.assertEqual(self.contract["suppression"], SETTINGS | {"max_detections": 100, "multi_label": False})
        self.assertEqual((self.contract["image_size"], self.contract["fit"]["kind"]), (list(IMAGE_SIZE), "letterbox"))
        for name, file in self.contract["files"].items():
            interpreter = Interpreter(str(self.path / name))
            for said, details in (
                (file["inputs"], interpreter.get_input_details()),
                (file["outputs"], interpreter.get_output_details()),
            ):
                shapes = [(tensor["shape"], tensor["type"]) for tensor in said]
                self.assertEqual(shapes, [(d["shape"].tolist(), np.dtype(d["dtype"]).name) for d in details], name)
        self.assertEqual(self.contract["files"]["detector_int8.tflite"]["inputs"][0]["type"], "uint8")
        order = [tensor["name"] for tensor in self.contract["files"]["detector_mediapipe.tflite"]["outputs"]]
        self.assertEqual(order, ["locations", "categories", "scores", "count"])  # as ObjectDetector takes them

    def test_check_is_passed_by_the_files(self):
        check = json.loads((self.path / "check/expected.json").read_text())
        self.assertLen(check["images"], 3)
        settings = NMSSettings(**SETTINGS, max_detections=100)
        for name in ("detector_gpu.tflite", "detector_int8.tflite", "detector_mediapipe.tflite"):
            path, tolerance = self.path / name, check["tolerances"][name]
            for expected in check["images"]:
                image = read_image(self.path / "check" / expected["image"])
                if name == "detector_gpu.tflite":  # the app suppresses
                    found = find(TFLiteDetector(path), image, settings)
                else:
                    found = TFLiteEndToEnd(path)(image)
                self.assertGreater(len(expected["scores"]), 3)
                self.assertEqual(expected["names"], [CLASS_NAMES[label] for label in expected["labels"]])
                # What is wanted is found, and what is found is wanted.
                for one, other in ((expected, found), (found, expected)):
                    boxes, labels = np.array(other["boxes"]), np.array(other["labels"])
                    errors = []
                    for box, label in zip(one["boxes"], one["labels"], strict=True):
                        differences = np.abs(boxes - box).max(axis=-1) * IMAGE_SIZE[1]
                        errors.append(np.min(differences[labels == label], initial=np.inf))
                    self.assertLess(np.mean(errors), tolerance["box"], name)

    def test_readme_has_the_numbers(self):
        text = (self.path / "README.md").read_text()
        for expected in (
            "private val width = 96",
            "private val height = 64",
            "0.55f",
            "cell, platelet, other",
            "minOf(",
        ):
            self.assertIn(expected, text)
        self.make(self.folder / "stretched", TinyDetector(image_fit="stretch"))
        text = (self.folder / "stretched/README.md").read_text()
        self.assertNotIn("minOf(", text)
        self.assertIn("So does the rule", text)

    def test_what_the_gpu_does_not_take_is_refused(self):
        def complain(**_):
            sys.stdout.write("GPU COMPATIBILITY WARNING: Not supported op TOPK_V2\n")

        path = self.folder / "refused" / "app"
        with (
            mock.patch.object(tf.lite.experimental.Analyzer, "analyze", complain),
            self.assertRaisesRegex(ExportError, "detector_gpu.tflite: expected ops .* Not supported op TOPK_V2"),
        ):
            self.make(path)
        self.assertFalse(path.parent.exists())

    def test_without_images(self):
        with self.assertRaisesRegex(InputError, "images: expected some"):
            self.make(self.folder / "none", images=[])


if __name__ == "__main__":
    tf.test.main()
