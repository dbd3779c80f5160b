"""Stops a training whose numbers are no longer finite, before they are written anywhere."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
import tensorflow as tf
from keras import Variable, ops

from kyolo.data import Index
from kyolo.errors import InputError, NonFiniteError
from kyolo.replicas import local_copies
from kyolo.training.run_folder import Run

ADVICE = (
    "start a new run with a lower train.optimizer.learning_rate or train.precision=float32, and look at these images"
)


class FiniteGuard:
    """Looks at the losses of every step, and at all variables before they are scored or kept.

    An overflow of gradients under mixed_float16 is none of its business: the loss scale skips that update.

    Args:
        run: the run's folder.
        steps_per_epoch: batches in an epoch.
        name_images: gives the names of the images in the batch of a step, counted from 0.
        is_chief: whether this process is the one that writes checkpoints.
    """

    def __init__(
        self, run: Run, steps_per_epoch: int, name_images: Callable[[int], Sequence[str]], *, is_chief: bool = True
    ):
        self.run = run
        self.is_chief = is_chief
        self.steps_per_epoch = steps_per_epoch
        self.name_images = name_images

    def check_losses(self, step: int, losses: Mapping[str, float]) -> None:
        """Raises NonFiniteError for a loss that is no finite number.

        Args:
            step: steps done, the one with these losses included.
            losses: means of the losses since the epoch began, by name. One bad batch spoils them.
        """
        if not all(map(math.isfinite, losses.values())):
            found = ", ".join(f"{name} {value:.4g}" for name, value in losses.items())
            all_bad = not any(map(math.isfinite, losses.values()))  # perhaps by weights that the last update spoilt
            self._stop(step, f"expected finite losses, received {found} (means of the epoch)", batches=1 + all_bad)

    def check_variables(self, step: int, variables: Iterable[tuple[str, Variable]]) -> None:
        """Raises NonFiniteError for a variable that is not finite: the update of the last step may have spoilt it.

        Args:
            step: steps done.
            variables: names and variables.
        """
        floats = [(name, variable) for name, variable in variables if "float" in variable.dtype]
        finite = ops.convert_to_numpy(
            ops.stack([ops.all(ops.isfinite(local_copies(variable)[0])) for _, variable in floats])
        )
        if not finite.all():
            first = floats[int(np.argmin(finite))][0]
            self._stop(
                step,
                f"expected finite weights, received {np.sum(~finite)} that are not after its update, {first} first",
            )

    def _stop(self, step: int, problem: str, batches: int = 1) -> None:
        epoch, done = divmod(step - 1, self.steps_per_epoch)
        where = f"epoch {epoch + 1}, step {done + 1} of {self.steps_per_epoch}"
        images = "; of the one before: ".join(
            self._names(number) for number in range(step - 1, max(step - 1 - batches, -1), -1)
        )
        last = self.run.weights_path("last")
        if self.is_chief:
            kept = f"{last} is the last good state" if last.exists() else "there is no checkpoint yet"
        else:
            kept = "the chief has the checkpoints"
        raise NonFiniteError(f"Training stopped at {where}: {problem}; images of the batch: {images}; {kept}; {ADVICE}")

    def _names(self, step: int) -> str:
        try:
            return ", ".join(self.name_images(step))
        except (InputError, OSError, tf.errors.OpError) as error:  # less to know, but still the number to report
            return f"unknown, for they cannot be read again ({str(error).splitlines()[0]})"


def name_images(batches: tf.data.Dataset, index: Index) -> list[str]:
    """The names of the images in the first of some batches.

    Args:
        batches: a train stream of `make_dataset`.
        index: its data set.
    """
    _, truth = next(iter(batches))
    ids = dict.fromkeys(truth["source_ids"].numpy().ravel().tolist())
    names = index.names(ids)
    return [names[number] for number in ids]
