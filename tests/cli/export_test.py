"""`kyolo export`: files, failed checks, bad input."""

import argparse
import json
import pathlib
import shutil
from unittest import mock

from absl.testing import absltest

import kyolo
from kyolo.cli import export as cli_export
from kyolo.data import read_image
from kyolo.data.shapes import write_shapes
from kyolo.export import conversion, tflite
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

    def test_precision_types_and_suppression(self):
        path = self.folder / "int8.tflite"
        with mock.patch("kyolo.export.to_tflite") as to_tflite:
            to_tflite.return_value = kyolo.export.ParityReport(3, 1, 0.1, 0.1, 0.1, 0.1)
            code, _, stderr = self.run_kyolo(
                "export", "--run", self.folder / "run", "--to", "tflite", "--output", path, "--precision", "int8",
                "--nms", "--input-type", "uint8", "--calibration-images", "1", "--set", "evaluation.confidence=0.4",
            )  # fmt: skip
        self.assertEqual(code, 0, stderr)
        options = to_tflite.call_args.kwargs
        self.assertEqual(
            [options[name] for name in ("precision", "input_type", "output_type")], ["int8", "uint8", "float32"]
        )
        # Pictures' settings, but for what is said; the data set has one training image.
        self.assertEqual(options["nms"], kyolo.export.NMSSettings(0.4, 0.7, 100, False))
        self.assertEqual([image.shape for image in options["calibration"]], [(64, 64, 3)])

    def export_int8(self, *arguments):
        """Return standard error, what the exporter got, and the names of the images that were decoded."""
        decoded = []

        def read(path):
            decoded.append(pathlib.Path(path).name)
            return read_image(path)

        report = kyolo.export.ParityReport(8, 1, 0.1, 0.1, 0.1, 0.1)
        with (
            mock.patch("kyolo.data.index.read_image", side_effect=read),
            mock.patch("kyolo.data.load.read_image", side_effect=read),
            mock.patch("kyolo.export.to_tflite", return_value=report) as to_tflite,
        ):
            code, _, stderr = self.run_kyolo(
                "export", "--run", self.folder / "run", "--to", "tflite", "--output", self.folder / "int8.tflite",
                "--precision", "int8", "--data", self.shapes, *arguments,
            )  # fmt: skip
        self.assertEqual(code, 0, stderr)
        return stderr, to_tflite.call_args.kwargs, decoded

    def rewrite_shapes(self, train, val, bad):
        shutil.rmtree(self.shapes)
        write_shapes(self.shapes, train=train, val=val, image_size=64)
        for split, number in bad:
            paths = sorted(path for path in self.shapes.rglob("*.jpg") if split in path.parts)
            paths[number].write_text("no image")

    def test_only_the_images_that_are_used_are_decoded(self):
        self.rewrite_shapes(train=30, val=20, bad=())
        stderr, options, decoded = self.export_int8("--calibration-images", "10")
        # Every third of 30 images, and the first eight of val.
        self.assertLen(options["calibration"], 10)
        self.assertLen(options["images"], 8)
        self.assertLen(decoded, 18)
        self.assertIn("calibrated on 10 images\n", stderr)

    def test_bad_images_are_replaced_and_counted(self):
        # Calibration takes images 0, 3, 6, ... : 3 is replaced by 4; of 6, 7, 8 none is left.
        self.rewrite_shapes(train=30, val=20, bad=[("train", n) for n in (3, 6, 7, 8)] + [("val", 0)])
        stderr, options, decoded = self.export_int8("--calibration-images", "10")
        self.assertLen(options["calibration"], 9)
        self.assertLen(options["images"], 8)
        self.assertLen(decoded, 13 + 9)
        self.assertRegex(stderr, r"calibrated on 9 of 10 images: 4 do not decode \([^,]+, [^,]+, [^,]+, ...\)\n")
        self.assertRegex(stderr, r"checked on 8 of 8 images: 1 do not decode \([^,]+\)\n")

    def test_no_image_that_decodes(self):
        self.rewrite_shapes(train=2, val=2, bad=[("train", 0), ("train", 1)])
        self.assert_bad_input(
            ["export", "--run", self.folder / "run", "--to", "tflite", "--output", self.folder / "a", "--precision",
             "int8"],
            "split 'train': expected images that decode, got 2 that do not",
        )  # fmt: skip

    def test_android(self):
        path = self.folder / "app"
        report = kyolo.export.ParityReport(3, 1, 0.1, 0.1, 0.1, 0.1)
        with (
            mock.patch("kyolo.export.to_android", return_value={"a.tflite": report}) as to_android,
            mock.patch("kyolo.data.make_dataset", side_effect=lambda *_, fit, **__: fit),
            mock.patch(
                "kyolo.evaluation.evaluate", lambda _, fit, **__: {"ap": {"letterbox": 0.5, "stretch": 0.25}[fit]}
            ),
        ):
            code, stdout, stderr = self.run_kyolo(
                "export", "--run", self.folder / "run", "--to", "android", "--output", path, "--json",
                "--calibration-images", "7",
            )  # fmt: skip
        self.assertEqual(code, 0, stderr)
        self.assertEqual(to_android.call_args.kwargs["max_detections"], 100)
        self.assertEqual([image.shape for image in to_android.call_args.kwargs["calibration"]], [(64, 64, 3)])
        document = json.loads(stdout)
        self.assertEqual(document["files"]["a.tflite"]["images"], 3)
        self.assertEqual([document[f"ap_{fit}"] for fit in ("letterbox", "stretch")], [0.5, 0.25])
        self.assertIn("trained with data.fit=letterbox", stderr)

    def test_options_that_do_not_fit(self):
        for arguments, text in (
            (("--to", "saved_model", "--precision", "int8"), "--precision: expected with --to tflite only"),
            (("--to", "saved_model", "--no-nms"), "--nms: expected with --to tflite only"),
            (("--to", "android", "--precision", "int8"), "--precision: expected with --to tflite only"),
            (("--to", "tflite", "--metadata"), "--metadata: expected with --nms"),
            (
                ("--to", "tflite", "--metadata", "--nms", "--precision", "int8", "--input-type", "int8"),
                "--metadata: expected an input of float32 or uint8",
            ),
            (("--to", "tflite", "--input-type", "uint8"), "--input-type: expected with --precision int8 only"),
            (("--to", "tflite", "--precision", "int9"), "invalid choice: 'int9'"),
            (
                ("--to", "tflite", "--precision", "int8", "--calibration-images", "0"),
                "--calibration-images: expected 1 or more",
            ),
            (("--to", "tflite", "--set", "evaluation.iou=0.5"), "evaluation.iou: expected one of data"),
        ):
            path = self.folder / "none"
            code, _, stderr = self.run_kyolo("export", "--run", self.folder / "run", "--output", path, *arguments)
            self.assertEqual(code, 2)
            self.assertIn(text, stderr)
            self.assertEqual(stderr.count("\n"), 1)
            self.assertFalse(path.exists())

    def test_choices_are_those_of_the_exports(self):
        parser = argparse.ArgumentParser()
        cli_export.add_arguments(parser)
        choices = {action.dest: action.choices for action in parser._actions}
        self.assertEqual(choices["precision"], conversion.PRECISIONS)
        for name in ("input_type", "output_type"):
            self.assertEqual(choices[name], tflite.INTERFACE_TYPES)
        self.assertEqual(cli_export.TFLITE_DETECTIONS, kyolo.export.NMS_DEFAULTS.max_detections)

    def test_export_that_differs_is_a_failed_check(self):
        path = self.folder / "exported"
        error = kyolo.export.ExportError("boxes differ")
        with mock.patch("kyolo.export.to_saved_model", side_effect=error):
            code, _, stderr = self.run_kyolo(
                "export", "--run", self.folder / "run", "--to", "saved_model", "--output", path
            )
        self.assertEqual((code, stderr), (1, "kyolo: error: boxes differ; nothing was written\n"))


if __name__ == "__main__":
    absltest.main()
