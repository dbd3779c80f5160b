"""examples/web as a person uses it: files of every kind, images, the camera, and what is none of them."""

import importlib.util
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from absl.testing import parameterized
from PIL import Image

from kyolo.data import letterbox
from kyolo.evaluation.detect import NMSSettings
from kyolo.export import TFLiteDetector, to_tflite
from kyolo.export.network import find
from tests.export.lively import CLASS_NAMES, IMAGE_SIZE, TinyDetector
from tests.web.browser import MISSING, WEB, served, use_page

HEIGHT, WIDTH = IMAGE_SIZE
SETTINGS = NMSSettings(confidence=0.55, iou=0.7, max_detections=100)


@pytest.mark.skipif(bool(MISSING), reason=f"needs {', '.join(MISSING)}")
class PageTest(tf.test.TestCase, parameterized.TestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.folder = Path(cls.enterClassContext(tempfile.TemporaryDirectory()))
        cls.detector = TinyDetector()
        cls.image = np.random.default_rng(1).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
        Image.fromarray(cls.image).save(cls.folder / "image.png")
        cls.url = cls.enterClassContext(served())

    def export(self, **options):
        path = Path(tempfile.mkdtemp(dir=self.folder)) / "detector.tflite"
        options = {"class_names": CLASS_NAMES, "calibration": [self.image], **options}
        to_tflite(self.detector, path, image_size=IMAGE_SIZE, **options)
        return path

    def use(self, path, **steps):
        return use_page(self.url, model=path, **{"image": self.folder / "image.png", "confidence": 0.55} | steps)

    def assert_shown(self, shown, expected, size=IMAGE_SIZE):
        """The table lists these detections (boxes in 0..1 of the image) to the decimals that it has."""
        self.assertEqual((shown["error"], shown["console"]), ("", []))
        self.assertGreater(len(expected["scores"]), 2)
        rows = shown["detections"]
        self.assertEqual([row[0] for row in rows], [CLASS_NAMES[label] for label in expected["labels"]])
        values = np.array([row[1:] for row in rows], np.float64)
        self.assertAllClose(values[:, 0], expected["scores"], rtol=0, atol=1e-3)
        self.assertAllClose(values[:, 1:], expected["boxes"] * (size[::-1] * 2), rtol=0, atol=0.1)

    @parameterized.named_parameters(
        ("raw", {}),
        ("nms", {"nms": SETTINGS}),
        ("float16", {"precision": "float16", "nms": SETTINGS}),
    )
    def test_detections_are_those_of_keras(self, options):
        shown = self.use(self.export(**options))
        self.assert_shown(shown, find(self.detector, self.image, IMAGE_SIZE, SETTINGS))
        self.assertEqual(shown["about"], f"{WIDTH} x {HEIGHT} pixels, letterbox: cell, platelet, other")
        self.assertRegex(shown["status"], r"^\d+\.\d ms the network, \d+\.\d ms the frame, \d+ threads?, \d+ objects$")

    def test_bytes_at_the_border(self):
        path = self.export(precision="int8", input_type="uint8", output_type="uint8")
        expected = find(TFLiteDetector(path), self.image, IMAGE_SIZE, SETTINGS)
        self.assert_shown(self.use(path), expected)

    @pytest.mark.skipif(not importlib.util.find_spec("mediapipe"), reason="needs the extra mediapipe")
    def test_file_for_mediapipe(self):
        path = self.export(nms=SETTINGS, metadata=True)
        self.assert_shown(self.use(path), find(self.detector, self.image, IMAGE_SIZE, SETTINGS))

    @parameterized.parameters(("letterbox", (128, 96)), ("letterbox", (32, 96)), ("stretch", (128, 96)))
    def test_boxes_are_in_pixels_of_the_image(self, fit, size):
        """Flat colours, which a browser scales to the same pixels: a band of another colour lies at the same place."""
        image = np.full((*size, 3), 40, np.uint8)
        image[size[0] // 4 : size[0] // 2] = 220
        path, place = self.export(fit=fit), self.folder / "other.png"
        Image.fromarray(image).save(place)
        shown = self.use(path, image=place)
        pixels, (scale_x, scale_y, pad_x, pad_y) = letterbox(image, IMAGE_SIZE, fit)
        expected = find(self.detector, pixels.numpy(), IMAGE_SIZE, SETTINGS)
        boxes = (expected["boxes"] * ([WIDTH, HEIGHT] * 2) - [pad_x, pad_y] * 2) / ([scale_x, scale_y] * 2)
        expected["boxes"] = np.clip(boxes / (size[::-1] * 2), 0, 1)
        self.assert_shown(shown, expected, size)

    def test_confidence_and_threads(self):
        path = self.export()
        few = find(self.detector, self.image, IMAGE_SIZE, replace(SETTINGS, confidence=0.7))
        shown = self.use(path, confidence=0.7, threads=1)
        self.assert_shown(shown, few)
        self.assertIn(" 1 thread,", shown["status"])

    def test_screenshots_and_camera(self):
        shown = self.use(self.export(), screenshots=self.folder, camera=True)
        self.assertEqual(shown["overflow"], {"390": 0, "1280": 0})
        for width in (390, 1280):
            with Image.open(self.folder / f"{width}.png") as picture:
                self.assertEqual(picture.width, width)
                self.assertGreater(
                    len(np.unique(np.asarray(picture.convert("RGB")).reshape(-1, 3), axis=0)), 1000
                )  # the noise is seen
        self.assertLen(shown["camera"], 3)
        self.assertEqual(shown["view"], [640, 480])  # Chromium's own picture of a camera

    def test_what_is_no_detector(self):
        text = self.folder / "text.tflite"
        text.write_text("no detector")
        path = self.export()
        cut = self.folder / "cut.tflite"
        cut.write_bytes(path.read_bytes()[:2000])
        int8 = self.export(precision="int8", input_type="int8")
        for file, message in (
            (text, "expected a .tflite file, received another"),
            (cut, "expected a whole .tflite file, with float32 or uint8 at its border"),
            (int8, "does not load: Element type INT8 is not supported"),
        ):
            shown = use_page(self.url, model=file)
            self.assertIn(message, shown["error"])
            self.assertEqual(shown["status"], "Choose a detector.")

    def test_what_is_no_image(self):
        place = self.folder / "image.txt"
        place.write_text("no image")
        self.assertIn("image.txt: expected an image", self.use(self.export(), image=place)["error"])


class ServeTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.parameters(
        (["--model", "nowhere.tflite"], "--model nowhere.tflite: expected a .tflite file"),
        (["--port", "99999"], "--port 99999: expected a free port"),
    )
    def test_bad_input_is_one_line(self, arguments, message):
        if not (WEB / "node_modules").is_dir():
            message = message if "--model" in arguments else "run make web-demo"
        command = [sys.executable, str(WEB / "serve.py"), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        self.assertEqual((done.returncode, done.stdout, done.stderr.count("\n")), (2, "", 1))
        self.assertIn(message, done.stderr)


if __name__ == "__main__":
    tf.test.main()
