"""The .tflite file in float32: its ops, its interface, its numbers, and how it stands in for a detector."""

import json
import tempfile
from pathlib import Path

import flatbuffers
import numpy as np
import tensorflow as tf
from absl.testing import parameterized
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter

from kyolo.data import letterbox
from kyolo.errors import InputError
from kyolo.evaluation import Predictor
from kyolo.evaluation.detect import NMSSettings
from kyolo.export import ExportError, TFLiteDetector, to_tflite
from tests.export.lively import CLASS_NAMES, IMAGE_SIZE, TinyDetector, lively_detector, random_images

HEIGHT, WIDTH = IMAGE_SIZE
NUM_POINTS = sum(HEIGHT // stride * (WIDTH // stride) for stride in (8, 16, 32))


class TFLiteTest(tf.test.TestCase, parameterized.TestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.detector = lively_detector()
        cls.images = list(random_images())
        cls.folder = Path(cls.enterClassContext(tempfile.TemporaryDirectory()))
        cls.path = cls.folder / "detector.tflite"
        shared = {"images": cls.images}
        cls.report = to_tflite(cls.detector, cls.path, **shared)

    def network_inputs(self):
        return np.stack([letterbox(image, IMAGE_SIZE)[0] for image in self.images])

    def test_built_in_ops_only(self):
        names = {op["op_name"] for op in Interpreter(str(self.path))._get_ops_details()}
        self.assertIn("CONV_2D", names)
        self.assertEmpty([name for name in names if "Flex" in name or "CUSTOM" in name])

    def test_interface(self):
        interpreter = Interpreter(str(self.path))
        self.assertEqual(
            interpreter.get_signature_list(),
            {"serving_default": {"inputs": ["images"], "outputs": ["boxes", "scores"]}},
        )
        details = interpreter.get_input_details() + interpreter.get_output_details()
        expected = [[1, HEIGHT, WIDTH, 3], [1, NUM_POINTS, 4], [1, NUM_POINTS, 3]]
        for detail, shape in zip(details, expected, strict=True):
            self.assertEqual(detail["shape"].tolist(), shape)
            self.assertEqual(detail["shape_signature"].tolist(), shape)
            self.assertEqual(detail["dtype"], np.float32)

    def test_outputs_are_the_detectors(self):
        images = self.network_inputs()
        boxes, scores = self.detector.decode(self.detector(images, training=False), image_size=IMAGE_SIZE)
        # The comparison means something: the scores differ from image to image and from point to point.
        self.assertGreater(np.std(scores, axis=0).min(), 1e-3)
        self.assertGreater(np.std(scores), 0.03)
        exported = TFLiteDetector(self.path)
        outputs = exported(images)
        self.assertAllInRange(outputs["boxes"], 0.0, 1.0)
        self.assertAllClose(outputs["boxes"], np.clip(boxes / np.array([WIDTH, HEIGHT] * 2), 0, 1), atol=1e-4)
        self.assertAllClose(outputs["scores"], scores, atol=1e-4)
        self.assertEqual((exported.num_classes, exported.image_size), (3, IMAGE_SIZE))

    def test_description(self):
        content = self.path.read_bytes()
        text = schema.Model.GetRootAs(content, 0).Description()
        self.assertEqual(json.loads(text), {"class_names": ["cell", "platelet", "other"], "fit": "letterbox"})
        exported = TFLiteDetector(self.path)
        self.assertEqual((exported.class_names, exported.image_fit), (CLASS_NAMES, "letterbox"))

    @parameterized.parameters("MLIR Converted.", "", "[1]", '{"class_names": [1], "fit": "letterbox"}', '{"fit": "x"}')
    def test_description_of_another_program(self, text):
        model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(self.path.read_bytes(), 0))
        model.description = text
        path = self.folder / "other.tflite"
        builder = flatbuffers.Builder(0)
        builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
        path.write_bytes(builder.Output())
        exported = TFLiteDetector(path)
        self.assertEqual((exported.class_names, exported.image_fit), (("0", "1", "2"), "letterbox"))

    def test_report(self):
        self.assertEqual(self.report.images, 3)
        self.assertEqual(self.report.compared, 3 * NUM_POINTS)
        self.assertBetween(self.report.score_error, 1e-9, 1e-4)
        self.assertBetween(self.report.box_error, 1e-9, 1e-2)

    def test_same_detections_through_the_predictor(self):
        images = self.network_inputs()
        letterboxes = np.stack([letterbox(image, IMAGE_SIZE)[1] for image in self.images])
        batch = (images, letterboxes, np.array([image.shape[:2] for image in self.images]))
        settings = NMSSettings(confidence=0.52, iou=0.5)
        expected = list(Predictor(self.detector, settings).predict([batch]))
        found = list(Predictor(TFLiteDetector(self.path), settings).predict([batch]))
        self.assertGreater(sum(len(one["scores"]) for one in expected), 5)
        for one, other in zip(expected, found, strict=True):
            self.assertAllEqual(one["labels"], other["labels"])
            self.assertAllClose(one["boxes"], other["boxes"], atol=0.05)
            self.assertAllClose(one["scores"], other["scores"], atol=1e-4)

    def test_an_export_that_differs_is_not_kept(self):
        path = self.folder / "wrong" / "detector.tflite"
        # 0.1 on a logit near 0 moves a score by 0.1 / 4, more than 0.001.
        with self.assertRaisesRegex(ExportError, "differs from the detector on 3 images"):
            to_tflite(TinyDetector(graph_error=0.1), path, images=self.images)
        self.assertFalse(path.parent.exists())

    def test_bad_paths(self):
        before = self.path.read_bytes()
        with self.assertRaisesRegex(InputError, "one that exists"):
            to_tflite(self.detector, self.path)
        self.assertEqual(self.path.read_bytes(), before)
        with self.assertRaisesRegex(InputError, "expected a .tflite file"):
            TFLiteDetector(self.folder / "missing.tflite")
        (self.folder / "text.tflite").write_text("no model")
        with self.assertRaisesRegex(InputError, "other contents"):
            TFLiteDetector(self.folder / "text.tflite")
        with self.assertRaisesRegex(InputError, "expected the size of the .tflite file"):
            TFLiteDetector(self.path)(np.zeros([1, 32, 32, 3], np.uint8))


if __name__ == "__main__":
    tf.test.main()
