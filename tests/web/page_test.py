"""examples/web as a person uses it: files of every kind, images, the camera, and what is none of them."""

import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import flatbuffers
import numpy as np
import pytest
import tensorflow as tf
from absl.testing import parameterized
from ai_edge_litert import schema_py_generated as schema
from PIL import Image

from kyolo.boxes.nms import nms
from kyolo.data import letterbox
from kyolo.evaluation.detect import NMSSettings
from kyolo.export import TFLiteDetector, to_tflite
from kyolo.export.network import find
from tests.export.lively import CLASS_NAMES, IMAGE_SIZE, TinyDetector
from tests.web.browser import MISSING, WEB, served, use_page

HEIGHT, WIDTH = IMAGE_SIZE
STATUS = r"^\d+\.\d ms the network, \d+\.\d ms the frame, \d+ threads?, \d+ objects$"
SETTINGS = NMSSettings(confidence=0.55, iou=0.7, max_detections=100)


@pytest.mark.slow
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

    def export(self, class_names=CLASS_NAMES, image_fit="letterbox", **options):
        path = Path(tempfile.mkdtemp(dir=self.folder)) / "detector.tflite"
        detector = TinyDetector(class_names=class_names, image_fit=image_fit)
        to_tflite(detector, path, **{"calibration": [self.image], **options})
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
        self.assert_shown(shown, find(self.detector, self.image, SETTINGS))
        self.assertEqual(shown["about"], f"{WIDTH} x {HEIGHT} pixels, letterbox: cell, platelet, other")
        self.assertRegex(shown["status"], STATUS)

    def test_bytes_at_the_border(self):
        path = self.export(precision="int8", input_type="uint8", output_type="uint8")
        expected = find(TFLiteDetector(path), self.image, SETTINGS)
        self.assert_shown(self.use(path), expected)

    @pytest.mark.skipif(not importlib.util.find_spec("mediapipe"), reason="needs the extra mediapipe")
    def test_file_for_mediapipe(self):
        path = self.export(nms=SETTINGS, metadata=True)
        self.assert_shown(self.use(path), find(self.detector, self.image, SETTINGS))

    @parameterized.product(fit=("letterbox", "stretch"), size=((90, 121), (33, 96), (40, 50)))
    def test_images_of_other_sizes(self, fit, size):
        """Noise in every pixel, scaled down and up: boxes are in pixels of the image, scores as by kyolo's scaling."""
        image = np.random.default_rng(2).integers(0, 256, (*size, 3), dtype=np.uint8)
        path, place = self.export(image_fit=fit), self.folder / "other.png"
        Image.fromarray(image).save(place)
        shown = self.use(path, image=place)
        pixels, (scale_x, scale_y, pad_x, pad_y) = letterbox(image, IMAGE_SIZE, fit)
        expected = find(self.detector, pixels.numpy(), SETTINGS)
        boxes = (expected["boxes"] * ([WIDTH, HEIGHT] * 2) - [pad_x, pad_y] * 2) / ([scale_x, scale_y] * 2)
        expected["boxes"] = np.clip(boxes / (size[::-1] * 2), 0, 1)
        self.assert_shown(shown, expected, size)

    @parameterized.parameters("MLIR Converted.", "null", "[1]", '{"class_names": 5, "fit": "x"}', None)
    def test_file_that_does_not_tell(self, text):
        model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(self.export().read_bytes(), 0))
        model.description = text
        path = self.folder / "other.tflite"
        builder = flatbuffers.Builder(0)
        builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
        path.write_bytes(builder.Output())
        shown = self.use(path)
        about = f"{WIDTH} x {HEIGHT} pixels, letterbox (the file does not tell): classes without names"
        self.assertEqual((shown["about"], shown["error"]), (about, ""))
        self.assertRegex(shown["detections"][0][0], r"^class \d$")

    def test_confidence_and_threads(self):
        path = self.export()
        few = find(self.detector, self.image, replace(SETTINGS, confidence=0.7))
        shown = self.use(path, confidence=0.7, threads=1)
        self.assert_shown(shown, few)
        self.assertIn(" 1 thread,", shown["status"])

    @parameterized.parameters((-3, 1), (1.7, 1), (10000, None))
    def test_threads_that_cannot_be(self, threads, expected):
        status = self.use(self.export(), threads=threads)["status"]
        self.assertIn(f" {expected or os.cpu_count()} thread", status)

    def test_screenshots(self):
        path = self.export(class_names=("a class of a rather long name", "platelet", "other"))
        shown = self.use(path, screenshots=self.folder)
        self.assertEqual(shown["overflow"], {"390": [0, 0], "1280": [0, 0]})  # of the page, and of the table in it
        for width in (390, 1280):
            with Image.open(self.folder / f"{width}.png") as picture:
                self.assertEqual(picture.width, width)
                colours = np.unique(np.asarray(picture.convert("RGB")).reshape(-1, 3), axis=0)
                self.assertGreater(len(colours), 1000)  # the noise is seen

    def test_camera(self):
        shown = self.use(self.export(), camera="use")
        for status in shown["camera"]:
            self.assertRegex(status, STATUS)
        self.assertEqual((shown["error"], shown["tracks"]), ("", ["ended"]))
        self.assertEqual(shown["view"], [640, 480])  # Chromium's own picture of a camera

    def test_wrong_detector_while_the_camera_runs(self):
        text = self.folder / "text.tflite"
        text.write_text("no detector")
        shown = self.use(self.export(), camera="use", wrong=text)
        self.assertIn("expected a .tflite file, received another", shown["error"])  # frames do not wipe it out
        self.assertRegex(shown["camera"][-1], STATUS)

    def test_camera_that_is_refused(self):
        shown = self.use(self.export(), camera="refuse")
        self.assertRegex(shown["error"], "^camera: .+")
        self.assertEqual(shown["button"], "Start camera")

    def test_what_is_no_detector(self):
        text = self.folder / "text.tflite"
        text.write_text("no detector")
        path = self.export()
        cut = self.folder / "cut.tflite"
        cut.write_bytes(path.read_bytes()[:2000])
        int8 = [self.export(precision="int8", **{name: "int8"}) for name in ("input_type", "output_type")]
        for file, message in (
            (text, "expected a .tflite file, received another"),
            (cut, "expected a whole .tflite file, with float32 or uint8 at its border"),
            *((file, "does not load: Element type INT8 is not supported") for file in int8),
        ):
            shown = use_page(self.url, model=file)
            self.assertIn(message, shown["error"])
            self.assertEqual(shown["status"], "Choose a detector.")

    def test_what_is_no_image(self):
        place = self.folder / "image.txt"
        place.write_text("no image")
        self.assertIn("image.txt: expected an image", self.use(self.export(), image=place)["error"])


@pytest.mark.skipif(bool(MISSING), reason=f"needs {', '.join(MISSING)}")
class SuppressionTest(tf.test.TestCase, parameterized.TestCase):
    def suppress(self, boxes, scores, confidence=0.1, iou=0.5):
        """What suppression.js keeps, run by node."""
        script = f"""
            import {{suppress}} from {json.dumps(str(WEB / "suppression.js"))};
            const [boxes, scores] = {json.dumps([np.ravel(boxes).tolist(), np.ravel(scores).tolist()])};
            const kept = suppress(Float32Array.from(boxes), Float32Array.from(scores), {confidence}, {iou});
            console.log(JSON.stringify(kept.map(({{box, score, label}}) => [...box, score, label])));
        """
        command = ["node", "--input-type=module", "--eval", script]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        return np.array(json.loads(done.stdout)).reshape(-1, 6)

    def test_by_hand(self):
        # Of boxes 10 wide that are moved by 3 and by 4 IoU is 7 / 13 = 0.538 and 6 / 14 = 0.429.
        boxes = np.array([[0, 0, 10, 10], [3, 0, 13, 10], [4, 0, 14, 10], [0, 0, 10, 10], [5, 5, 5, 9]], np.float32)
        scores = [[0.9, 0], [0.8, 0], [0.7, 0], [0.05, 0.6], [0.1, 0.5]]
        kept = self.suppress(boxes, scores)
        # The second goes; the fourth is of another class; the fifth has no area.
        self.assertAllClose(kept, [[*boxes[i], max(scores[i]), int(i > 2)] for i in (0, 2, 3, 4)])
        # Up to 0.55 the second stays, and the third goes by it: 9 / 11.
        self.assertAllClose(self.suppress(boxes, scores, iou=0.55)[:, 4], [0.9, 0.8, 0.6, 0.5])
        self.assertAllClose(self.suppress(boxes, scores, iou=0.4)[:, 4], [0.9, 0.6, 0.5])
        self.assertLen(self.suppress(boxes, scores, confidence=0.6), 2)  # 0.6 is not above it

    def test_equals_kyolos(self):
        random = np.random.default_rng(0)
        corners, scores = random.uniform(0, 0.8, (400, 2)), random.uniform(0, 1, (400, 3)).astype(np.float32)
        boxes = np.concatenate([corners, corners + random.uniform(0.05, 0.2, (400, 2))], axis=1).astype(np.float32)
        boxes, labels = np.clip(boxes, 0, 1), scores.argmax(axis=1)
        settings = {"confidence": 0.1, "iou": 0.3, "max_detections": 100, "multi_label": False}
        *expected, count = nms(boxes, scores, **settings)
        self.assertEqual(count, 100)
        kept = self.suppress(boxes, scores, 0.1, 0.3)
        self.assertLen(kept, 100)
        self.assertGreater(len(set(labels)), 2)
        for columns, values in zip((slice(0, 4), 4, 5), expected, strict=True):
            self.assertAllClose(kept[:, columns], values, atol=1e-6)


class ServeTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.parameters(
        (["--model", "nowhere.tflite"], "--model nowhere.tflite: expected a .tflite file"),
        (["--port", "99999"], "--port 99999: expected a free port"),
    )
    def test_bad_input_is_one_line(self, arguments, message):
        if not (WEB / "node_modules").is_dir():
            message = message if "--model" in arguments else "run npm ci --prefix examples/web"
        command = [sys.executable, str(WEB / "serve.py"), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        self.assertEqual((done.returncode, done.stdout, done.stderr.count("\n")), (2, "", 1))
        self.assertIn(message, done.stderr)


if __name__ == "__main__":
    tf.test.main()
