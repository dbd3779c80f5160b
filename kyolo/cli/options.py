"""What several commands share: arguments, the run they start from, and overrides of its settings."""

import argparse
import contextlib
import dataclasses
import importlib
import os
import sys
import typing
from collections.abc import Iterable, Iterator, Sequence

from kyolo._environment import check_keras_json, use_channels_last, use_default_types
from kyolo.config import Config, ConfigError, apply_overrides
from kyolo.errors import InputError

# What people look at: sure detections, one class each. AP wants many weak ones, as in the run's own settings.
PICTURE_SETTINGS: dict[str, typing.Any] = {"confidence": 0.25, "multi_label": False}


class CheckFailed(Exception):
    """What was asked for is done, and found wrong: the exit code is 1."""


def add_run_arguments(parser: argparse.ArgumentParser) -> None:
    """Add --run and --weights, which name a trained detector."""
    parser.add_argument("--run", required=True, metavar="RUN", help="folder that `kyolo train` wrote")
    parser.add_argument(
        "--weights", choices=("best", "last"), default="best", help="which of its weights (default: best)"
    )
    add_import_argument(parser)


def add_import_argument(parser: argparse.ArgumentParser) -> None:
    """Add --import, which may be repeated."""
    text = "import a Python module that registers classes (kyolo.register), from the current folder or installed"
    parser.add_argument("--import", action="append", default=[], dest="imports", metavar="MODULE", help=text)


def import_modules(names: Iterable[str]) -> None:
    """Import the modules that --import names: their code runs, as that of any Python module."""
    for name in names:
        import_tensorflow()
        if os.getcwd() not in sys.path:
            sys.path.insert(0, os.getcwd())
        try:
            importlib.import_module(name)
        except (Exception, SystemExit) as error:
            raise InputError(
                f"--import {name}: expected the name of a module that can be imported, such as my_losses for "
                f"my_losses.py in the current folder, received {type(error).__name__}: {error}"
            ) from error


def add_set_argument(parser: argparse.ArgumentParser, example: str) -> None:
    """Add --set, which may be repeated."""
    text = f"change a setting, such as {example}; may be repeated"
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help=text)


def override_run(config: Config, overrides: Iterable[str], allowed: Sequence[str]) -> Config:
    """Apply overrides to the config of a finished run.

    Args:
        config: the run's.
        overrides: texts such as "evaluation.iou=0.6".
        allowed: the settings, or blocks of them, that the command uses; others raise `ConfigError`.
    """
    overrides = tuple(overrides)
    for override in overrides:
        path = override.partition("=")[0].strip()
        if "=" in override and not any(path == name or path.startswith(f"{name}.") for name in allowed):
            raise ConfigError(path, f"expected one of {', '.join(allowed)}, which this command uses, received another")
    return apply_overrides(config, overrides)


def with_picture_settings(config: Config) -> Config:
    """Return the config with the settings of `PICTURE_SETTINGS` instead of the run's."""
    return dataclasses.replace(config, evaluation=dataclasses.replace(config.evaluation, **PICTURE_SETTINGS))


def add_data_arguments(parser: argparse.ArgumentParser, what: str) -> None:
    """Add --data and what says how that set is read."""
    parser.add_argument("--data", metavar="SET", help=f"folder of {what} (data.path)")
    add_reading_arguments(parser)


def add_reading_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what says how a data set is read."""
    parser.add_argument(
        "--val-fraction", type=float, metavar="F", help="cut this share of train off as val, in a set that has none"
    )
    parser.add_argument("--allow-outside", action="store_true", help="read images outside the data set's folder too")
    parser.add_argument("--strict", action="store_true", help="stop at a bad image or box instead of skipping it")


def with_data(config: Config, arguments: argparse.Namespace) -> Config:
    """Return the config with what `add_data_arguments` has brought; the path absolute, as runs are opened anywhere."""
    changes: dict[str, typing.Any] = {}
    path = getattr(arguments, "data", None) or config.data.path
    if path is not None:
        changes["path"] = os.path.abspath(path)
    if arguments.val_fraction is not None:
        changes["val_fraction"] = arguments.val_fraction
    changes |= {name: True for name in ("allow_outside", "strict") if getattr(arguments, name)}
    try:
        return dataclasses.replace(config, data=dataclasses.replace(config.data, **changes))
    except ConfigError as error:
        raise error.under("data") from None


def with_run_data(config: Config, arguments: argparse.Namespace, allowed: Sequence[str]) -> Config:
    """Return a run's config with --set and what `add_data_arguments` has brought.

    Another data set than the run's has its own format and splits, and no leave to lead outside, unless these say so.
    """
    if arguments.data is not None:
        own: dict[str, typing.Any] = {"format": None, "val_fraction": 0.0, "dev_fraction": 0.0, "allow_outside": False}
        config = dataclasses.replace(config, data=dataclasses.replace(config.data, **own))
    config = with_data(override_run(config, arguments.set, allowed), arguments)
    if arguments.data is None:
        from kyolo.training.run_folder import check_data_path

        check_data_path(config, "--data SET")
    return config


def class_names(config: Config) -> tuple[str, ...]:
    """Return the names of a run's classes, which training has written into its config."""
    if config.data.class_names is None:
        raise ConfigError("data.class_names", "missing; expected the config.yaml that training wrote, received another")
    return config.data.class_names


def check_classes(config: Config, index: typing.Any) -> None:
    """Refuse a split of a data set whose classes are not the run's, in their order."""
    if index.class_names != class_names(config):
        expected, received = ", ".join(class_names(config)), ", ".join(index.class_names)
        raise InputError(
            f"{config.data.path}: expected the run's classes ({expected:.200}), received ({received:.200})"
        )


def import_tensorflow() -> None:
    """Import TensorFlow and Keras without their logs. Commands call this after the checks that are quick without it.

    Raises:
        InputError: Keras' own settings file cannot be used.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # Off by default on AMD's, where it is faster too.
    check_keras_json()
    with stderr_discarded():  # Some lines come before TensorFlow has read its log level.
        import tensorflow  # noqa: F401 (for its side effects)

        use_channels_last()
        use_default_types()


@contextlib.contextmanager
def stderr_discarded() -> Iterator[typing.TextIO]:
    """Point the process' file descriptor 2 at nothing for a while: what C++ writes there no log level stops.

    Yields where it pointed before, for what the command itself has to say.
    """
    kept = os.dup(2)
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 2)
    with os.fdopen(kept, "w", buffering=1) as stderr:
        try:
            yield stderr
        finally:
            os.dup2(kept, 2)
            os.close(nothing)
