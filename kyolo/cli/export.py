"""Write a trained detector as a file for other programs, checked against Keras on real images."""

import argparse
import contextlib
import dataclasses
import itertools
import math
import sys
import typing
from collections.abc import Iterator
from pathlib import Path

from kyolo.cli.options import (
    CheckFailed,
    add_data_arguments,
    add_run_arguments,
    add_set_argument,
    check_classes,
    import_tensorflow,
    stderr_discarded,
    with_picture_settings,
    with_run_data,
)
from kyolo.config import Config, config_to_dict, image_hw
from kyolo.errors import InputError

CALIBRATION_IMAGES = 200
TFLITE_DETECTIONS = 100  # a run's own setting is for AP
TYPES = ("float32", "uint8", "int8")
FOR_PEOPLE = ("tflite", "android")  # whose suppression lists TFLITE_DETECTIONS
TFLITE_ONLY: dict[str, typing.Any] = {  # arguments, and what they are by default
    "precision": "float32",
    "nms": False,
    "input_type": "float32",
    "output_type": "float32",
    "calibration_images": CALIBRATION_IMAGES,
    "metadata": False,
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command."""
    add_run_arguments(parser)
    parser.add_argument("--to", required=True, choices=("saved_model", "tflite", "android"), help="format")
    parser.add_argument("--output", required=True, metavar="PATH", help="new folder, or file (tflite)")
    parser.add_argument(
        "--precision",
        choices=("float32", "float16", "dynamic", "int8"),
        help="tflite: of the weights, and with int8 of the activations too (default: float32)",
    )
    parser.add_argument(
        "--nms", action=argparse.BooleanOptionalAction, default=None, help="tflite: detections, or all anchor points"
    )
    parser.add_argument("--input-type", choices=TYPES, help="tflite with int8: of the pixels (default: float32)")
    parser.add_argument("--output-type", choices=TYPES, help="tflite with int8: of boxes and scores (default: float32)")
    parser.add_argument(
        "--calibration-images",
        type=int,
        metavar="N",
        help=f"android, and tflite with int8: most images of train that set its ranges (default: {CALIBRATION_IMAGES})",
    )
    parser.add_argument(
        "--metadata",
        action="store_const",
        const=True,
        help="tflite with --nms: outputs and metadata for MediaPipe Tasks, which stretches images (needs mediapipe)",
    )
    add_data_arguments(parser, "the data set whose val images check the export, by default the run's")
    add_set_argument(parser, "data.image_size=256 or evaluation.confidence=0.4 (with a suppression; default: 0.25)")


def run(arguments: argparse.Namespace) -> Iterator[dict]:
    """Export, print how far the export is from the detector, and yield that."""
    output, options = Path(arguments.output), _tflite_options(arguments)
    if output.exists():
        raise InputError(f"{output}: expected a path that is new, received one in use; choose another --output")
    import_tensorflow()
    from kyolo import export, training

    opened = training.open_run(arguments.run)
    allowed = ("data",) if arguments.to == "tflite" and not options["nms"] else ("data", "evaluation")
    config = with_run_data(_with_defaults(opened.config, arguments.to), arguments, allowed)
    detector = opened.load_detector(arguments.weights, config)
    val = training.load_split(config.data, "val")
    check_classes(config, val)
    images = list(itertools.islice(val.images(), export.CHECK_IMAGES))
    scores = _score_stretched(opened.config, detector, val) if options["metadata"] or arguments.to == "android" else {}
    with contextlib.nullcontext() if arguments.debug else stderr_discarded():  # the converter is talkative
        try:
            reports = _export(arguments.to, detector, output, config, images, options)
        except export.ExportError as error:
            raise CheckFailed(f"{error}; nothing was written") from error
    for name, report in reports.items():
        _print_report(output / name, report)
    document: dict[str, typing.Any] = {"path": str(output), "format": arguments.to}
    if arguments.to == "android":
        document["files"] = {name: dataclasses.asdict(report) for name, report in reports.items()}
    else:
        document |= {"precision": options["precision"], **dataclasses.asdict(reports[""])}
    yield document | scores


def _export(
    form: str,
    detector: typing.Any,
    output: Path,
    config: Config,
    images: list,
    options: dict[str, typing.Any],
) -> dict[str, typing.Any]:
    """Write what is asked for; return how far it is from the detector, by the name of the file within the output."""
    from kyolo import export

    settings = config_to_dict(config.evaluation)
    del settings["batch_size"]
    if form == "saved_model":
        return {"": export.to_saved_model(detector, output, images=images, **settings)}
    calibration = []
    if form == "android" or options["precision"] == "int8":
        calibration = calibration_images(config, options["calibration_images"])
    if form == "android":
        return export.to_android(detector, output, images=images, calibration=calibration, **settings)
    nms = export.NMSSettings(**settings) if options["nms"] else None
    chosen = {name: options[name] for name in ("precision", "input_type", "output_type", "metadata")}
    return {"": export.to_tflite(detector, output, images=images, calibration=calibration, nms=nms, **chosen)}


def calibration_images(config: Config, count: int) -> list:
    """Return at most so many images of the training set, at equal distances, fitted to the network's input."""
    from kyolo import data, training

    train = training.load_split(config.data, "train")
    images = train.images(math.ceil(train.num_images / count))
    return [data.letterbox(image, image_hw(config.data.image_size), config.data.fit)[0].numpy() for image in images]


def _score_stretched(config: Config, detector: typing.Any, val: typing.Any) -> dict[str, float | None]:
    """Print the AP that a run has on stretched images, MediaPipe's, beside that with its own fit; return both."""
    from kyolo import data
    from kyolo.evaluation import evaluate

    settings = config_to_dict(config.evaluation)
    batch_size = settings.pop("batch_size")
    scores: dict[str, float | None] = {}
    for fit in dict.fromkeys([config.data.fit, "stretch"]):
        dataset = data.make_dataset(
            val, "val", image_size=config.data.image_size, batch_size=batch_size, fit=fit, cache=None
        )
        scores[f"ap_{fit}"] = evaluate(detector, dataset, **settings)["ap"]
    print(
        ", ".join(
            f"AP {value:.3f} with images fitted by {name.removeprefix('ap_')}"
            for name, value in scores.items()
            if value is not None
        )
    )
    if config.data.fit != "stretch":
        print(
            f"kyolo: warning: MediaPipe stretches images, and this run was trained with data.fit={config.data.fit}; "
            f"--set data.fit=stretch trains one for it",
            file=sys.stderr,
        )
    return scores


def _tflite_options(arguments: argparse.Namespace) -> dict[str, typing.Any]:
    """Return what is said of a .tflite, defaults filled in; refuse it for another format, before anything is loaded."""
    given = {name: getattr(arguments, name) for name in TFLITE_ONLY if getattr(arguments, name) is not None}
    options = {**TFLITE_ONLY, **given}
    for name in given:
        if arguments.to == "android" and name == "calibration_images":
            continue
        option = f"--{name.replace('_', '-')}"
        if arguments.to != "tflite":
            raise InputError(
                f"{option}: expected with --to tflite only, received with --to {arguments.to}; leave it out"
            )
        if options["precision"] != "int8" and name in ("input_type", "output_type", "calibration_images"):
            raise InputError(
                f"{option}: expected with --precision int8 only, received with {options['precision']}; leave it out"
            )
    if options["metadata"] and not options["nms"]:
        raise InputError("--metadata: expected with --nms, as MediaPipe Tasks wants detections, received without it")
    if options["metadata"] and (options["input_type"] == "int8" or options["output_type"] != "float32"):
        raise InputError(
            f"--metadata: expected an input of float32 or uint8 and an output of float32, as MediaPipe Tasks wants "
            f"them, received {options['input_type']} and {options['output_type']}"
        )
    if options["calibration_images"] < 1:
        raise InputError(
            f"--calibration-images: expected 1 or more, a hundred at least for good ranges, received "
            f"{options['calibration_images']}"
        )
    return options


def _with_defaults(config: Config, form: str) -> Config:
    """Return the run's config with the settings of the suppression that people want in a file."""
    config = with_picture_settings(config)
    if form not in FOR_PEOPLE:
        return config
    evaluation = dataclasses.replace(config.evaluation, max_detections=TFLITE_DETECTIONS)
    return dataclasses.replace(config, evaluation=evaluation)


def _print_report(output: Path, report: typing.Any) -> None:
    if not report.compared:
        print("nothing was found in the check images, so that no box could be compared", file=sys.stderr)
        print(f"{output}: written, not compared")
        return
    print(
        f"{output}: agrees with Keras on {report.images} images ({report.compared} boxes): boxes within "
        f"{report.box_error:.1g} px, {report.mean_box_error:.1g} on average; scores within {report.score_error:.1g}, "
        f"{report.mean_score_error:.1g} on average; {report.unmatched} found by one of the two only"
    )
