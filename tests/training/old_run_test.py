"""A run directory that commit 20782d9 wrote still loads and resumes.

`tests/golden/run_20782d9` was stopped after the first of two epochs on four drawn images, with the levels P2 and P3 of
the smallest backbone and WIoU. `run_20782d9_expected.npz` holds what that commit computed: the outputs of the best and
the last weights on an image of noise, and some weights at the end of the resumed run.
"""

import pathlib
import shutil

import numpy as np
import pytest
import tensorflow as tf

from kyolo.data import write_shapes
from kyolo.training import load_checkpoint, open_run
from tests.test_case import TestCase

GOLDEN = pathlib.Path(__file__).parents[1] / "golden"
RUN = GOLDEN / "run_20782d9"


class OldRunTest(TestCase, tf.test.TestCase):
    def setUp(self):
        super().setUp()
        with np.load(GOLDEN / "run_20782d9_expected.npz") as file:
            self.expected = {key: file[key] for key in file.files}

    def test_outputs(self):
        image = np.random.default_rng(0).integers(0, 256, (1, 64, 64, 3)).astype("uint8")
        for weights in ("best", "last"):
            detector = open_run(RUN).load_detector(weights)
            self.assertEqual((detector.image_size, detector.image_fit), ((64, 64), "letterbox"))
            for name, output in detector(image).items():
                self.assertAllClose(output, self.expected[f"{weights}/{name}"], atol=1e-4)

    @pytest.mark.slow
    def test_resumes_with_moved_data(self):
        run, data = self.folder / "run", self.folder / "set"
        shutil.copytree(RUN, run)
        write_shapes(data, train=4, val=2, image_size=64)
        code, _, stderr = self.run_kyolo("train", "--resume", "--output", run, "--data", data)
        self.assertEqual(code, 0, stderr)
        end = load_checkpoint(run / "weights" / "last.npz")
        self.assertEqual(end.state["step"], 4)
        for key, value in self.expected.items():
            group, _, path = key.partition("/")
            if group == "resumed":
                self.assertAllClose(end.arrays[path], value, atol=1e-4, msg=path)


if __name__ == "__main__":
    tf.test.main()
