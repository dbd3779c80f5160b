"""A `.tflite` for MediaPipe Tasks: opened by MediaPipe itself, where it is installed."""

import functools
import importlib.util
import io
import sys
import tempfile
import zipfile
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import tensorflow as tf
from absl.testing import parameterized

from kyolo.data import letterbox
from kyolo.errors import InputError
from kyolo.evaluation.detect import NMSSettings
from kyolo.export import TFLiteEndToEnd, to_tflite
from tests.export.lively import CLASS_NAMES, IMAGE_SIZE, TinyDetector

SETTINGS = NMSSettings(confidence=0.55, iou=0.5, max_detections=20)
INSTALLED = importlib.util.find_spec("mediapipe") is not None


def corners_of(detection):
    """x1, y1, x2, y2 of one of MediaPipe's detections."""
    box = detection.bounding_box
    return box.origin_x, box.origin_y, box.origin_x + box.width, box.origin_y + box.height


def distance(box, corners):
    return np.abs(np.subtract(box, corners)).max()


class MetadataTest(tf.test.TestCase, parameterized.TestCase):
    def setUp(self):
        super().setUp()
        self.folder = Path(self.enterContext(tempfile.TemporaryDirectory()))
        # Noise in every pixel: no two points have equal scores.
        self.images = list(np.random.default_rng(0).integers(0, 256, (3, *IMAGE_SIZE, 3), dtype=np.uint8))

    def export(self, class_names=CLASS_NAMES, **options):
        path = self.folder / "detector.tflite"
        options = {"nms": SETTINGS, "metadata": True, "images": self.images} | options
        detector = TinyDetector(image_fit="stretch", class_names=class_names)
        to_tflite(detector, path, calibration=self.images, **options)
        return path

    @parameterized.parameters({}, {"precision": "int8", "input_type": "uint8"})
    @pytest.mark.skipif(not INSTALLED, reason="needs the extra mediapipe")
    def test_object_detector_gives_the_same(self, **options):
        import mediapipe
        from mediapipe.tasks.python import BaseOptions, vision

        path = self.export(**options)
        ours = TFLiteEndToEnd(path)
        asked = vision.ObjectDetectorOptions(base_options=BaseOptions(model_asset_path=str(path)), score_threshold=0.55)
        with vision.ObjectDetector.create_from_options(asked) as detector:
            for image in self.images:
                expected = ours(image)
                self.assertGreater(len(expected["scores"]), 3)
                found = detector.detect(mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=image)).detections
                self.assertLen(found, len(expected["scores"]))
                found = {corners_of(detection): detection.categories for detection in found}
                pixels = expected.pop("boxes") * np.tile(IMAGE_SIZE[::-1], 2)
                for box, score, label in zip(pixels, *expected.values(), strict=True):
                    # By place: of equal scores, which int8 has, the order is the runtime's. MediaPipe gives whole
                    # pixels: a corner and a size are cut, 1 pixel each.
                    corners = min(found, key=functools.partial(distance, box))
                    self.assertAllClose(corners, box, atol=2.0)
                    (category,) = found[corners]
                    self.assertEqual(category.category_name, CLASS_NAMES[label])
                    self.assertAllClose(category.score, score, atol=0.05 if options else 1e-5)

    @pytest.mark.skipif(not INSTALLED, reason="needs the extra mediapipe")
    def test_object_detector_stretches(self):
        """An image of another shape, of flat squares that scaling keeps: its boxes are in pixels of that image."""
        import mediapipe
        from mediapipe.tasks.python import BaseOptions, vision

        path = self.export()
        squares = np.random.default_rng(1).integers(0, 256, (8, 6, 3), dtype=np.uint8)
        image = squares.repeat(32, axis=0).repeat(32, axis=1)  # 256 x 192
        expected = TFLiteEndToEnd(path)(letterbox(image, IMAGE_SIZE, "stretch")[0].numpy())
        asked = vision.ObjectDetectorOptions(base_options=BaseOptions(model_asset_path=str(path)), score_threshold=0.6)
        with vision.ObjectDetector.create_from_options(asked) as detector:
            found = detector.detect(mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=image)).detections
        wanted = expected["boxes"][expected["scores"] > 0.62] * np.tile(image.shape[1::-1], 2)
        self.assertGreater(len(wanted), 3)
        for box in wanted:
            self.assertLess(min(distance(box, corners_of(detection)) for detection in found), 4.0)  # 2 px of the input

    @pytest.mark.skipif(not INSTALLED, reason="needs the extra mediapipe")
    def test_labels_lie_behind_the_model(self):
        content = self.export().read_bytes()
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            self.assertEqual(archive.namelist(), ["labels.txt"])
            self.assertEqual(archive.read("labels.txt").decode().splitlines(), list(CLASS_NAMES))

    def test_refusals(self):
        for options, text in (
            ({"nms": None}, "metadata: expected nms, .* received no nms"),
            ({"precision": "int8", "output_type": "uint8"}, "received float32 and uint8"),
            ({"precision": "int8", "input_type": "int8"}, "received int8 and float32"),
            ({"class_names": ["a", "b\nc"]}, "class name 'b.nc': expected one line"),
        ):
            with self.assertRaisesRegex(InputError, text):
                self.export(**options)
            self.assertEmpty(list(self.folder.iterdir()))

    def test_without_mediapipe(self):
        with mock.patch.dict(sys.modules, {"mediapipe": None}):
            for name in [name for name in sys.modules if name.startswith("mediapipe.")]:
                sys.modules.pop(name)
            with self.assertRaisesRegex(InputError, "expected the package mediapipe"):
                self.export()
        self.assertEmpty(list(self.folder.iterdir()))


if __name__ == "__main__":
    tf.test.main()
