"""Detect objects in images, videos, or what a camera sees."""

import argparse
import contextlib
import math
import os
import signal
import sys
import threading
import typing
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from kyolo.cli.options import (
    CheckFailed,
    add_run_arguments,
    add_set_argument,
    class_names,
    import_tensorflow,
    override_run,
    with_picture_settings,
)
from kyolo.cli.prediction_folder import PredictionWriter, output_names
from kyolo.config import Config, config_to_dict
from kyolo.errors import InputError
from kyolo.files import new_output

MOST_LISTED = 10  # images that cannot be read, by name

if typing.TYPE_CHECKING:
    from kyolo.evaluation import Frame


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command."""
    add_run_arguments(parser)
    parser.add_argument(
        "paths",
        nargs="+",
        metavar="PATH",
        help="image, folder of images, video (.mp4 .avi .mov .mkv .webm .m4v), glob pattern in quotes, or camera:0",
    )
    parser.add_argument(
        "--output", metavar="DIR", help="new folder for the pictures or videos with boxes and predictions.jsonl"
    )
    parser.add_argument("--strict", action="store_true", help="stop at the first image that cannot be read")
    parser.add_argument("--frames", type=int, metavar="N", help="stop each video or camera after N frames")
    add_set_argument(parser, "evaluation.confidence=0.5 (predict's own default is 0.25, of the best class of a point)")


def run(arguments: argparse.Namespace) -> Iterator[dict]:
    """Print a line per image or frame and yield its detections; --output appears when all are there, or not at all.

    An image that cannot be read is left out, and reported at the end. Ctrl-C ends a camera in order: what it has seen
    so far is all there is.
    """
    import_tensorflow()
    from kyolo import evaluation, training

    opened = training.open_run(arguments.run)
    config = override_run(
        with_picture_settings(opened.config), arguments.set, ("data.image_size", "data.fit", "evaluation")
    )
    names = class_names(config)
    sources, total = _find(arguments)
    live = any(map(evaluation.is_camera, sources))
    unit, drawn = ("frame", "videos") if evaluation.is_video(sources[0]) else ("image", "pictures")
    with contextlib.ExitStack() as stack:
        writer = None
        if arguments.output is not None:
            places = output_names(sources)
            _note_missing_fonts(names)
            folder = stack.enter_context(new_output(arguments.output, folder=True))
            writer = stack.enter_context(PredictionWriter(folder, names, places))
        detector = opened.load_detector(arguments.weights, config)
        stopped = stack.enter_context(_ctrl_c_as_event() if live else contextlib.nullcontext(threading.Event()))
        unread: dict[str, InputError] = {}
        settings = _settings(config, live) | {"on_error": None if arguments.strict else unread.__setitem__}
        predictions = _predict(detector, sources, arguments.frames, settings)
        stack.enter_context(contextlib.closing(predictions))
        for frame, found in _with_bar(predictions, total, unit, arguments.json):
            _print_line(found)
            if writer is not None:
                writer.write(found, frame)
            yield found
            if stopped.is_set():
                break
        if len(unread) == len(sources):
            raise unread[sources[0]]
    if arguments.output is not None:
        print(f"{drawn} and predictions.jsonl: {arguments.output}")
    if stopped.is_set():
        raise KeyboardInterrupt
    if unread:
        raise CheckFailed(_describe_unread(unread))


def _note_missing_fonts(names: Sequence[str]) -> None:
    """Say on stderr which characters of the class names will be drawn as code points."""
    from kyolo.report.fonts import missing_characters

    missing = missing_characters("".join(names))
    if missing:
        print(
            f'class names: no font found for {missing[:20]}, drawn as code points; pip install "kyolo-tf[fonts]", or '
            f"set KYOLO_FONT to a font file",
            file=sys.stderr,
        )


def _describe_unread(unread: Mapping[str, InputError]) -> str:
    error = next(iter(unread.values()))
    count = "1 image" if len(unread) == 1 else f"{len(unread)} images"
    listed = "".join(f"; {path}" for path in list(unread)[1:MOST_LISTED])
    listed += f"; and {len(unread) - MOST_LISTED} more" * (len(unread) > MOST_LISTED)
    return f"{count} could not be read: {error}{listed}. The other images are done; pass --strict to stop instead."


def _find(arguments: argparse.Namespace) -> tuple[list[str], float]:
    """Return images, or videos and cameras, and how many images or frames that are: inf where nothing says."""
    from kyolo import evaluation

    videos = [path for path in arguments.paths if evaluation.is_video(path)]
    if arguments.frames is not None and (arguments.frames < 1 or not videos):
        raise InputError(
            f"--frames: expected 1 or more, of videos or cameras, received {arguments.frames}"
            f"{'' if videos else ' and images'}"
        )
    if not videos:
        images = evaluation.find_images(arguments.paths)
        _note_subfolders(arguments.paths)
        return images, len(images)
    if len(videos) < len(arguments.paths):
        image = next(path for path in arguments.paths if path not in videos)
        raise InputError(f"expected images or videos, received both ({image}, {videos[0]}); predict them one by one")
    videos = evaluation.find_videos(videos)
    return videos, sum(_num_frames(video, arguments.frames or math.inf) for video in videos)


def _note_subfolders(paths: Sequence[str]) -> None:
    """Say on stderr which of the folders have subfolders with images, as these are left out."""
    from kyolo.data.images import SUFFIXES

    for path in filter(os.path.isdir, paths):
        for folder in sorted(entry.path for entry in os.scandir(path) if entry.is_dir()):
            if any(name.lower().endswith(SUFFIXES) for name in os.listdir(folder)):
                pattern = os.path.join(path, "**", "*")
                print(f'{folder}: not searched, as it is a subfolder; pass "{pattern}" to search all', file=sys.stderr)
                break


def _num_frames(source: str, limit: float) -> float:
    """Open a video, so that a bad one is told before the work begins, and return how many frames will be read."""
    from kyolo import evaluation

    if evaluation.is_camera(source):
        return limit
    with evaluation.Video(source) as video:
        return min(limit, video.num_frames or math.inf)


def _settings(config: Config, live: bool) -> dict[str, typing.Any]:
    settings = config_to_dict(config.evaluation)
    return settings | {"batch_size": 1} if live else settings  # A camera's frame does not wait for the next.


def _predict(
    detector: typing.Any, sources: Sequence[str], limit: int | None, settings: dict[str, typing.Any]
) -> typing.Generator[tuple["Frame | None", dict], None, None]:
    """Yield what is found in each image or frame, and the frame."""
    from kyolo import evaluation

    if evaluation.is_video(sources[0]):
        del settings["on_error"]  # a video that cannot be read is told before
        with contextlib.closing(_read_frames(sources, limit)) as frames:
            yield from evaluation.predict_frames(detector, frames, **settings)
    else:
        for found in evaluation.predict_paths(detector, sources, **settings):
            yield None, found


def _read_frames(sources: Sequence[str], limit: int | None) -> typing.Generator["Frame", None, None]:
    """Yield the frames of one video after the other, and say where a video ends before its time."""
    from tqdm import tqdm

    from kyolo import evaluation

    for source in sources:
        with evaluation.Video(source) as video:
            yield from video.frames(limit)
        if video.missing_seconds >= 1:
            tqdm.write(
                f"{source}: ends {video.missing_seconds:.1f} s before its header says: trimmed, cut off or damaged",
                file=sys.stderr,
            )


def _with_bar(predictions: Iterator, total: float, unit: str, json: bool) -> Iterator:
    """Show the progress on a terminal, unless JSON goes to one too, whose lines it would break.

    From the start, as the first line brings the bar up anyway: with a delay it would stay behind after short work.
    """
    from tqdm import tqdm

    disable = True if json and os.isatty(1) else None
    return tqdm(predictions, "Predicting", total=total, unit=unit, leave=False, disable=disable)


def _print_line(found: dict) -> None:
    from tqdm import tqdm

    place = found["image"]
    if "frame" in found:
        place += f" {found['seconds']:.2f} s"
    counts = Counter(found["names"])
    tqdm.write(f"{place}: {', '.join(f'{count} {name}' for name, count in counts.items()) or 'nothing'}")


@contextlib.contextmanager
def _ctrl_c_as_event() -> Iterator[threading.Event]:
    """Yield an event that Ctrl-C sets, instead of interrupting just anywhere; a second one interrupts as ever."""
    pressed = threading.Event()

    def set_event(*_: object) -> None:
        pressed.set()
        signal.signal(signal.SIGINT, before)

    before = signal.signal(signal.SIGINT, set_event)
    try:
        yield pressed
    finally:
        signal.signal(signal.SIGINT, before)
