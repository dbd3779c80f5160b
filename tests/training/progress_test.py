"""What stands on the screen while a run trains."""

import io
import re
from unittest import mock

from absl.testing import absltest

from kyolo.training import progress
from kyolo.training.progress import Progress

LOSSES = {"box": 1.25, "classification": 0.5, "dfl": 0.75, "loss": 9.0}


class Screen(io.StringIO):
    """Keeps what is written, and says whether it is a terminal."""

    def __init__(self, terminal):
        super().__init__()
        self.terminal = terminal

    def isatty(self):
        return self.terminal


class ProgressTest(absltest.TestCase):
    """A run of 2 epochs of 10 steps of 4 images."""

    def setUp(self):
        super().setUp()
        self.clock = self.enterContext(mock.patch.object(progress.time, "perf_counter", return_value=100.0))
        self.rates = 0

    def show_on(self, terminal):
        self.screen = self.enterContext(mock.patch("sys.stderr", new=Screen(terminal)))
        self.progress = Progress(epochs=2, steps_per_epoch=10, batch_size=4)
        self.addCleanup(self.progress.close)

    def advance(self, now, step):
        """One step is done at a time; returns what that writes, without the codes that move the cursor."""
        self.clock.return_value = now
        before = len(self.screen.getvalue())
        self.progress.advance(step, LOSSES, self.learning_rate)
        return re.sub(r"\x1b\[.", "", self.screen.getvalue()[before:])

    def learning_rate(self):
        self.rates += 1
        return 0.00125

    def test_line_on_a_terminal(self):
        self.show_on(terminal=True)
        self.progress.begin_epoch(0)
        first = self.advance(110.0, 1)
        losses = "box 1.250  classification 0.500  dfl 0.750"
        # 4 images in 10 s, compiling included.
        self.assertIn(f"epoch 1/2  step 1/10  {losses}  0.4 images/s  rate 1.25e-03", first)
        # Three more steps in 2 s: 6 images/s, and at that pace 16 steps take 10.7 s; compiling is left out.
        second = self.advance(112.0, 4)
        self.assertIn(f"epoch 1/2  step 4/10  00:10 left  {losses}  6.0 images/s  rate 1.25e-03", second)

    def test_it_is_drawn_now_and_then(self):
        self.show_on(terminal=True)
        self.progress.begin_epoch(0)
        self.advance(110.0, 1)
        for step in range(2, 9):
            self.assertEqual(self.advance(110.0 + 0.05 * step, step), "")
        self.assertEqual(self.rates, 1)
        self.assertIn("step 9/10", self.advance(110.6, 9))

    def test_time_left_counts_evaluations_and_images_a_second_do_not(self):
        self.show_on(terminal=True)
        self.progress.begin_epoch(0)
        self.advance(110.0, 1)
        self.clock.return_value = 114.5  # nine steps of 0.5 s
        self.progress.end_epoch({"epoch": 1, "seconds": 19.5, "val_ap": 0.25, "val_ap50": 0.5, **LOSSES})
        self.clock.return_value = 119.5  # after an evaluation
        self.progress.begin_epoch(10)
        # 10 steps since the first took 10 s; 9 are left.
        shown = self.advance(120.0, 11)
        self.assertIn("epoch 2/2  step 1/10  00:09 left", shown)
        self.assertIn("8.0 images/s", shown)

    def test_a_line_for_each_epoch_elsewhere(self):
        self.show_on(terminal=False)
        self.progress.begin_epoch(0)
        self.assertEqual(self.advance(110.0, 1), "")
        self.assertEqual(self.rates, 0)
        row = {"epoch": 1, "seconds": 19.54, "val_ap": 0.25, "val_ap50": 0.5, **LOSSES}
        self.progress.end_epoch(row)
        self.progress.end_epoch({**row, "epoch": 2, "val_ap": None})
        parts = "box 1.250  classification 0.500  dfl 0.750"
        expected = f"epoch 1/2  {parts}  AP 0.250  AP50 0.500  19.5 s\nepoch 2/2  {parts}  19.5 s\n"
        self.assertEqual(self.screen.getvalue(), expected)

    def test_resumed_within_an_epoch(self):
        self.show_on(terminal=True)
        self.progress.begin_epoch(13)
        self.assertIn("epoch 2/2  step 4/10", self.advance(101.0, 14))


if __name__ == "__main__":
    absltest.main()
