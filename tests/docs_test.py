"""Every command and every Python block of the README and the guides, run where a reader would run it.

What installs is left to CI, which begins with it; `make quickstart` and the benchmarks have tests of their own.
"""

import contextlib
import functools
import importlib.util
import io
import os
import pathlib
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from unittest import mock

import pytest
from absl.testing import absltest, parameterized

from kyolo import cli, registry
from kyolo.config import load_config
from kyolo.data import convert
from kyolo.data.shapes import write_shapes
from tests.test_case import ROOT
from tests.videos import write_video

PAGES = [path for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))) if "```" in path.read_text()]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
ELSEWHERE = ("source ", "make ", "git ", "pip ", ".venv/bin/pip ", "export ")  # what installs and tests; not run again
ELSEWHERE += ("kubectl ",)  # no cluster here; tests/training/distribution_test.py reads the file
ELSEWHERE += ("python3.11 -m venv ", ".venv-tfa/bin/pip ")  # the environment of tensorflow-addons
WITH_MEDIAPIPE = ("--metadata", "--to android")
FILE = re.compile(r"# (\w+)\.py\n")  # a Python block that begins so is that file to the commands of its page
SETTINGS = ("model.levels=[P4, P5]", "train.epochs=1", "train.schedule.warmup_epochs=0", "data.image_size=64")
SMALL = (  # the same in seconds
    ("image_size=320", "image_size=64"),
    ("epochs=60", "epochs=1"),
    ('YOLOv8("n"', 'YOLOv8("p"'),
    ('["model.num_classes=5"', '["model.backbone.size=p", "model.num_classes=5"'),
)


def blocks(page, language):
    return [text for kind, text in BLOCK.findall(page.read_text(encoding="utf-8")) if kind == language]


def commands(page):
    lines = "".join(blocks(page, "bash")).replace("\\\n", " ").splitlines()
    return [line.split("  #")[0].strip() for line in lines if line.strip() and not line.startswith("#")]


def write_place(folder):
    """What the pages speak of: data sets, images, configurations and a trained run, all of them small."""
    sets = folder / "path/to"
    write_shapes(sets / "set", train=8, val=4, image_size=64)
    convert(sets / "set", sets / "set_yolo", "yolo")
    convert(sets / "set", sets / "set_without_val", "coco")
    (sets / "set_without_val/annotations/instances_val.json").unlink()
    (sets / "bccd").symlink_to("set")
    (sets / "images").symlink_to("set/val")
    write_video(sets / "street.mp4")
    shutil.copy(sets / "set/val/000000.jpg", folder / "photo.jpg")
    shutil.copytree(ROOT / "configs", folder / "configs")
    train = ["train", "--config", folder / "configs/quickstart.yaml", "--data", sets / "set"]
    run_kyolo([*train, "--output", folder / "saved_models/mine", *(x for text in SETTINGS for x in ("--set", text))])


def run_kyolo(arguments):
    stdout, stderr = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(stdout), contextlib.redirect_stderr(stderr):
        if cli.main([str(argument) for argument in arguments]):
            raise AssertionError(stderr.getvalue())


@pytest.mark.slow
class DocsTest(parameterized.TestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.place = pathlib.Path(cls.enterClassContext(tempfile.TemporaryDirectory()))
        write_place(cls.place)

    def setUp(self):
        super().setUp()
        self.folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory())) / "place"
        shutil.copytree(self.place, self.folder, symlinks=True)
        self.enterContext(contextlib.chdir(self.folder))
        self.enterContext(mock.patch.dict(os.environ, KYOLO_DATA=str(self.folder / "path/to")))

    @parameterized.named_parameters((path.stem, path) for path in PAGES)
    def test_commands(self, page):
        self.write_files(page)
        for command in commands(page):
            with self.subTest(command):
                if any(words in command for words in WITH_MEDIAPIPE) and not importlib.util.find_spec("mediapipe"):
                    self.skipTest("needs the extra mediapipe")
                if not command.startswith(ELSEWHERE):
                    program, *arguments = shlex.split(os.path.expandvars(command))
                    programs = {"kyolo": self.run_command, "python": self.run_python}
                    programs[program.removeprefix(".venv-tfa/bin/")](arguments)

    @parameterized.named_parameters((path.stem, path) for path in PAGES)
    def test_python(self, page):
        for number, text in enumerate(blocks(page, "python")):
            with self.subTest(number):
                (self.folder / "block.py").write_text(
                    functools.reduce(lambda text, pair: text.replace(*pair), SMALL, text)
                )
                environment = os.environ | {"PYTHONPATH": str(ROOT)}
                done = subprocess.run(
                    [sys.executable, "block.py"], env=environment, capture_output=True, text=True, check=False
                )
                self.assertEqual(done.returncode, 0, done.stderr)

    @parameterized.named_parameters((path.stem, path) for path in PAGES)
    def test_yaml(self, page):
        for text in blocks(page, "yaml"):
            (self.folder / "configs/own.yaml").write_text(text)
            load_config("configs/own.yaml")

    def test_the_readme_goes_the_whole_way(self):
        """Its commands as they stand there, on what its own training has written; one epoch of a narrow model."""
        shutil.rmtree("saved_models/mine")
        kyolo = [shlex.split(command)[1:] for command in commands(ROOT / "README.md") if command.startswith("kyolo ")]
        self.assertEqual([command[0] for command in kyolo], ["train", "evaluate", "predict", "export"])
        run_kyolo([*kyolo[0], *(x for text in (*SETTINGS, "model.backbone.size=p") for x in ("--set", text))])
        for command in kyolo[1:]:
            run_kyolo(command)
        self.assertTrue(pathlib.Path("detector.tflite").is_file())
        self.assertLen(list(pathlib.Path("pictures").glob("*.jpg")), 4)

    def write_files(self, page):
        """The modules that a page shows, for --import; what they register is forgotten afterwards."""
        self.enterContext(mock.patch.object(sys, "path", list(sys.path)))
        for names in registry._registered.values():
            self.enterContext(mock.patch.dict(names))
        for text in blocks(page, "python"):
            if name := FILE.match(text):
                (self.folder / f"{name[1]}.py").write_text(text)
                self.addCleanup(sys.modules.pop, name[1], None)

    def run_command(self, arguments):
        """Training from the start is a dry run of a narrow model; the README's goes the whole way above."""
        if arguments[0] == "ablate":  # tests/cli/ablate_test.py runs a study
            arguments += ["--dry-run"] * ("--dry-run" not in arguments)
            self.enterContext(mock.patch("kyolo.ablation.run_seconds", return_value=60.0))
        if arguments[0] == "train" and "--resume" not in arguments:
            if any(argument.startswith("model.weights=") for argument in arguments):
                arguments += ["--set", SETTINGS[0]]  # as the run whose weights they are
            chosen = any(argument.startswith("model.backbone=") for argument in arguments)
            arguments += [
                *["--set", "model.backbone.size=p"] * (not chosen),
                *["--dry-run"] * ("--dry-run" not in arguments),
            ]
        run_kyolo(arguments)

    def run_python(self, arguments):
        """Benchmarks take minutes, or another environment: here they are asked whether they have these options."""
        script, *rest = arguments
        if not script.startswith(("benchmarks/", "tools/tfa_reference.py")):
            self.fail(f"{script}: say here how it is tested")
        done = subprocess.run(
            [sys.executable, str(ROOT / script), "--help"], capture_output=True, text=True, check=False
        )
        self.assertEqual(done.returncode, 0, done.stderr)
        for argument in rest:
            if argument.startswith("--"):
                self.assertIn(argument.split("=")[0], done.stdout)


class ReferenceTest(absltest.TestCase):
    def test_the_page_of_settings_is_up_to_date(self):
        with tempfile.NamedTemporaryFile("r") as file:
            command = [sys.executable, str(ROOT / "tools/configuration_reference.py"), "--output", file.name]
            subprocess.run(command, check=True)
            self.assertEqual(file.read(), (ROOT / "docs/configuration.md").read_text())


if __name__ == "__main__":
    absltest.main()
