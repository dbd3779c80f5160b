"""Two replicas update as one with the whole batch, whatever an optimizer does to gradients before it uses them."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from absl.testing import absltest

from tests.test_case import ROOT


@pytest.mark.slow
class ReplicasTest(absltest.TestCase):
    def test_every_optimizer_sums_gradients_first(self):
        done = subprocess.run(
            [sys.executable, ROOT / "tests/two_replicas.py"],
            env={**os.environ, "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": "-1"},
            stdout=subprocess.PIPE,
            check=True,
        )
        found = json.loads(done.stdout)
        self.assertLen(found, 8)
        for entry in found:
            with self.subTest(entry["recipe"]):
                (expected,), (first, second) = entry["one"], entry["two"]
                self.assertGreater(np.abs(np.subtract(expected[:3], 0.5)).min(), 1e-2, "nothing learnt")
                self.assertEqual(expected[3:], [4.0] if entry["recipe"][2] else [], "the scale, halved from 8")
                np.testing.assert_allclose(first, expected, rtol=0, atol=1e-6)
                self.assertEqual(second, first)


if __name__ == "__main__":
    absltest.main()
