"""Write a trained detector as a file for other programs, checked against Keras on real images."""

import argparse
import contextlib
import dataclasses
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
    scored = options["metadata"] or arguments.to == "android"
    val = training.load_split(config.data, "val", check_images=scored)
    check_classes(config, val)
    images = sample_images(config, val, "val", export.CHECK_IMAGES)
    scores = _score_stretched(opened.config, detector, val) if scored else {}
    calibration = []
    if arguments.to == "android" or options["precision"] == "int8":
        calibration = calibration_images(config, options["calibration_images"])
    with contextlib.nullcontext() if arguments.debug else stderr_discarded():  # the converter is talkative
        try:
            reports = _export(arguments.to, detector, output, config, images, calibration, options)
        except export.ExportError as error:
            raise CheckFailed(f"{error}; nothing was written") from error
    for name, report in reports.items():
        _print_report(output / name, report)
    document: dict[str, typing.Any] = {"path": str(output), "format": arguments.to}
    if arguments.to == "android":
        document["files"] = {name: dataclasses.asdict(report) for name, report in reports.items()}
    else:
        document |= {"precision": options["precision"], **dataclasses.asdict(reports[""])}
    if calibration:
        document["calibration_images"] = len(calibration)
    yield document | scores


def _export(
    form: str,
    detector: typing.Any,
    output: Path,
    config: Config,
    images: list,
    calibration: list,
    options: dict[str, typing.Any],
) -> dict[str, typing.Any]:
    """Write what is asked for; return how far it is from the detector, by the name of the file within the output."""
    from kyolo import export

    settings = config_to_dict(config.evaluation)
    del settings["batch_size"]
    if form == "saved_model":
        return {"": export.to_saved_model(detector, output, images=images, **settings)}
    if form == "android":
        return export.to_android(detector, output, images=images, calibration=calibration, **settings)
    nms = export.NMSSettings(**settings) if options["nms"] else None
    chosen = {name: options[name] for name in ("precision", "input_type", "output_type", "metadata")}
    return {"": export.to_tflite(detector, output, images=images, calibration=calibration, nms=nms, **chosen)}


def calibration_images(config: Config, count: int) -> list:
    """Return at most so many images of the training set, at equal distances, fitted to the network's input.

    Only these images are decoded. What was skipped is printed.
    """
    from kyolo import data, training

    train = training.load_split(config.data, "train", check_images=False)

    def fitted(image: typing.Any) -> typing.Any:
        return data.letterbox(image, image_hw(config.data.image_size), config.data.fit)[0].numpy()

    return sample_images(config, train, "train", count, fitted, spread=True)


def sample_images(
    config: Config,
    index: typing.Any,
    split: str,
    count: int,
    change: typing.Callable[[typing.Any], typing.Any] = lambda image: image,
    *,
    spread: bool = False,
) -> list:
    """Return at most so many images of a split that decode, and print how many and what was skipped.

    Args:
        config: of the run; with `data.strict` no image is skipped.
        index: of the split; its images need not be checked.
        split: its name.
        count: number of images.
        change: applied to each image when it is decoded.
        spread: at equal distances through the split instead of the first ones.
    """
    skipped: list[str] = []
    images = [change(image) for image in index.sample_images(count, skipped, spread=spread)]
    purpose = "calibrated" if spread else "checked"
    names = f"{', '.join(skipped[:3])}{', ...' if len(skipped) > 3 else ''}"
    if not images or (skipped and config.data.strict):
        raise InputError(
            f"{config.data.path}, split {split!r}: expected images that decode, got {len(skipped)} that do not "
            f"({names}). Replace or remove them."
        )
    if skipped:
        wanted = min(count, len(images) + len(skipped))
        line = f"{purpose} on {len(images)} of {wanted} images: {len(skipped)} do not decode ({names})"
        print(line, file=sys.stderr)
    elif spread:
        print(f"{purpose} on {len(images)} images", file=sys.stderr)
    return images


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
