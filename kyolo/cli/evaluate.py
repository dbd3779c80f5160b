"""Score a trained detector on a data set: COCO average precision."""

import argparse
from collections.abc import Iterator

from kyolo.cli.options import (
    add_run_arguments,
    add_set_argument,
    class_names,
    data_path,
    import_tensorflow,
    override_run,
)
from kyolo.config import config_to_dict
from kyolo.errors import InputError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command."""
    add_run_arguments(parser)
    parser.add_argument("--data", metavar="SET", help="folder of a data set (default: the one of the run)")
    parser.add_argument("--split", choices=("val", "dev"), default="val", help="part of it to score on (default: val)")
    add_set_argument(parser, "evaluation.iou=0.6")


def run(arguments: argparse.Namespace) -> Iterator[dict]:
    """Print a table of the metrics, and yield them."""
    import_tensorflow()
    from kyolo import data, evaluation, report, training

    opened = training.open_run(arguments.run)
    config = override_run(opened.config, arguments.set)
    detector = opened.load_detector(arguments.weights)
    path = data_path(config, arguments.data)
    index = data.load_index(path, arguments.split, strict=config.data.strict, dev_fraction=config.data.dev_fraction)
    if index.class_names != class_names(config):
        expected, received = ", ".join(class_names(config)), ", ".join(index.class_names)
        raise InputError(f"{path}: expected the run's classes ({expected:.200}), received ({received:.200})")
    settings = config_to_dict(config.evaluation)
    dataset = data.make_dataset(
        index,
        arguments.split,
        image_size=config.data.image_size,
        batch_size=settings.pop("batch_size"),
        fit=config.data.fit,
        cache=None,
    )
    metrics = evaluation.evaluate(detector, dataset, **settings)
    print(report.format_metrics(metrics))
    yield metrics
