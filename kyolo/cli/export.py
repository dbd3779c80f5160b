"""Write a trained detector as a file for other programs, checked against Keras on real images."""

import argparse
import dataclasses
import itertools
import sys
import typing
from collections.abc import Iterator
from pathlib import Path

from kyolo.cli.options import (
    CheckFailed,
    add_data_arguments,
    add_run_arguments,
    add_set_argument,
    class_names,
    import_tensorflow,
    with_picture_settings,
    with_run_data,
)
from kyolo.config import config_to_dict, image_hw
from kyolo.errors import InputError

CHECK_IMAGES = 8
SETTINGS = {"tflite": ("data",), "saved_model": ("data", "evaluation")}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command."""
    add_run_arguments(parser)
    parser.add_argument("--to", required=True, choices=("saved_model", "tflite"), help="format")
    parser.add_argument("--output", required=True, metavar="PATH", help="new folder (saved_model) or file (tflite)")
    add_data_arguments(parser, "the data set whose val images check the export, by default the run's")
    add_set_argument(parser, "data.image_size=256 or evaluation.confidence=0.4 (saved_model; default: 0.25)")


def run(arguments: argparse.Namespace) -> Iterator[dict]:
    """Export, print how far the export is from the detector, and yield that."""
    output = Path(arguments.output)
    if output.exists():
        raise InputError(f"{output}: expected a path that is new, received one in use; choose another --output")
    import_tensorflow()
    from kyolo import export, training

    opened = training.open_run(arguments.run)
    config = with_run_data(with_picture_settings(opened.config), arguments, SETTINGS[arguments.to])
    detector = opened.load_detector(arguments.weights)
    val = training.load_split(config.data, "val")
    images = list(itertools.islice(val.images(), CHECK_IMAGES))
    fitted: dict[str, typing.Any] = {
        "image_size": image_hw(config.data.image_size),
        "fit": config.data.fit,
        "images": images,
    }
    report: typing.Any  # a ParityReport: there are images
    try:
        if arguments.to == "tflite":
            report = export.to_tflite(detector, output, **fitted)
        else:
            settings = config_to_dict(config.evaluation)
            del settings["batch_size"]
            report = export.to_saved_model(detector, output, class_names=class_names(config), **fitted, **settings)
    except export.ExportError as error:
        raise CheckFailed(str(error)) from error
    if not report.compared:
        print("nothing was found in the check images, so that no box could be compared", file=sys.stderr)
    print(
        f"{output}: equal to Keras on {report.images} images ({report.compared} boxes), "
        f"boxes within {report.box_error:.1g} px, scores within {report.score_error:.1g}"
    )
    yield {"path": str(output), "format": arguments.to, **dataclasses.asdict(report)}
