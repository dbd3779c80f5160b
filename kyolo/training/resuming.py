"""What a resumed run may be given: its own settings, and its own data at another place."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kyolo.config import Config, config_to_dict, load_config, save_config
from kyolo.errors import InputError
from kyolo.training.checkpoint import load_checkpoint
from kyolo.training.resolving import fit_warmup
from kyolo.training.run_folder import Run, check_data_path, open_run

# May be edited in the config.yaml of a run that is resumed: they change neither steps, weights nor scores, or only when
# the training ends. The data is compared by its fingerprint.
FREE = frozenset(
    {
        "data.path", "data.format", "data.cache", "data.allow_outside", "data.strict",
        "evaluation.batch_size", "model.weights", "model.backbone.weights",
        "train.checkpoint_every", "train.deterministic", "train.distribute", "train.early_stopping",
        "train.evaluate_every", "train.jit_compile", "train.tensorboard", "train.time_limit",
    }
)  # fmt: skip
# What `resolve` fills in.
_OPEN = {
    "data.class_names": None, "data.path": None, "model.num_classes": None,
    "train.batch_size": "auto", "train.precision": "auto",
}  # fmt: skip


def resumed_config(path: Path, given: Config | None = None) -> Config:
    """Return the configuration to resume a run with: its own, with the data set where `given` has it.

    Args:
        path: the run directory.
        given: None, or the configuration that the run was started with; only `data.path` may differ.

    Raises:
        InputError: there is no such run, its data set is missing, its config.yaml was changed so that its checkpoint
            does not fit, or `given` differs from its configuration.
    """
    run = open_run(path)
    different = differences(run.config, given) if given is not None else []
    if different:
        name, own, other = different[0]
        raise InputError(
            f"{name}: expected {own!r}, as in {run.path / 'config.yaml'}, got {other!r}. Leave it out to resume the "
            f"run, or start a new run."
        )
    config = run.config
    if given is not None and given.data.path is not None:
        config = dataclasses.replace(config, data=dataclasses.replace(config.data, path=given.data.path))
    if run.weights_path("last").exists():
        _check_settings(run, load_checkpoint(run.weights_path("last")).state)
    check_data_path(config, f"kyolo train --resume --output {run.path} --data SET")
    return config


def differences(own: Config, given: Config) -> list[tuple[str, Any, Any]]:
    """Return path, own value and given value of each setting that differs, except for `data.path`.

    A given setting that is left to the data or the machine does not differ.
    """
    left_open = {
        name: value for name, value in _flatten(config_to_dict(given)).items() if value == _OPEN.get(name, ...)
    }
    return [
        (name, value, other)
        for name, value, other in _compare(config_to_dict(own), config_to_dict(fit_warmup(given)))
        if name != "data.path" and name not in left_open
    ]


def state_of(config: Config, steps_per_epoch: int) -> dict[str, Any]:
    """Return what a checkpoint keeps so that a later `--resume` can tell whether the settings are the same."""
    return {"config": config_to_dict(config), "steps_per_epoch": steps_per_epoch}


def check_steps(run: Run, state: Mapping[str, Any], steps_per_epoch: int) -> None:
    """Refuse a checkpoint whose epochs have another number of steps.

    Raises:
        InputError: they have. A checkpoint of an older version, which does not say, is compared by its history.
    """
    done = state["history"][-1]["epoch"] if state["history"] else 0
    expected = state.get("steps_per_epoch")
    if expected != steps_per_epoch and (expected is not None or state["step"] // steps_per_epoch != done):
        expected = f"{expected} steps per epoch" if expected else f"epoch {done} after step {state['step']}"
        raise InputError(
            f"{run.path / 'config.yaml'}: expected {expected}, as in {run.weights_path('last')}, got {steps_per_epoch} "
            f"steps per epoch. Restore train.batch_size, or start a new run (--set model.weights={run.path})."
        )


def keep_data_path(run: Run) -> None:
    """Write the place of the data set into the run's config.yaml if it has moved."""
    file = run.path / "config.yaml"
    if load_config(file).data.path != run.config.data.path:
        save_config(run.config, file)


def _check_settings(run: Run, state: Mapping[str, Any]) -> None:
    """Refuse a config.yaml that was edited after the checkpoint was written, unless no edited setting matters."""
    edited = [
        f"{name} (expected {kept!r}, got {now!r})"
        for name, kept, now in _compare(state.get("config", {}), config_to_dict(run.config))
        if "config" in state and not any(f"{name}.".startswith(f"{free}.") for free in FREE)
    ]
    if edited:
        raise InputError(
            f"{run.path / 'config.yaml'}: expected the settings of {run.weights_path('last')}, got others: "
            f"{', '.join(edited)}. Restore them, or start a new run from its weights (--set model.weights={run.path})."
        )


def _compare(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """Return path and both values of each setting that differs; a setting that is missing has its default."""
    defaults = _flatten(config_to_dict(Config()))
    a, b = (defaults | _flatten(each) for each in (first, second))
    return [(name, a.get(name), b.get(name)) for name in dict.fromkeys([*a, *b]) if a.get(name) != b.get(name)]


def _flatten(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        flat |= _flatten(value, f"{prefix}{name}.") if isinstance(value, dict) and value else {f"{prefix}{name}": value}
    return flat
