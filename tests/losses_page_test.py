"""The page of the losses: its tables are those of its script, its pictures can be drawn, its numbers are right."""

import importlib.util
import os
import re
from unittest import mock

import numpy as np
import pytest
import tensorflow as tf
from absl.testing import absltest, parameterized
from PIL import Image

from kyolo import losses, registry
from kyolo.boxes import make_anchor_points
from tests.test_case import ROOT, TestCase
from tests.tools_test import run_script

SCRIPT = ROOT / "tools" / "losses_page.py"
PAGE = ROOT / "docs" / "losses.md"
IMAGES = sorted((ROOT / "docs" / "images" / "losses").glob("*.png"))


def run(test, *arguments):
    """Run the script into the folder of a test; the page that it writes there."""
    page = test.folder / "losses.md"
    done = run_script(SCRIPT, "--output", page, "--images", test.folder, *arguments)
    test.assertEqual(done.returncode, 0, done.stderr)
    return page.read_text()


class LossesPageTest(tf.test.TestCase, TestCase):
    def test_the_tables_are_up_to_date(self):
        """And what others answer is what is known of them, by other hands."""
        text = run(self, "--draw")
        self.assertEqual(text, PAGE.read_text())
        # 40 x 10 against 10 x 40: I = 100, U = 700, centres (20, 5) and (5, 20) in 40 x 40: D = 450 / 3200. KerasCV
        # has 4 / pi^2 times the right v, MMDetection none. EIoU adds 2 (30 / 40)^2, WIoU's author 2 (15 / 40)^2.
        apart, v = 6 / 7 + 450 / 3200, 4 / np.pi**2 * (np.arctan(4) - np.arctan(1 / 4)) ** 2
        right, keras_cv, mmdetection = (f"{apart + x**2 / (6 / 7 + x):.4f}" for x in (v, 4 / np.pi**2 * v, 0))
        for row in (f"costs {keras_cv}, not {right}", f"costs {mmdetection}, not {right}"):
            self.assertIn(f"40 x 10 against 10 x 40 {row}", text)
        eiou, author = (f"{apart + 2 * (side / 40) ** 2:.2f}" for side in (30, 15))
        self.assertIn(f"40 x 10 against 10 x 40 costs {author}, not {eiou}", text)

    def test_every_loss_stands_in_the_tables_and_has_a_picture(self):
        text = PAGE.read_text()
        for family in ("box_loss", "classification_loss"):
            for name in registry.names(family):
                self.assertIn(f"\n| `{name}` | `{registry.find(family, name).__name__}(", text)
        names = {path.stem for path in IMAGES}
        self.assertEqual(names, {*registry.names("box_loss"), "focusing", "classification"})
        self.assertEqual(names, set(re.findall(r"!\[[^\]]+\]\(images/losses/(\w+)\.png\)", text)))

    def test_pictures_are_small(self):
        self.assertLess(sum(path.stat().st_size for path in IMAGES), 600_000)

    @pytest.mark.slow
    def test_a_picture_is_drawn(self):
        if importlib.util.find_spec("matplotlib") is None:
            self.skipTest("needs Matplotlib")
        run(self, "--draw", "siou")
        drawn, kept = (Image.open(folder / "siou.png").convert("RGB") for folder in (self.folder, IMAGES[0].parent))
        self.assertEqual(drawn.size, kept.size)
        # Other versions of Matplotlib place things a little elsewhere, but the blue line is as long.
        blue = [np.sum(np.all(np.asarray(image) == (0, 0x72, 0xB2), axis=-1)) for image in (drawn, kept)]
        self.assertGreater(blue[1], 1000)
        self.assertAllClose(*blue, rtol=0.1)

    def test_without_matplotlib_it_is_one_line(self):
        (self.folder / "matplotlib.py").write_text("raise ImportError")
        with mock.patch.dict(os.environ, PYTHONPATH=str(self.folder)):
            done = run_script(SCRIPT, "--output", self.folder / "page", "--images", self.folder / "images")
        self.assertEqual((done.returncode, done.stdout), (2, ""))
        self.assertRegex(done.stderr, r"^losses_page: error: expected Matplotlib: [^\n]*\[docs\][^\n]*\n$")
        self.assertEqual([path.name for path in self.folder.iterdir() if path.suffix != ".pyc"], ["matplotlib.py"])

    @pytest.mark.slow
    def test_an_unknown_picture_is_one_line(self):
        done = run_script(SCRIPT, "--output", self.folder / "page", "--images", self.folder, "--draw", "sio")
        self.assertEqual((done.returncode, done.stdout), (2, ""))
        self.assertRegex(done.stderr.splitlines()[-1], r"^losses_page: error: --draw: .*siou.*received sio$")
        self.assertEmpty(list(self.folder.iterdir()))


class NumbersTest(tf.test.TestCase, parameterized.TestCase):
    """The numbers in the prose."""

    def test_mpdiou_hardly_sees_small_objects(self):
        # 10 x 10 missed by 20: both corners 20 away, 2 x 400 / (2 x 640^2). CIoU: rho 20, c^2 = 30^2 + 10^2.
        pair = [0.0, 0.0, 10.0, 10.0], [20.0, 0.0, 30.0, 10.0]
        self.assertAllClose(losses.MPDIoULoss(image_size=(640, 640))(*pair), 1 + 400 / 640**2)
        self.assertAllClose(losses.CIoULoss()(*pair), 1 + 400 / 1000)

    @parameterized.parameters((0.7, 0.88), (0.3, 0.12))
    def test_focal_loss_is_smallest_beside_its_target(self, target, expected):
        scores = np.linspace(0.001, 0.999, 999)
        logits = np.log(scores / (1 - scores))
        for cls, best in ((losses.FocalLoss, expected), *((other, target) for other in self.others())):
            values = cls(reduction=None, dtype="float64")(np.full(logits.shape, target), logits).numpy()
            self.assertAllClose(scores[values.argmin()], best, atol=0.005)

    @staticmethod
    def others():
        return losses.BinaryCrossentropy, losses.QualityFocalLoss, losses.VarifocalLoss

    def test_wiou_weighs_ordinary_boxes_most(self):
        # With a mean of 0.1, boxes of IoU 1 - 0.1 x have the outlierness x.
        outlierness = np.linspace(0.001, 8, 8000)
        boxes = np.stack([0 * outlierness, 0 * outlierness, 1 - 0.1 * outlierness, 1 + 0 * outlierness], axis=-1)
        value, plain = (
            losses.WIoULoss(version, initial_mean=0.1, reduction=None, dtype="float64")([0.0, 0.0, 1.0, 1.0], boxes)
            for version in (3, 1)
        )
        factor = (value / plain).numpy()
        self.assertAllClose(outlierness[factor.argmax()], 1 / np.log(1.9), atol=0.01)
        self.assertAllClose(outlierness[factor > 1].max(), 3, atol=0.01)

    def test_two_of_three_tiny_objects_lie_between_the_points(self):
        points, _ = make_anchor_points((64, 64), (8, 16, 32))
        low = np.stack(np.meshgrid(*2 * [np.arange(0, 32, 0.25) + 0.1]), axis=-1).reshape(-1, 1, 2)  # all of a period
        inside = np.all((low < points) & (points < low + 4), axis=-1)
        self.assertAllClose(np.mean(~inside.any(axis=-1)), 2 / 3, atol=0.01)


if __name__ == "__main__":
    absltest.main()
