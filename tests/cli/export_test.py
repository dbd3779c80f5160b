"""`kyolo export`: files, failed checks, bad input."""

import json
from unittest import mock

from absl.testing import absltest

import kyolo
from tests.cli.run_case import RunTestCase


class ExportTest(RunTestCase):
    def test_tflite(self):
        path = self.folder / "detector.tflite"
        code, stdout, stderr = self.run_kyolo(
            "export", "--run", self.folder / "run", "--to", "tflite", "--output", path, "--json"
        )
        self.assertEqual(code, 0, stderr)
        document = json.loads(stdout)
        self.assertEqual((document["path"], document["format"], document["images"]), (str(path), "tflite", 3))
        self.assertLess(document["box_error"], 0.05)
        self.assertEqual(kyolo.export.TFLiteDetector(path).image_size, (64, 64))

    def test_export_that_differs_is_a_failed_check(self):
        path = self.folder / "exported"
        error = kyolo.export.ExportError("boxes differ")
        with mock.patch("kyolo.export.to_saved_model", side_effect=error):
            code, _, stderr = self.run_kyolo(
                "export", "--run", self.folder / "run", "--to", "saved_model", "--output", path
            )
        self.assertEqual((code, stderr), (1, "kyolo: error: boxes differ\n"))


if __name__ == "__main__":
    absltest.main()
