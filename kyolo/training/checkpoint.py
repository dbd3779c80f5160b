"""Checkpoints: one file each, written whole or not at all, read without executing anything."""

import dataclasses
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from kyolo.errors import InputError
from kyolo.files import replace_file

STATE = "state"  # the entry that holds JSON


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint holds.

    Attributes:
        arrays: arrays by key: `model/`, `ema/`, `optimizer/`, `loss/`, `metrics/`, or `random/` with the states of
            dropout, then the path of the variable, or its number.
        state: what is no array: epoch, step, best, history, ...
    """

    arrays: Mapping[str, np.ndarray]
    state: Mapping[str, Any]

    def group(self, name: str) -> dict[str, np.ndarray]:
        """The arrays below `name/`, by path of the variable."""
        prefix = f"{name}/"
        return {key[len(prefix) :]: value for key, value in self.arrays.items() if key.startswith(prefix)}


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Writes a checkpoint as `.npz`. A reader sees the old file or the new one, also when the process is killed.

    Args:
        path: file to write or replace; its folder exists.
        checkpoint: what to write; `state` must be JSON.
    """
    state = np.frombuffer(json.dumps(dict(checkpoint.state)).encode(), np.uint8)
    with replace_file(path) as file:
        np.savez(file, allow_pickle=False, **{**checkpoint.arrays, STATE: state})


def load_checkpoint(path: Path) -> Checkpoint:
    """Reads a checkpoint.

    Raises:
        InputError: when there is none, or when it is damaged: the zip's checksums find flipped bits.
    """
    try:
        # Opened here: np.load leaves its own file open when it is damaged.
        with open(path, "rb") as stream, np.load(stream, allow_pickle=False) as file:
            arrays = {key: file[key] for key in file.files}
        state = json.loads(arrays.pop(STATE).tobytes())
    except FileNotFoundError:
        raise InputError(
            f"No checkpoint: expected the file {path}, got nothing there. {_other_checkpoint(path)}"
        ) from None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, AttributeError) as error:
        raise InputError(
            f"Damaged checkpoint {path}: expected an .npz file that kyolo wrote whole, received one that cannot be "
            f"read ({error}); put a copy in its place, or use what is left: best.npz can start another run "
            f"(model.weights), and without last.npz --resume begins the run anew"
        ) from error
    return Checkpoint(arrays, state)


def _other_checkpoint(path: Path) -> str:
    """Say what to do where a checkpoint is missing."""
    other = path.with_name("last.npz" if path.name == "best.npz" else "best.npz")
    if path.parent.name == "weights" and other.is_file():
        return f"The run has {other.name}: pass --weights {other.stem}."
    return "Train first: the run has not finished an epoch, or check the path."
