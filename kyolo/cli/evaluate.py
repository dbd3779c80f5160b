"""Score a trained detector on a data set: COCO average precision."""

import argparse
import typing
from collections.abc import Iterator, Mapping

from kyolo.cli.options import (
    add_data_arguments,
    add_run_arguments,
    add_set_argument,
    check_classes,
    import_tensorflow,
    with_run_data,
)
from kyolo.config import config_to_dict, image_hw

SPLITS = ("val", "dev", "test")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command."""
    add_run_arguments(parser)
    add_data_arguments(parser, "a data set, by default the run's")
    parser.add_argument("--split", choices=SPLITS, default="val", help="part of it to score on (default: val)")
    add_set_argument(parser, "evaluation.iou=0.6")


def run(arguments: argparse.Namespace) -> Iterator[dict]:
    """Print a table of the metrics, and yield them."""
    import_tensorflow()
    from kyolo import data, evaluation, report, training

    opened = training.open_run(arguments.run)
    config = with_run_data(opened.config, arguments, ("data", "evaluation"))
    settings = config_to_dict(config.evaluation)
    detector = opened.load_detector(arguments.weights)
    store = data.ImageStore(image_hw(config.data.image_size), fit=config.data.fit, cache=config.data.cache)
    index = training.load_split(config.data, arguments.split, store)
    check_classes(config, index)
    dataset = data.make_dataset(
        index,
        arguments.split,
        image_size=config.data.image_size,
        batch_size=settings.pop("batch_size"),
        fit=config.data.fit,
        cache=store,
    )
    metrics = evaluation.evaluate(detector, dataset, **settings)
    metrics["epoch"] = _epoch(training.load_checkpoint(opened.weights_path(arguments.weights)).state)
    print(report.format_metrics(metrics))
    yield metrics


def _epoch(state: Mapping[str, typing.Any]) -> int | None:
    """Return the epoch that a checkpoint was written after; None within the first one."""
    history = state.get("history")
    return history[-1]["epoch"] if history else state.get("epoch")
