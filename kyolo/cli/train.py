"""Train a detector, or continue a run that was stopped."""

import argparse
import os
import shlex
from collections.abc import Iterator
from pathlib import Path

from kyolo.cli.options import add_data_arguments, add_import_argument, add_set_argument, import_tensorflow, with_data
from kyolo.config import Config, apply_overrides, config_to_dict, image_hw, load_config, to_yaml, training_hw
from kyolo.errors import InputError

# Options that change a setting each.
OPTIONS = {"data.val_fraction": "val_fraction", "data.allow_outside": "allow_outside", "data.strict": "strict"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command."""
    parser.add_argument("--config", metavar="FILE", help="YAML file, such as configs/yolov8_n.yaml")
    parser.add_argument("--output", metavar="RUN", help="folder to write the run into; a new one unless --resume")
    add_data_arguments(parser, "the data set")
    add_set_argument(parser, "train.epochs=60")
    add_import_argument(parser)
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument(
        "--resume",
        action="store_true",
        help="continue the run in --output with its own config; --data names its data if that has moved",
    )
    mode.add_argument(
        "--dry-run", action="store_true", help="print the resolved config and the model's cost, write nothing"
    )


def run(arguments: argparse.Namespace) -> Iterator[dict]:
    """Train, and yield the metrics; or with --dry-run yield the config and the cost."""
    if arguments.dry_run:
        yield _describe(_read_config(arguments))
        return
    if arguments.output is None:
        raise InputError("--output is missing: expected the folder to write the run into, received nothing")
    config = None if arguments.resume else _read_config(arguments)
    import_tensorflow()
    from kyolo import training
    from kyolo.training.cluster import read_cluster

    cluster = read_cluster(os.environ)
    if arguments.resume and (cluster is None or cluster.worker == 0):  # the other workers have no run directory
        config = _resumed_config(arguments)

    try:
        yield training.train(config, Path(arguments.output), resume=arguments.resume)
    except KeyboardInterrupt:
        if not Path(arguments.output, "config.yaml").exists():
            raise
        raise KeyboardInterrupt(
            f"continue with kyolo train --resume --output {shlex.quote(arguments.output)}"
        ) from None


def _read_config(arguments: argparse.Namespace) -> Config:
    if arguments.config is None:
        raise InputError("--config is missing: expected a YAML file such as configs/yolov8_n.yaml, received nothing")
    return with_data(load_config(arguments.config, arguments.set), arguments)


def _resumed_config(arguments: argparse.Namespace) -> Config:
    """Return the config of the run in --output with the other options applied.

    Raises:
        InputError: an option differs from the run's own; only --data may, if it names the same data elsewhere.
    """
    from kyolo.training.resuming import differences
    from kyolo.training.run_folder import open_run

    own = open_run(arguments.output).config
    if arguments.config is None:
        given = apply_overrides(own, arguments.set)
    else:
        given = load_config(arguments.config, arguments.set)
    given = with_data(given, arguments)
    different = differences(own, given)
    if different:
        listed = "; ".join(
            f"{_option(name, arguments)}: expected {value!r}, as in the run, got {other!r}"
            for name, value, other in different
        )
        raise InputError(f"{listed}. Leave these out to resume {arguments.output}, or start a new run.")
    return given


def _option(name: str, arguments: argparse.Namespace) -> str:
    """Return the option that gave a setting, and the setting's name where the option has others too."""
    option = OPTIONS.get(name)
    if option is not None and getattr(arguments, option):
        return f"--{option.replace('_', '-')}"
    paths = [override.partition("=")[0].strip() for override in arguments.set]
    source = "--set" if any(f"{name}.".startswith(f"{path}.") for path in paths) else f"--config {arguments.config}"
    return f"{source} {name}"


def _describe(config: Config) -> dict:
    """Print the resolved config, the weights and GFLOP of its model; return them as a document."""
    import_tensorflow()
    from kyolo.models import build_detector, build_loss
    from kyolo.models.cost import count_gflop, count_weights
    from kyolo.training.optimizers import build_optimizer, freeze_layers
    from kyolo.training.start import carry_over

    config = _resolve(config)
    detector = build_detector(config)
    if config.model.weights is not None:
        carry_over(detector, config.model.weights)
    all_weights = count_weights(detector)
    freeze_layers(detector, config.train.freeze)
    build_optimizer(config.train, 1, detector)  # says what is wrong with its settings, as build_loss
    height, width = image_hw(config.data.image_size)
    build_loss(config.model.loss, training_hw(config))
    weights, gflop = count_weights(detector), count_gflop(detector, (height, width))
    print(to_yaml(config_to_dict(config)))
    frozen = f" ({all_weights - weights:,} frozen)" if weights < all_weights else ""
    print(f"trainable weights  {weights:,}{frozen}")
    print(f"GFLOP              {gflop:.2f} (2 x multiply-adds, one image of {height} x {width} pixels)")
    costs = {"trainable_weights": weights, "frozen_weights": all_weights - weights, "gflop": gflop}
    return {"config": config_to_dict(config), **costs}


def _resolve(config: Config) -> Config:
    """Fill in what data and machine decide, where data is given, and report what is wrong with the data."""
    if config.data.path is None:
        return config
    from kyolo.training import load_split, resolve

    index = load_split(config.data, "train")
    print(index.problems.table(), end="\n\n")
    return resolve(config, index)
