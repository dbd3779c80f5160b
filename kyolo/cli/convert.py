"""Write a data set in another format: COCO json, YOLO text, Pascal VOC XML or TFRecords."""

import argparse
from collections.abc import Iterator

from kyolo.cli.options import add_reading_arguments, import_tensorflow, with_data
from kyolo.config import Config, DataConfig

FORMATS = ("coco", "yolo", "voc", "tfrecord")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command."""
    parser.add_argument("source", metavar="SOURCE", help="folder of the data set")
    parser.add_argument("--to", required=True, choices=FORMATS, help="format to write")
    parser.add_argument("--output", required=True, metavar="DIR", help="new folder")
    parser.add_argument("--format", choices=FORMATS, help="format of SOURCE (default: told by its files)")
    parser.add_argument("--copy", action="store_true", help="copy the images, where hard links would do")
    parser.add_argument(
        "--shards", type=int, metavar="N", help="of tfrecord: files a split (default: one per 128 MB of images)"
    )
    add_reading_arguments(parser)


def run(arguments: argparse.Namespace) -> Iterator[dict]:
    """Convert, print what was written, and yield it."""
    import_tensorflow()
    from kyolo import data, training

    config = with_data(Config(data=DataConfig(format=arguments.format, strict=arguments.strict)), arguments)
    reports = data.convert(
        arguments.source,
        arguments.output,
        arguments.to,
        training.read_options(config.data),
        copy=arguments.copy,
        shards=arguments.shards,
    )
    for split, report in reports.items():
        print(f"{split}\n{report.table()}\n")
    print(f"{arguments.to}: {arguments.output}")
    yield {
        "path": arguments.output,
        "format": arguments.to,
        **{name: report.to_dict() for name, report in reports.items()},
    }
