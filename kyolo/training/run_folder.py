"""The folder of a run: what lies where, who may write, and the detector that comes out of it."""

import contextlib
import dataclasses
import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import keras

from kyolo.config import Config, ConfigError, ModelConfig, load_config, save_config
from kyolo.data import DataReport
from kyolo.errors import InputError
from kyolo.files import part_of, write_text
from kyolo.models.build import build_detector
from kyolo.models.detector import Detector
from kyolo.training.checkpoint import load_checkpoint
from kyolo.training.environment import describe_environment
from kyolo.weights.transfer import transfer_weights

LOCK = "run.lock"
WRITTEN = (
    "config.yaml", "environment.json", "data_report.json", "history.csv", "metrics.json", "weights/best.npz",
    "weights/last.npz",
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Run:
    """A run's folder and its resolved configuration.

    Attributes:
        path: the folder: `config.yaml`, `environment.json`, `data_report.json`, `history.csv`, `metrics.json`,
            `weights/`, `tensorboard/`.
        config: `config.yaml`.
    """

    path: Path
    config: Config

    def weights_path(self, which: str) -> Path:
        """The checkpoint "best" or "last"."""
        return self.path / "weights" / f"{which}.npz"

    def load_detector(self, weights: str = "best", config: Config | None = None) -> Detector:
        """Build the run's detector in float32, whatever it was trained in, with its averaged weights.

        Args:
            weights: "best", of the epoch with the best AP, or "last".
            config: the run's with other settings of the blocks `data` and `evaluation`, e.g. another image size.
                Default: the run's.

        Raises:
            InputError: when the run has no such weights, or they do not fit its configuration.
        """
        checkpoint = load_checkpoint(self.weights_path(weights))
        with dtype_policy("float32"):
            config = config or self.config
            detector = build_detector(dataclasses.replace(config, model=from_scratch(self.config.model)))
        report = transfer_weights(detector, checkpoint.group("ema") or checkpoint.group("model"))
        if report.new or report.unused or report.mismatched:
            raise InputError(
                f"{self.weights_path(weights)} does not fit {self.path / 'config.yaml'}: expected every weight to have "
                f"its place, received {report.summary().splitlines()[0]}"
            )
        return detector


def from_scratch(model: ModelConfig) -> ModelConfig:
    """The same model without the files of weights that it once started from."""
    return dataclasses.replace(model, weights=None, backbone=dataclasses.replace(model.backbone, weights=None))


def create_run(path: str | os.PathLike, config: Config) -> Run:
    """Makes the folder of a new run and writes its configuration first, then what it is made with.

    Raises:
        InputError: when the folder holds something already.
    """
    path = Path(path)
    check_new(path)
    path.mkdir(parents=True, exist_ok=True)
    save_config(config, path / "config.yaml")
    complete_run(path)
    return Run(path, config)


def complete_run(path: Path) -> None:
    """Makes what the folder of a run lacks and removes files half written, if a process was killed there.

    No other process may write there at the time.
    """
    for part in _parts(path):
        part.unlink(missing_ok=True)
    (path / "weights").mkdir(exist_ok=True)
    if not (path / "environment.json").exists():
        write_text(path / "environment.json", json.dumps(describe_environment(), indent=2) + "\n")


def _parts(path: Path) -> list[Path]:
    """What a process that was killed may have left of the files of a run."""
    return [part_of(path / name) for name in WRITTEN]


def check_new(path: Path) -> None:
    """Refuse a path where a run cannot be made, before any work is done for it.

    Raises:
        InputError: it is a file, a folder with other files than a killed start leaves, or cannot be written.
    """
    nearest = next(each for each in (path.absolute(), *path.absolute().parents) if os.path.lexists(each))
    if not nearest.is_dir():
        received = "a file" if nearest.exists() else "a link to a missing place"
        raise InputError(f"Cannot write a run to {path}: expected a folder or nothing, got {received} ({nearest})")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise InputError(f"Cannot write a run to {path}: expected write permission in {nearest}, got none")
    if path.is_dir() and not {path / LOCK, *_parts(path)}.issuperset(path.iterdir()):
        what = "another run" if (path / "config.yaml").exists() else "other files"
        raise InputError(
            f"Cannot write a run to {path}: expected an empty or a new folder, got one that holds {what}. "
            f"Choose another, or continue that run with --resume."
        )


def open_run(path: str | os.PathLike) -> Run:
    """Opens the folder of a run.

    Raises:
        InputError: when it is no folder of a run.
        ConfigError: when its configuration cannot be read.
    """
    path = Path(path)
    file = path / "config.yaml"
    if not file.is_file():
        raise InputError(f"{path}: expected a run directory, which `kyolo train` wrote, got {_other_than_run(path)}")
    config = load_config(file)
    if config.model.num_classes is None or config.data.class_names is None:
        raise ConfigError("model.num_classes", f"expected the resolved config of a run in {file}, received null")
    return Run(path, config)


def _other_than_run(path: Path) -> str:
    """Say what a path is that is not a run directory, and what to do."""
    for parent in list(path.absolute().parents)[:2]:
        if path.exists() and (parent / "config.yaml").is_file() and (parent / "weights").is_dir():
            return f"a part of the run {parent}. Pass {parent}."
    if path.is_file():
        return f"a file ({path.suffix or 'no suffix'}). Pass the directory that `kyolo train --output` named."
    if not path.is_dir():
        return "a path that does not exist. Check the path."
    runs = sorted(each.parent.name for each in path.glob("*/config.yaml"))
    if runs:
        names = ", ".join(runs[:5]) + ", ..." * (len(runs) > 5)
        return f"a folder of {len(runs)} runs: {names}. Pass one of them, such as {path / runs[0]}."
    if not any(path.iterdir()):
        return "an empty folder. Check the path."
    return "a folder without config.yaml. Check the path, or start a run that was killed there without --resume."


def check_data_path(config: Config, remedy: str) -> None:
    """Refuse a run's data set that is not at the place where it was trained.

    Args:
        config: the run's configuration.
        remedy: the command line or options that name the new place.

    Raises:
        InputError: nothing is there.
    """
    if config.data.path is not None and not os.path.exists(config.data.path):
        raise InputError(
            f"{config.data.path}: expected the data set that the run was trained on, got a path that does not exist. "
            f"If it has moved, pass its new place: {remedy}."
        )


@contextlib.contextmanager
def training_folder(path: Path, config: Config, reports: Mapping[str, DataReport], *, resume: bool) -> Iterator[None]:
    """Makes the folder of a new run, and keeps other processes from it for the time of a `with` block.

    Args:
        path: the folder.
        config: the resolved configuration.
        reports: what was found in the data, by split.
        resume: whether the folder is there.

    Raises:
        InputError: another process trains this run, or the folder of a new one holds something.
    """
    if not resume:
        path.mkdir(parents=True, exist_ok=True)
    with locked(path):
        if resume:
            complete_run(path)
        else:
            create_run(path, config)
        documents = {split: report.to_dict() for split, report in reports.items()}
        write_text(path / "data_report.json", json.dumps(documents, indent=2) + "\n")
        yield


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Holds `run.lock` of a run for the time of a `with` block; a process that dies lets go of it.

    Raises:
        InputError: when another process trains this run.
    """
    lock = path / LOCK
    busy = InputError(f"{path} is being trained by another process, which holds {lock}; wait for it to end")
    with open(lock, "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise busy from None
        if not lock.exists() or not os.path.samestat(os.fstat(file.fileno()), lock.stat()):
            raise busy  # whoever held it removed it between our two steps
        try:
            yield
        finally:
            lock.unlink()


@contextlib.contextmanager
def dtype_policy(name: str) -> Iterator[None]:
    """Makes `name` Keras' global dtype policy for the time of a `with` block."""
    kept = keras.config.dtype_policy()
    keras.config.set_dtype_policy(name)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(kept)
