"""What happens at the end of steps and epochs of a run: score, checkpoint, history."""

import csv
import io
import json
import time
from pathlib import Path

import keras
import tensorflow as tf

from kyolo.config import TrainConfig
from kyolo.errors import InputError
from kyolo.evaluation.coco import score
from kyolo.evaluation.detect import Predictor
from kyolo.files import write_text
from kyolo.models.initialize import finalize_states, is_random_state
from kyolo.replicas import local_copies
from kyolo.training.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from kyolo.training.distribution import Distribution
from kyolo.training.guard import FiniteGuard
from kyolo.training.progress import Progress
from kyolo.training.resuming import check_steps, keep_data_path, state_of
from kyolo.training.run_folder import Run

HISTORY_COLUMNS = (
    "epoch", "learning_rate", "loss", "box", "classification", "dfl", "val_ap", "val_ap50", "val_ap75", "seconds",
)  # fmt: skip


class RunRecorder(keras.callbacks.Callback):
    """Keeps a run on disk so that it can be stopped at any moment and go on as if it had not been.

    All that a run is at a moment stands in `weights/last.npz`: variables of the model, its average and its optimizer,
    running means of the losses, and the state: steps done, history, best score. The other files follow from it.

    Args:
        run: the run's folder.
        predictor: finds objects with the detector that is trained.
        val: data set that is scored.
        steps_per_epoch: batches in an epoch.
        data: the fingerprint of each split: a run goes on with the data that it began with.
        guard: stops the run at a number that is not finite.
        distribution: the replicas; only the chief of several workers scores, writes and decides.
    """

    def __init__(
        self,
        run: Run,
        predictor: Predictor,
        val: tf.data.Dataset,
        steps_per_epoch: int,
        data: dict[str, str],
        guard: FiniteGuard,
        distribution: Distribution = Distribution(),  # noqa: B008 (frozen)
    ):
        super().__init__()
        self.run = run
        self.settings: TrainConfig = run.config.train
        self.predictor = predictor
        self.detector = predictor.detector
        self.val = val
        self.steps_per_epoch = steps_per_epoch
        self.guard = guard
        self.progress = Progress(
            self.settings.epochs, steps_per_epoch, self.settings.batch_size, hidden=not distribution.is_chief
        )
        self.state: dict = {"step": 0, "history": [], "best": None, "stopped": False, "data": data}
        self.distribution = distribution
        self._running_means: dict | None = None
        with_board = self.settings.tensorboard and distribution.is_chief
        self._board = tf.summary.create_file_writer(str(run.path / "tensorboard")) if with_board else None

    @property
    def finished(self) -> bool:
        """Whether there is nothing left to train."""
        return self.state["stopped"] or self.state["step"] >= self.settings.epochs * self.steps_per_epoch

    def restore(self) -> None:
        """Goes on after the last checkpoint, if there is one: a run that was killed before it starts again.

        Raises:
            InputError: the checkpoint is damaged, of other data or of another configuration.
        """
        path = self.run.weights_path("last")
        if self.distribution.is_chief:
            if path.exists():
                self._load(path)
            keep_data_path(self.run)
        self.state, self._running_means = self.distribution.from_chief([self.state, self._running_means])
        self.distribution.share_variables([variable for named in self._groups().values() for _, variable in named])
        finalize_states(self.detector)
        if self.detector.ema is not None:
            self.detector.ema.step.assign(self.detector.optimizer.iterations)

    def _load(self, path: Path) -> None:
        checkpoint = load_checkpoint(path)
        if not self.state.keys() <= checkpoint.state.keys():
            raise InputError(
                f"Cannot resume from {path}: expected a training state, got {', '.join(checkpoint.state)}. Restore the "
                f"last.npz that training wrote, or delete it: --resume then starts the run from scratch."
            )
        self._check_data(checkpoint.state["data"])
        check_steps(self.run, checkpoint.state, self.steps_per_epoch)
        for name, variables in self._groups().items():
            values = checkpoint.group(name)
            shapes = {key: tuple(variable.shape) for key, variable in variables}
            if shapes != {key: value.shape for key, value in values.items()}:
                raise InputError(
                    f"{path} does not fit {self.run.path / 'config.yaml'}: expected the {name} of that configuration, "
                    f"received another; restore the file as training wrote it, or start a new run"
                )
            for key, variable in variables:
                variable.assign(values[key])
        self.state = dict(checkpoint.state)
        if self.state["step"] % self.steps_per_epoch:
            self._running_means = {key: value.tolist() for key, value in checkpoint.group("metrics").items()}

    def _check_data(self, began_with: dict[str, str]) -> None:
        for split, fingerprint in self.state["data"].items():
            if fingerprint != began_with[split]:
                raise InputError(
                    f"The data of {self.run.path} has changed since it began: expected in {split} {began_with[split]}, "
                    f"received {fingerprint}; put it back, or start a new run (model.weights={self.run.path})"
                )

    def on_epoch_begin(self, epoch, logs=None):  # noqa: ARG002 (Keras' signature)
        if self._running_means is not None:  # resumed within the epoch
            for key, variable in _metric_variables(self.detector):
                for copy in local_copies(variable):
                    copy.assign(self._running_means[key])
            self._running_means = None
        self._started = time.perf_counter()
        self.progress.begin_epoch(self.state["step"])

    def on_train_batch_end(self, batch, logs=None):  # noqa: ARG002
        self.state["step"] += 1
        self.guard.check_losses(self.state["step"], logs or {})
        self.progress.advance(self.state["step"], logs or {}, lambda: float(self.detector.optimizer.learning_rate))
        every = self.settings.checkpoint_every
        if every and self.state["step"] % every == 0 and self.state["step"] % self.steps_per_epoch:
            self._check_variables()
            self._save_last()

    def on_epoch_end(self, epoch, logs=None):
        self.progress.close()
        self._check_variables()
        if self.distribution.is_chief:
            self._record(epoch, logs)
        self.state = self.distribution.from_chief(self.state)
        self.detector.stop_training = self.state["stopped"]

    def _record(self, epoch: int, logs: dict | None) -> None:
        """Scores if it is time, keeps the state and reports."""
        row = {"epoch": epoch + 1, "learning_rate": float(self.detector.optimizer.learning_rate), **(logs or {})}
        last = epoch + 1 == self.settings.epochs or self._is_out_of_time()
        self.state["stopped"] = last and epoch + 1 < self.settings.epochs
        if last or (epoch + 1) % self.settings.evaluate_every == 0:
            metrics = score(self.predictor, self.val)
            row |= {f"val_{name}": metrics[name] for name in ("ap", "ap50", "ap75")}
            self._keep_if_best(metrics, epoch + 1)
        row["seconds"] = round(time.perf_counter() - self._started, 3)
        self.state["history"].append(row)
        self._save_last()
        _write_history(self.run.path / "history.csv", self.state["history"])
        self._write_board(row)
        self.progress.end_epoch(row)

    def finish(self) -> dict:
        """Writes and returns `metrics.json`: the scores of the best epoch. A kill may have come before the history."""
        best = self.state["best"]
        metrics = {**best["metrics"], "epoch": best["epoch"]}
        if self.distribution.is_chief:
            _write_history(self.run.path / "history.csv", self.state["history"])
            write_text(self.run.path / "metrics.json", json.dumps(metrics, indent=2) + "\n")
        return metrics

    def _is_out_of_time(self) -> bool:
        limit = self.settings.time_limit
        gone = sum(row["seconds"] for row in self.state["history"]) + time.perf_counter() - self._started
        return limit is not None and gone >= limit

    def _keep_if_best(self, metrics: dict, epoch: int) -> None:
        """Keeps the average where AP is the best so far; of equals, and where AP is undefined, the latest."""
        best = self.state["best"]
        ap, best_ap = metrics["ap"], best and best["metrics"]["ap"]
        if ap is None or best_ap is None or ap >= best_ap:
            self.state["best"] = {"epoch": epoch, "metrics": metrics}
            group = "model" if self.detector.ema is None else "ema"
            arrays = self._arrays({group: self._groups()[group]})
            save_checkpoint(self.run.weights_path("best"), Checkpoint(arrays, self.state["best"]))
        elif self.settings.early_stopping is not None:
            self.state["stopped"] |= epoch - best["epoch"] >= self.settings.early_stopping

    def _groups(self) -> dict[str, list]:
        """All variables of a run, as `(path, variable)`, by the names of the checkpoint's groups."""
        loss = [(variable.path, variable) for variable in self.detector.loss_variables]
        kept = {path for path, _ in loss}
        own = [variable for variable in self.detector.variables if variable.path not in kept]
        random = [variable for variable in own if is_random_state(variable)]
        groups = {
            "model": [(variable.path, variable) for variable in own if not is_random_state(variable)],
            "random": [(str(number), variable) for number, variable in enumerate(random)],  # their paths change
            "loss": loss,
            "optimizer": [(variable.path, variable) for variable in self.detector.optimizer.variables],
        }
        if self.detector.ema is not None:
            groups["ema"] = self.detector.ema.averaged_variables()
        return groups

    def _arrays(self, groups: dict[str, list]) -> dict:
        """Values by key of the checkpoint: of `model` the trained ones, also while the averages are swapped in."""
        ema = self.detector.ema
        trained = {} if ema is None else {f"model/{path}": value for path, value in ema.trained_values().items()}
        values = {
            f"{group}/{key}": local_copies(variable)[0].numpy()
            for group, named in groups.items()
            for key, variable in named
        }
        return values | {key: value for key, value in trained.items() if key in values}

    def _check_variables(self) -> None:
        self.guard.check_variables(self.state["step"], (pair for group in self._groups().values() for pair in group))

    def _save_last(self) -> None:
        if not self.distribution.is_chief:
            return
        groups = {**self._groups(), "metrics": _metric_variables(self.detector)}
        state = self.state | state_of(self.run.config, self.steps_per_epoch)
        save_checkpoint(self.run.weights_path("last"), Checkpoint(self._arrays(groups), state))

    def _write_board(self, row: dict) -> None:
        if self._board is None:
            return
        try:
            with self._board.as_default(step=row["epoch"]):
                for name, value in row.items():
                    if name not in ("epoch", "seconds") and value is not None:
                        tf.summary.scalar(name, value)
            self._board.flush()
        except tf.errors.OpError as error:  # a full disk
            raise InputError(
                f"Cannot write {self.run.path / 'tensorboard'}: expected free disk space and write permission, got "
                f"{error.message.splitlines()[0]}. Free some, then continue with --resume."
            ) from error


def _metric_variables(detector) -> list:
    return [(f"{metric.name}/{v.name}", v) for metric in detector.metrics for v in metric.variables]


def _write_history(path: Path, history: list[dict]) -> None:
    text = io.StringIO()
    writer = csv.DictWriter(text, HISTORY_COLUMNS, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(history)
    write_text(path, text.getvalue())
