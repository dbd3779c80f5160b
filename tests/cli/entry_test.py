"""The frame of the command line: help, exit codes, streams."""

import json
import os
import signal
import subprocess
import sys
import time
from unittest import mock

from absl.testing import absltest, parameterized

from kyolo.cli import options, train
from kyolo.config import Config, ConfigError
from kyolo.errors import InputError
from tests.test_case import ROOT, TestCase

TRAIN = ("train", "--config", ROOT / "configs" / "yolov8_n.yaml", "--output", "run")


class EntryTest(TestCase):
    def test_help_names_every_command_at_once_and_without_tensorflow(self):
        code = (
            "from kyolo import cli; cli.main(['--help']); import sys; print({'tensorflow', 'numpy'} & set(sys.modules))"
        )
        start = time.monotonic()
        done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
        self.assertLess(time.monotonic() - start, 5)  # A third of a second; the rest is for a busy machine.
        self.assertEqual(done.stdout.splitlines()[-1], "set()")
        for command in ("train", "evaluate", "predict", "export", "benchmark", "describe", "convert", "ablate"):
            self.assertIn(command, done.stdout)

    @parameterized.parameters("train", "evaluate", "predict", "export", "benchmark", "describe", "convert", "ablate")
    def test_every_command_has_help(self, command):
        code, stdout, stderr = self.run_kyolo(command, "--help")
        self.assertEqual((code, stderr), (0, ""))
        self.assertIn("--json", stdout)
        self.assertIn("--debug", stdout)

    def test_version(self):
        self.assertEqual(self.run_kyolo("--version")[:2], (0, "kyolo 0.1.0\n"))

    @parameterized.parameters(
        ([], "COMMAND"),
        (["trian"], "invalid choice: 'trian'"),
        (["train", "--confg", "x"], "--confg"),
        (["train", "--resume", "--dry-run"], "not allowed with"),
        (["predict", "--run", "x"], "PATH", "kyolo predict --help"),
        (["export", "--run", "x", "--output", "y", "--to", "onnx"], "onnx"),
    )
    def test_bad_arguments_are_one_line(self, arguments, *parts):
        self.assert_bad_input(arguments, *parts)

    def test_sigterm_does_what_ctrl_c_does(self):
        before = signal.getsignal(signal.SIGTERM)
        with mock.patch.object(train, "run", side_effect=lambda _: os.kill(os.getpid(), signal.SIGTERM)):
            code, _, stderr = self.run_kyolo(*TRAIN)
        self.assertEqual((code, stderr), (130, "kyolo: interrupted\n"))
        self.assertEqual(signal.getsignal(signal.SIGTERM), before)

    @parameterized.parameters(
        (ConfigError("train.epochs", "expected\n  a number"), 2, "kyolo: error: train.epochs: expected a number\n"),
        (InputError("no such folder"), 2, "kyolo: error: no such folder\n"),
        (PermissionError(13, "Permission denied", "run"), 2, "kyolo: error: [Errno 13] Permission denied: 'run'\n"),
        (
            MemoryError(),
            2,
            "kyolo: error: out of memory. Lower the batch size or the image size, or close other programs.\n",
        ),
        (options.CheckFailed("boxes differ"), 1, "kyolo: error: boxes differ\n"),
        (KeyboardInterrupt(), 130, "kyolo: interrupted\n"),
    )
    def test_errors_become_exit_codes(self, error, exit_code, line):
        with mock.patch.object(train, "run", side_effect=error):
            self.assertEqual(self.run_kyolo(*TRAIN), (exit_code, "", line))
            code, _, stderr = self.run_kyolo(*TRAIN, "--debug")
        self.assertEqual(code, exit_code)
        self.assertStartsWith(stderr, "Traceback")

    def test_a_mistake_in_the_program_is_not_hidden(self):
        with mock.patch.object(train, "run", side_effect=KeyError("x")), self.assertRaises(KeyError):
            self.run_kyolo(*TRAIN)

    def test_json_leaves_only_documents_on_stdout(self):
        def run(_):
            print("for people")  # noqa: T201
            yield {"ap": None}
            yield {"ap": 0.5}

        with mock.patch.object(train, "run", run):
            _, stdout, stderr = self.run_kyolo(*TRAIN, "--json")
            self.assertEqual(([json.loads(line) for line in stdout.splitlines()]), [{"ap": None}, {"ap": 0.5}])
            self.assertEqual(stderr, "for people\n")
            self.assertEqual(self.run_kyolo(*TRAIN), (0, "for people\n", ""))


class OptionsTest(TestCase):
    def test_what_a_finished_run_cannot_change_is_refused(self):
        allowed = ("data.image_size", "evaluation")
        config = options.override_run(Config(), ["evaluation.iou=0.6", "data.image_size=320"], allowed)
        self.assertEqual((config.evaluation.iou, config.data.image_size), (0.6, 320))
        for override in ("model.loss.box.kind=siou", "train.epochs=3", "evalution.iou=0.6", "data.cache=disk"):
            with self.assertRaisesRegex(ConfigError, "expected one of data.image_size, evaluation, which this command"):
                options.override_run(Config(), [override], allowed)

    def test_pictures_show_sure_detections_of_one_class(self):
        evaluation = options.with_picture_settings(Config()).evaluation
        self.assertEqual((evaluation.confidence, evaluation.multi_label, evaluation.iou), (0.25, False, 0.7))


class ExportTest(TestCase):
    def test_existing_output_is_left_alone(self):
        path = self.folder / "detector.tflite"
        path.write_text("mine")
        self.assert_bad_input(["export", "--run", "x", "--to", "tflite", "--output", path], path, "--output")
        self.assertEqual(path.read_text(), "mine")


if __name__ == "__main__":
    absltest.main()
