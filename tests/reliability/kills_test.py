"""One training that is killed at a random moment and resumed; `make reliability` has many, killed several times."""

import random

import pytest
from absl.testing import absltest

from tests.reliability import kills
from tests.test_case import TestCase

CALLS = {  # Of those that a training makes, some, with how often it makes them at least: 9 steps, 4 images to score.
    "step": 9, "evaluate": 12, "write last.npz": 6, "replace last.npz": 6, "replace best.npz": 1,
    "write history.csv": 3, "open metrics.json": 1,
}  # fmt: skip


class KillsTest(TestCase):
    @pytest.mark.slow
    def test_a_killed_training_ends_as_one_that_was_not(self):
        call = random.SystemRandom().choice(sorted(CALLS))
        kill = kills.Kill(call, random.SystemRandom().randint(1, CALLS[call]))
        kills.write_data(self.folder)
        undisturbed = kills.start(self.folder / "reference")
        self.assertIsNone(kills.train(self.folder / "run", kill), f"{kill} did not come")
        kills.finish(undisturbed)
        kills.train(self.folder / "run")
        self.assertEmpty(kills.differences(self.folder / "reference", self.folder / "run"), kill)


if __name__ == "__main__":
    absltest.main()
