"""Say what a detector consists of and what it costs, before any training; alone or beside another."""

import argparse
import contextlib
import dataclasses
import os
import typing
from collections.abc import Iterator

from kyolo.cli.options import add_import_argument, add_set_argument, import_tensorflow, stderr_discarded
from kyolo.config import Config, image_hw, load_config
from kyolo.errors import InputError

NUM_CLASSES = 80  # where a configuration leaves it to the data
RUNS = 50


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command."""
    parser.add_argument("--config", required=True, metavar="FILE", help="YAML file, such as configs/yolov8_n.yaml")
    parser.add_argument("--against", metavar="FILE", help="another, whose figures stand beside")
    add_set_argument(parser, "data.image_size=320 (of both)")
    add_import_argument(parser)
    parser.add_argument(
        "--latency", action="store_true", help="measure the time of one image too: Keras, .tflite in float32 and int8"
    )
    parser.add_argument(
        "--threads",
        type=int,
        default=os.cpu_count(),
        metavar="N",
        help="of TFLite, with --latency (default: one a core)",
    )


def run(arguments: argparse.Namespace) -> Iterator[dict]:
    """Print the table of parts, and yield it."""
    if arguments.threads < 1:
        raise InputError(f"--threads: expected 1 or more, received {arguments.threads}")
    paths = [path for path in (arguments.config, arguments.against) if path is not None]
    configs = [_with_classes(load_config(path, arguments.set)) for path in paths]
    import_tensorflow()
    from kyolo import export
    from kyolo.models import build_detector
    from kyolo.models.cost import describe_parts
    from kyolo.training.run_folder import from_scratch

    detectors = [build_detector(dataclasses.replace(config, model=from_scratch(config.model))) for config in configs]
    sizes = [image_hw(config.data.image_size) for config in configs]
    documents = []
    for path, config, detector, size in zip(paths, configs, detectors, sizes, strict=True):
        parts = describe_parts(detector, size)
        documents.append(
            {
                "config": path,
                "image_size": size,
                "num_classes": config.model.num_classes,
                "parts": [part._asdict() | {"pieces": [piece._asdict() for piece in part.pieces]} for part in parts],
                "weights": sum(part.weights for part in parts),
                "gflop": sum(part.gflop for part in parts),
            }
        )
    if arguments.latency:
        with contextlib.nullcontext() if arguments.debug else stderr_discarded():
            times = export.time_forms(detectors, threads=arguments.threads, runs=RUNS)
        for document, milliseconds in zip(documents, times, strict=True):
            document |= {"threads": arguments.threads, "median_ms": milliseconds}
    _print(documents)
    yield documents[0] if len(documents) == 1 else {"configs": documents}


def _with_classes(config: Config) -> Config:
    if config.model.num_classes is not None:
        return config
    return dataclasses.replace(config, model=dataclasses.replace(config.model, num_classes=NUM_CLASSES))


def _print(documents: list[dict]) -> None:
    from kyolo.report import format_table

    columns = ["part", *["output", "weights", "GFLOP"] * len(documents)]
    rows: list[list[typing.Any]] = []
    for parts in zip(*(document["parts"] for document in documents), strict=True):  # all detectors have the same
        rows.append([parts[0]["name"], *_cells(parts)])
        pieces = [{piece["name"]: piece for piece in part["pieces"]} for part in parts]
        for name in dict.fromkeys(name for one in pieces for name in one):
            rows.append([f"  {name}", *_cells([one.get(name) for one in pieces])])
    rows.append(["all", *[cell for each in documents for cell in ("", each["weights"], each["gflop"])]])
    print(format_table(rows, header=columns))
    for document in documents:
        height, width = document["image_size"]
        print(f"{document['config']}: {document['num_classes']} classes, one image of {height} x {width} pixels")
        if "median_ms" in document:
            times = ", ".join(f"{name} {value:.2f} ms" for name, value in document["median_ms"].items())
            print(f"  {times} (median of {RUNS}, in turn; {document['threads']} threads)")


def _cells(parts: typing.Iterable[dict | None]) -> list:
    """What stands in the row of a part, or of a piece that not all have."""
    cells: list[typing.Any] = []
    for part in parts:
        cells += [None] * 3 if part is None else [_shapes(part["outputs"]), part["weights"], part["gflop"]]
    return cells


def _shapes(shapes: list[tuple[int, ...]]) -> str:
    return ", ".join("x".join(map(str, shape)) for shape in shapes)
