"""How far `Detector.fit` has come: what a training data set asks at the beginning of each of its passes."""

import contextlib
import dataclasses


@dataclasses.dataclass(eq=False)
class FitProgress:
    """The progress of one call of `fit`.

    Args:
        epochs: epoch at which the training ends, as in `fit`.
        initial_epoch: epoch at which it begins.
        steps_per_epoch: batches per epoch that the user has set; None: as many as the data set has.
        num_batches: batches per epoch of the data set that `fit` was given; None: unknown.

    Attributes:
        epoch: the present epoch, from 0.
    """

    epochs: int
    initial_epoch: int = 0
    steps_per_epoch: int | None = None
    num_batches: int | None = None

    def __post_init__(self):
        self.epoch = self.initial_epoch


_running: list[FitProgress] = []


@contextlib.contextmanager
def fitting(progress):
    """Make `progress` the current one for the time of a `with` block; yields it."""
    _running.append(progress)
    try:
        yield progress
    finally:
        _running.remove(progress)


def current_fit():
    """Return the progress of the `fit` that runs, None without one."""
    return _running[-1] if _running else None
