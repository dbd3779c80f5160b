"""What a person sees of a training: a line that moves on a terminal, and a line for each epoch everywhere."""

import sys
import time
from collections.abc import Callable, Mapping

from tqdm import tqdm

INTERVAL = 0.5  # seconds between two states of the line that moves


class Progress:
    """The lines of a run on stderr. Where that is no terminal nothing moves, and a step costs nothing.

    Args:
        epochs: of the whole run.
        steps_per_epoch: batches in an epoch.
        batch_size: images in a batch.
        hidden: whether nothing moves on a terminal either.
    """

    def __init__(self, epochs: int, steps_per_epoch: int, batch_size: int, *, hidden: bool = False):
        self.epochs = epochs
        self.steps_per_epoch = steps_per_epoch
        self.batch_size = batch_size
        self.hidden = hidden
        self._line: tqdm | None = None
        self._start: tuple[float, int] | None = None  # time and step at the end of the first step, which compiles

    def begin_epoch(self, step: int) -> None:
        """Begins the line of the epoch that follows after some steps, or goes on with it.

        Args:
            step: steps of the run that are done.
        """
        total, done = self.steps_per_epoch, step % self.steps_per_epoch
        disable = self.hidden or None  # None: where there is no terminal
        self._line = tqdm(total=total, initial=done, bar_format="{desc} {bar}", leave=False, disable=disable)
        self._shown = time.perf_counter(), step

    def advance(self, step: int, losses: Mapping[str, float], learning_rate: Callable[[], float]) -> None:
        """Shows how far the run is, unless it did so a moment ago.

        Args:
            step: steps of the run that are done.
            losses: means since the epoch began, by name.
            learning_rate: gives the learning rate; called when it is shown.
        """
        if self._line is None or self._line.disable:
            return
        now = time.perf_counter()
        self._start = self._start or (now, step)
        if now - self._shown[0] < INTERVAL:
            return
        pace = (step - self._shown[1]) * self.batch_size / (now - self._shown[0])
        self._shown = now, step
        epoch, done = divmod(step - 1, self.steps_per_epoch)
        # A narrow terminal shows the beginning.
        parts = [f"epoch {epoch + 1}/{self.epochs}", f"step {done + 1}/{self.steps_per_epoch}"]
        parts += [
            self._time_left(now, step),
            show_losses(losses),
            f"{pace:.1f} images/s",
            f"rate {learning_rate():.2e}",
        ]
        self._line.n = done + 1
        self._line.set_description_str("  ".join(filter(None, parts)))

    def _time_left(self, now: float, step: int) -> str:
        """Of the whole run, at the pace since the first step: evaluations and checkpoints included."""
        start, first = self._start or (now, step)
        if step == first:
            return ""
        left = (self.epochs * self.steps_per_epoch - step) * (now - start) / (step - first)
        return f"{tqdm.format_interval(left)} left"

    def close(self) -> None:
        """Takes the line that moves off the screen, if there is one."""
        if self._line is not None:
            self._line.close()

    def end_epoch(self, row: Mapping) -> None:
        """Writes the line of an epoch, which stays.

        Args:
            row: its line of `history.csv`.
        """
        self.close()
        scores = "" if row.get("val_ap") is None else f"  AP {row['val_ap']:.3f}  AP50 {row['val_ap50']:.3f}"
        line = f"epoch {row['epoch']}/{self.epochs}  {show_losses(row)}{scores}  {row['seconds']:.1f} s"
        tqdm.write(line, file=sys.stderr)


def show_losses(losses: Mapping) -> str:
    """The parts of the loss on one line."""
    return "  ".join(f"{name} {losses[name]:.3f}" for name in ("box", "classification", "dfl") if name in losses)
