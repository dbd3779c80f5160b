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
        seed = random.SystemRandom().randrange(10**6)
        chance = random.Random(seed)
        call = chance.choice(sorted(CALLS))
        kill = kills.Kill(call, chance.randint(1, CALLS[call]))
        variant = chance.choice(list(kills.VARIANTS))
        drawn = f"seed {seed}: {variant}, {kill}"
        kills.write_data(self.folder)
        undisturbed = kills.start(self.folder / "undisturbed", variant)
        self.assertIsNone(kills.train(self.folder / "run", variant, kill), f"{drawn}: did not come")
        kills.finish(undisturbed)
        kills.train(self.folder / "run", variant)
        self.assertEmpty(kills.differences(self.folder / "undisturbed", self.folder / "run"), drawn)


if __name__ == "__main__":
    absltest.main()
