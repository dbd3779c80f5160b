"""`.tflite` files of every precision, with the suppression inside and without, and with types of 8 bits."""

import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from absl.testing import parameterized
from ai_edge_litert.interpreter import Interpreter, OpResolverType

from kyolo.data import letterbox
from kyolo.errors import InputError
from kyolo.evaluation.detect import NMSSettings, Predictor
from kyolo.export import ExportError, TFLiteDetector, TFLiteEndToEnd, to_tflite
from kyolo.export.conversion import with_types
from kyolo.export.network import find
from tests.export.lively import IMAGE_SIZE, TinyDetector, lively_detector, random_images

WITHOUT_DELEGATES = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES  # which hide ops
PRECISIONS = ("float32", "float16", "dynamic", "int8")
SETTINGS = NMSSettings(confidence=0.52, iou=0.5, max_detections=20)


def ops_of(path):
    """Name of each op, and the types that it reads and writes."""
    interpreter = Interpreter(str(path), experimental_op_resolver_type=WITHOUT_DELEGATES)
    types = {detail["index"]: detail["dtype"].__name__ for detail in interpreter.get_tensor_details()}
    for op in interpreter._get_ops_details():
        yield op["op_name"], [types.get(i) for i in op["inputs"]], [types.get(i) for i in op["outputs"]]


class WithFiles:
    """Makes files once for all tests of a class."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.detector = cls.make_detector()
        cls.images = list(random_images())
        cls.inputs = [letterbox(image, IMAGE_SIZE)[0].numpy() for image in cls.images]
        cls.folder = Path(cls.enterClassContext(tempfile.TemporaryDirectory()))
        cls.made = {}

    def export(self, name="", **options):
        """The file; nothing is compared."""
        name += "_".join(options[key] for key in sorted(options) if key != "nms") + "_nms" * ("nms" in options)
        path = self.folder / f"{name}.tflite"
        if name not in self.made:
            self.made[name] = to_tflite(self.detector, path, calibration=self.images, **options)
        return path


class TinyTest(WithFiles, tf.test.TestCase, parameterized.TestCase):
    make_detector = TinyDetector

    @parameterized.product(precision=PRECISIONS, nms=(None, SETTINGS))
    def test_is_compared_with_the_detector(self, precision, nms):
        path = self.folder / "compared" / f"{precision}_{nms is None}.tflite"
        report = to_tflite(
            self.detector, path, images=self.images, calibration=self.images,
            precision=precision, nms=nms,
        )  # fmt: skip
        self.assertEqual((report.images, report.unmatched), (3, 0))
        self.assertGreater(report.compared, 10)
        self.assertGreater(report.score_error, 0.0)
        self.assertTrue(path.exists())

    @parameterized.parameters("float32", "float16", "dynamic", "int8")
    @pytest.mark.slow
    def test_an_export_that_differs_is_not_kept(self, precision):
        # 1 on a logit near 0 moves a score by about 0.2.
        path = self.folder / "differs" / "detector.tflite"
        with self.assertRaisesRegex(ExportError, f"for {precision}"):
            to_tflite(
                TinyDetector(graph_error=1.0), path, images=self.images,
                calibration=self.images, precision=precision,
            )  # fmt: skip
        self.assertFalse(path.parent.exists())

    def test_wrong_options(self):
        for options, text in (
            ({"precision": "int4"}, "precision: expected one of float32, float16, dynamic, int8, received 'int4'"),
            ({"precision": "int8"}, "calibration: expected images"),
            (
                {"precision": "float16", "input_type": "uint8"},
                "input_type: expected float32 with the precision float16",
            ),
            ({"output_type": "int16"}, "output_type: expected one of"),
        ):
            with self.assertRaisesRegex(InputError, text):
                to_tflite(self.detector, self.folder / "wrong.tflite", **options)
        self.assertFalse((self.folder / "wrong.tflite").exists())

    def test_an_op_that_runtimes_lack_is_named(self):
        class Odd(TinyDetector):
            def call(self, images, training=None):
                return tf.math.betainc(1.0, 2.0, tf.sigmoid(super().call(images, training)))

        path = self.folder / "odd" / "detector.tflite"
        with self.assertRaisesRegex(ExportError, "^TFLite: expected ops .* received Betainc$"):
            to_tflite(Odd(), path)
        self.assertFalse(path.parent.exists())

    def test_several_classes_of_a_point(self):
        """`multi_label` inside the file, whose choice of candidates has two outputs, in int8 too."""
        settings = replace(SETTINGS, multi_label=True, max_detections=100)
        for precision in ("float32", "int8"):
            inside = TFLiteEndToEnd(self.export(precision=precision, nms=settings, name="several"))
            outside = TFLiteDetector(self.export(precision=precision))
            for image in self.inputs:
                found, expected = inside(image), find(outside, image, settings)
                # Of equal scores, which int8 has, the order is the runtime's.
                rows = [
                    np.column_stack([each[key] for key in ("boxes", "labels", "scores")]) for each in (found, expected)
                ]
                found_rows, expected_rows = (each[np.lexsort(each.round(3).T)] for each in rows)
                self.assertAllClose(found_rows, expected_rows, rtol=0, atol=1e-4)
                self.assertLess(len(np.unique(found["boxes"], axis=0)), len(found["boxes"]))  # a point of two classes

    def test_wrong_size_in_a_graph(self):
        predictor = Predictor(TFLiteDetector(self.export(precision="float32")))
        with self.assertRaisesRegex(InputError, "^images: expected the size of the .tflite file, .64, 96., received"):
            next(iter(predictor.predict([(tf.zeros((1, 32, 32, 3)), tf.ones((1, 4)), tf.ones((1, 2), tf.int32))])))

    def test_pixels_that_are_read_as_floats_too(self):
        content = self.export(precision="float32").read_bytes()
        with self.assertRaisesRegex(InputError, "^input_type: expected float32 of a network that reads its pixels"):
            with_types(content, "uint8", "float32")

    def test_the_other_kind_of_file_is_refused(self):
        files = self.export(precision="float32", nms=SETTINGS), self.export(precision="float32")
        for kind, path in zip((TFLiteDetector, TFLiteEndToEnd), files, strict=True):
            with self.assertRaisesRegex(InputError, "received one with the outputs"):
                kind(path)


@pytest.mark.slow
class RealTest(WithFiles, tf.test.TestCase, parameterized.TestCase):
    make_detector = lively_detector

    @parameterized.parameters(*PRECISIONS)
    def test_with_the_suppression_inside(self, precision):
        """Detections are those of the file without it, by the suppression that evaluation has."""
        path = self.export(precision=precision, nms=SETTINGS)
        names = {name for name, _, _ in ops_of(path)}
        self.assertIn("NON_MAX_SUPPRESSION_V4", names)
        self.assertEmpty([name for name in names if "Flex" in name or "CUSTOM" in name])
        inside, outside = TFLiteEndToEnd(path), TFLiteDetector(self.export(precision=precision))
        self.assertEqual((inside.image_size, inside.max_detections), (IMAGE_SIZE, 20))
        counts = 0
        for image in self.inputs:
            found, expected = inside(image), find(outside, image, SETTINGS)
            for key in ("boxes", "scores", "labels"):
                self.assertAllClose(found[key], expected[key], rtol=0, atol=1e-4)
            counts += len(found["scores"])
        self.assertGreater(counts, 5)

    def test_sizes(self):
        """Weights of the convolutions are nearly all of the file: 4, 2 and 1 bytes each."""
        sizes = {each: self.export(precision=each).stat().st_size for each in PRECISIONS}
        self.assertBetween(sizes["float16"] / sizes["float32"], 0.48, 0.6)
        self.assertBetween(sizes["dynamic"] / sizes["float32"], 0.24, 0.4)
        self.assertBetween(sizes["int8"] / sizes["float32"], 0.24, 0.4)

    def test_half_weights_and_nothing_else(self):
        seen = list(ops_of(self.export(precision="float16")))
        halves = [inputs for name, inputs, outputs in seen if name == "DEQUANTIZE"]
        convolutions = [inputs for name, inputs, _ in seen if name == "CONV_2D"]
        # One for each convolution, but for the three levels' last ones, whose kernels are equal in this detector.
        self.assertEqual(halves, [["float16"]] * (len(convolutions) - 4))
        self.assertNotIn("float16", [inputs[0] for inputs in convolutions])

    def test_int8_up_to_the_last_convolutions(self):
        seen = list(ops_of(self.export(precision="int8")))
        for name, inputs, outputs in seen:
            if name in ("CONV_2D", "MAX_POOL_2D", "RESIZE_NEAREST_NEIGHBOR", "PAD"):
                self.assertEqual((name, inputs[0], *outputs), (name, "int8", "int8"))
        # The three levels' box and class logits come back as floats, and stay that.
        self.assertLen([inputs for name, inputs, _ in seen if (name, inputs) == ("DEQUANTIZE", ["int8"])], 6)
        for expected in ("SOFTMAX", "SUM", "MINIMUM"):
            self.assertEqual([outputs for name, _, outputs in seen if name == expected], [["float32"]])

    @parameterized.parameters(("uint8", 0), ("int8", -128))
    def test_types_of_8_bits(self, dtype, zero_point):
        path = self.export(precision="int8", input_type=dtype, output_type=dtype)
        interpreter = Interpreter(str(path))
        (pixels,) = interpreter.get_input_details()
        self.assertEqual((pixels["dtype"], pixels["quantization"]), (np.dtype(dtype).type, (1.0, zero_point)))
        for detail in interpreter.get_output_details():
            self.assertEqual(detail["dtype"], np.dtype(dtype).type)
            self.assertAllClose(detail["quantization"], (1 / 255, zero_point))
        plain = self.export(precision="int8")
        for image in self.inputs:
            found, expected = (TFLiteDetector(each)(image[None]) for each in (path, plain))
            # Half a step of 1/255, and where a pixel that is rounded otherwise leads.
            self.assertAllClose(found["scores"], expected["scores"], rtol=0, atol=0.5 / 255 + 0.02)
            self.assertLess(np.abs(found["boxes"] - expected["boxes"]).mean(), 0.5 / 255)


if __name__ == "__main__":
    tf.test.main()
