"""Detect objects in images."""

import argparse
import contextlib
import json
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from kyolo.cli.options import (
    add_run_arguments,
    add_set_argument,
    class_names,
    import_tensorflow,
    override_run,
    with_picture_settings,
)
from kyolo.config import config_to_dict, image_hw
from kyolo.errors import InputError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command."""
    add_run_arguments(parser)
    parser.add_argument("paths", nargs="+", metavar="PATH", help="image, folder of images, or glob pattern in quotes")
    parser.add_argument("--output", metavar="DIR", help="new folder for pictures with boxes and predictions.jsonl")
    add_set_argument(parser, "evaluation.confidence=0.5 (predict's own default is 0.25, of the best class of a point)")


def run(arguments: argparse.Namespace) -> Iterator[dict]:
    """Print a line an image and yield its detections; --output appears when all are there, or not at all."""
    import_tensorflow()
    from kyolo import evaluation, training

    opened = training.open_run(arguments.run)
    config = override_run(
        with_picture_settings(opened.config), arguments.set, ("data.image_size", "data.fit", "evaluation")
    )
    names = class_names(config)
    images = evaluation.find_images(arguments.paths)
    with contextlib.ExitStack() as stack:
        folder = None
        if arguments.output is not None:
            _check_names(images)
            folder = stack.enter_context(_new_folder(Path(os.path.abspath(arguments.output))))
        predictions = evaluation.predict_paths(
            opened.load_detector(arguments.weights),
            images,
            image_size=image_hw(config.data.image_size),
            fit=config.data.fit,
            class_names=names,
            **config_to_dict(config.evaluation),
        )
        for found in predictions:
            counts = Counter(found["names"])
            print(f"{found['image']}: {', '.join(f'{count} {name}' for name, count in counts.items()) or 'nothing'}")
            if folder is not None:
                _write(folder, found, names)
            yield found
    if arguments.output is not None:
        print(f"pictures and predictions.jsonl: {arguments.output}")


@contextlib.contextmanager
def _new_folder(path: Path) -> Iterator[Path]:
    """Yield a folder that becomes `path` if all goes well, and is removed if not."""
    if path.exists() and not (path.is_dir() and not any(path.iterdir())):
        raise InputError(
            f"{path}: expected a folder that is new or empty, received one in use; choose another --output"
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    try:
        yield temporary
        temporary.chmod(0o755)  # mkdtemp's folders are the owner's alone.
        temporary.replace(path)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def _check_names(images: Sequence[str]) -> None:
    """Pictures lie side by side in one folder, so that two images cannot share a name."""
    [(name, count)] = Counter(map(_picture_name, images)).most_common(1)
    if count > 1:
        raise InputError(f"expected images of different names for --output, received {count} that give {name}")


def _picture_name(image: str) -> str:
    path = Path(image)
    return path.name if path.suffix.lower() in (".jpg", ".jpeg", ".png") else f"{path.stem}.png"


def _write(folder: Path, found: dict, names: Sequence[str]) -> None:
    """Save the picture of one image, and add its line to predictions.jsonl."""
    from PIL import Image

    from kyolo.data import read_image
    from kyolo.report import draw_detections

    picture = draw_detections(read_image(found["image"]), found, names)
    Image.fromarray(picture).save(folder / _picture_name(found["image"]), quality=95)
    with (folder / "predictions.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(found) + "\n")
