"""`kyolo benchmark`: a row for each way of exporting, and files that are kept where that is asked for."""

import json
from unittest import mock

import pytest
from absl.testing import absltest

import kyolo
from tests.cli.run_case import RunTestCase
from tests.export.lively import TinyDetector

VARIANTS = [
    "keras", "saved_model", "tflite float32", "tflite float32 nms", "tflite float16", "tflite float16 nms",
    "tflite dynamic", "tflite dynamic nms", "tflite int8", "tflite int8 nms",
]  # fmt: skip
FAILURES = "expected the same results of all exports, received others of tflite float16, tflite float16 nms"


@pytest.mark.slow
class BenchmarkTest(RunTestCase):
    def setUp(self):
        super().setUp()
        tiny = TinyDetector()
        tiny.num_classes, tiny.image_size = 3, (64, 64)
        self.enterContext(mock.patch.object(kyolo.training.Run, "load_detector", return_value=tiny))

    def benchmark(self, *arguments):
        return self.run_kyolo("benchmark", "--run", self.folder / "run", "--runs", "3", *arguments)

    def test_rows(self):
        code, stdout, stderr = self.benchmark("--threads", "1", "--json", "--output", self.folder / "files")
        self.assertEqual(code, 0, stderr)
        document = json.loads(stdout)
        rows = {row["variant"]: row for row in document["variants"]}
        self.assertEqual(list(rows), VARIANTS)
        self.assertEqual((document["threads"], document["runs"]), (1, 3))
        for name, row in rows.items():
            self.assertGreater(row["median_ms"], 0.0)
            self.assertGreaterEqual(row["p95_ms"], row["median_ms"])
            # Of TinyDetector, which finds nothing: null with the protocol beside it; none of files with a suppression.
            self.assertEqual(row["protocol"] is None, name.endswith("nms"))
            self.assertIsNone(row["error"])
        self.assertIsNone(rows["keras"]["bytes"])
        self.assertEqual((rows["keras"]["ap_lost"], rows["keras"]["box_error"]), (0.0, 0.0))
        path = self.folder / "files" / "tflite_float32.tflite"
        self.assertEqual(rows["tflite float32"]["bytes"], path.stat().st_size)
        self.assertLess(rows["tflite float32"]["box_error"], 0.05)
        self.assertGreater(rows["tflite int8"]["score_error"], rows["tflite float32"]["score_error"])

    def test_a_variant_that_differs_does_not_end_it(self):
        real = kyolo.export.variants.to_tflite

        def fail(detector, path, **options):
            if options["precision"] == "float16":
                raise kyolo.export.ExportError("float16 differs")
            return real(detector, path, **options)

        with mock.patch("kyolo.export.variants.to_tflite", fail):
            code, stdout, stderr = self.benchmark("--json")
        self.assertEqual((code, stderr.splitlines()[-1]), (1, f"kyolo: error: {FAILURES}"))
        rows = {row["variant"]: row for row in json.loads(stdout)["variants"]}
        self.assertEqual(list(rows), VARIANTS)
        for name, row in rows.items():
            failed = name in ("tflite float16", "tflite float16 nms")
            self.assertEqual(row["error"], "float16 differs" if failed else None)
            self.assertEqual(row["median_ms"] is None, failed)

    def test_a_detector_that_no_export_equals(self):
        """TinyDetector whose graphs are off by 1 in each logit: the Keras model's own row is left."""
        tiny = TinyDetector(graph_error=1.0)
        tiny.num_classes, tiny.image_size = 3, (64, 64)
        with mock.patch.object(kyolo.training.Run, "load_detector", return_value=tiny):
            code, stdout, stderr = self.benchmark("--set", "evaluation.confidence=0.5")
        self.assertEqual(code, 2, stderr)  # only data.* may be set
        with mock.patch.object(kyolo.training.Run, "load_detector", return_value=tiny):
            code, stdout, stderr = self.benchmark()
        self.assertEqual(code, 1, stderr)
        self.assertIn("tflite float32: The export differs from the detector on", stdout)
        self.assertIn("received others of", stderr)

    def test_ap_lost(self):
        scores = iter([0.5, 0.5, 0.48, 0.47, 0.46, 0.45])
        with mock.patch("kyolo.export.variants.evaluate", lambda *_: {"ap": next(scores), "protocol": {}}):
            code, stdout, stderr = self.benchmark("--json")
        self.assertEqual(code, 0, stderr)
        lost = [row["ap_lost"] for row in json.loads(stdout)["variants"] if row["ap"] is not None]
        self.assertEqual([round(each, 6) for each in lost], [0.0, 0.0, 0.02, 0.03, 0.04, 0.05])

    def test_table_and_refusals(self):
        with mock.patch("kyolo.export.measure_variants") as measure:
            row = {"error": None, "bytes": None, "median_ms": 1.5, "p95_ms": 2.5, "ap": 0.25, "ap_lost": 0.125}
            measure.return_value = [
                {"variant": "keras", **row, "box_error": 0.0625, "score_error": 0.5, "unmatched": 7}
            ]
            code, stdout, _ = self.benchmark()
        self.assertEqual(code, 0)
        cells = ["keras", "-", "1.500", "2.500", "0.250", "0.125", "0.062", "0.500", "7"]
        self.assertEqual(stdout.splitlines()[2].split(), cells)
        self.assertLen(list(self.folder.iterdir()), 2)  # the run and its data
        for arguments, text in (
            (("--threads", "0"), "--threads: expected 1 or more"),
            (("--runs", "0"), "--runs: expected 1 or more"),
            (("--output", self.folder / "run"), "expected a path that is new"),
        ):
            code, _, stderr = self.benchmark(*arguments)
            self.assertEqual((code, stderr.count("\n")), (2, 1), stderr)
            self.assertIn(text, stderr)


if __name__ == "__main__":
    absltest.main()
