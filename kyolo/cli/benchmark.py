"""Export a trained detector in every way, and compare size, time, AP and outputs."""

import argparse
import contextlib
import os
import sys
import tempfile
import typing
from collections.abc import Iterator
from pathlib import Path

from kyolo.cli.export import CALIBRATION_IMAGES, calibration_images
from kyolo.cli.options import (
    CheckFailed,
    add_data_arguments,
    add_run_arguments,
    add_set_argument,
    check_classes,
    import_tensorflow,
    stderr_discarded,
    with_run_data,
)
from kyolo.errors import InputError

RUNS = 100


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command."""
    add_run_arguments(parser)
    parser.add_argument(
        "--threads", type=int, default=os.cpu_count(), metavar="N", help="of TFLite (default: one a core)"
    )
    parser.add_argument("--runs", type=int, default=RUNS, metavar="N", help=f"timed of each (default: {RUNS})")
    parser.add_argument("--output", metavar="FOLDER", help="new folder that keeps the files (default: none does)")
    add_data_arguments(parser, "a data set: val is scored, train sets the ranges of int8; by default the run's")
    add_set_argument(parser, "data.image_size=256")


def run(arguments: argparse.Namespace) -> Iterator[dict]:
    """Print a table of all variants, and yield it."""
    for name in ("threads", "runs"):
        if getattr(arguments, name) < 1:
            raise InputError(f"--{name}: expected 1 or more, received {getattr(arguments, name)}")
    if arguments.output is not None and Path(arguments.output).exists():
        raise InputError(
            f"{arguments.output}: expected a path that is new, received one in use; choose another --output"
        )
    import_tensorflow()
    from kyolo import data, export, files, report, training

    opened = training.open_run(arguments.run)
    config = with_run_data(opened.config, arguments, ("data",))
    detector = opened.load_detector(arguments.weights, config)
    index = training.load_split(config.data, "val")
    check_classes(config, index)
    val = data.make_dataset(
        index,
        "val",
        image_size=config.data.image_size,
        fit=config.data.fit,
        cache=None,
    )
    calibration = calibration_images(config, CALIBRATION_IMAGES)
    place: typing.Any = tempfile.TemporaryDirectory()
    if arguments.output is not None:
        place = files.new_output(arguments.output, folder=True)
    quiet = contextlib.nullcontext(sys.stderr) if arguments.debug else stderr_discarded()
    with place as folder, quiet as stderr:
        Path(folder).mkdir(exist_ok=True)
        rows = export.measure_variants(
            detector,
            Path(folder),
            val,
            calibration=calibration,
            threads=arguments.threads,
            runs=arguments.runs,
            progress=lambda name: print(f"kyolo: {name} ...", file=stderr),
        )
    print(_table(rows, report.format_table))
    for row in rows:
        if row["error"] is not None:
            print(f"{row['variant']}: {row['error']}")
    print(
        f"one image, {arguments.threads} threads, {arguments.runs} runs in turn; AP by the protocol that YOLO models "
        f"are compared by, not of files with a suppression inside, which list detections for people; box px and score: "
        f"largest differences of detections from Keras on {export.CHECK_IMAGES} images; alone: found by one only"
    )
    yield {
        "threads": arguments.threads,
        "runs": arguments.runs,
        "environment": training.describe_environment(),
        "variants": rows,
    }
    failures = [row["variant"] for row in rows if row["error"] is not None]
    if failures:
        raise CheckFailed(f"expected the same results of all exports, received others of {', '.join(failures)}")


def _table(rows: list[dict], format_table: typing.Callable) -> str:
    columns = {
        "variant": lambda row: row["variant"],
        "MB": lambda row: None if row["bytes"] is None else row["bytes"] / 1e6,
        "median ms": lambda row: row["median_ms"],
        "95 % ms": lambda row: row["p95_ms"],
        "AP": lambda row: row["ap"],
        "AP lost": lambda row: row["ap_lost"],
        "box px": lambda row: row["box_error"],
        "score": lambda row: row["score_error"],
        "alone": lambda row: row["unmatched"],
    }
    return format_table([[cell(row) for cell in columns.values()] for row in rows], header=list(columns))
