"""What `kyolo predict --output` writes: pictures or videos with boxes, and predictions.jsonl."""

import contextlib
import json
import os
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path

from kyolo.errors import InputError

if typing.TYPE_CHECKING:
    import numpy as np

    from kyolo.evaluation import Frame, Video


def output_names(sources: Sequence[str]) -> dict[str, str]:
    """Return what is drawn for each image or video, as a path below the output.

    Where two of them have the same name, all keep their folders below the one that they share.

    Args:
        sources: paths and cameras, each once.

    Raises:
        InputError: two of the same folder give one name.
    """
    names = {source: _output_name(source) for source in sources}
    if len(set(names.values())) == len(names):
        return names
    folders = {source: os.path.dirname(os.path.abspath(source)) for source in sources if not _is_camera(source)}
    common = os.path.commonpath(folders.values())
    names |= {
        source: os.path.join(os.path.relpath(folder, common), names[source]) for source, folder in folders.items()
    }
    names = {source: os.path.normpath(name) for source, name in names.items()}
    first: dict[str, str] = {}
    for source, name in names.items():
        if first.setdefault(name, source) != source:
            raise InputError(
                f"--output: expected images or videos of different names, got {first[name]} and {source}, which both "
                f"give {name}. Rename one, or predict them into two folders."
            )
    return names


def _is_camera(source: str) -> bool:
    from kyolo.evaluation import is_camera

    return is_camera(source)


def _output_name(source: str) -> str:
    """Return the name of the picture or video that is drawn: 1.jpg for 1.jpg, 2.png for 2.webp, camera_0.mp4."""
    from kyolo.evaluation import is_video

    path = Path(source)
    if is_video(source):
        return f"{source.replace(':', '_') if _is_camera(source) else path.stem}.mp4"
    return path.name if path.suffix.lower() in (".jpg", ".jpeg", ".png") else f"{path.stem}.png"


class PredictionWriter:
    """Writes predictions as they come: pictures or videos with the boxes drawn in, and predictions.jsonl.

    Args:
        folder: a new one, which this makes.
        class_names: name of each label.
        names: what is drawn for each source, as from `output_names`.
    """

    def __init__(self, folder: Path, class_names: Sequence[str], names: Mapping[str, str]):
        folder.mkdir()
        self.folder = folder
        self.class_names = class_names
        self.names = names
        self._lines = (folder / "predictions.jsonl").open("w", encoding="utf-8")
        self._video: Video | None = None  # whose frames are being written
        self._video_writer = contextlib.ExitStack()

    def write(self, found: dict, frame: "Frame | None") -> None:
        """Add what was found in an image, or in a frame of a video; the frames of a video follow each other."""
        from PIL import Image

        from kyolo.data import read_image
        from kyolo.report import draw_detections

        picture = draw_detections(frame.image if frame else read_image(found["image"]), found, self.class_names)
        if frame:
            self._add_to_video(picture, frame)
        else:
            Image.fromarray(picture).save(self._path(found["image"]), quality=95)
        self._lines.write(json.dumps(found) + "\n")

    def __enter__(self) -> "PredictionWriter":
        return self

    def __exit__(self, *exception: typing.Any) -> None:
        with self._lines:
            self._video_writer.__exit__(*exception)

    def _path(self, source: str) -> Path:
        path = self.folder / self.names[source]
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def _add_to_video(self, picture: "np.ndarray", frame: "Frame") -> None:
        from kyolo.evaluation import is_camera
        from kyolo.report import VideoWriter

        video = frame.video
        if video is not self._video:
            self._video_writer.close()
            writer = VideoWriter(self._path(video.source), video.frame_rate)
            self._write_frame = self._video_writer.enter_context(writer).write
            self._video = video
        # A camera's frames come when the one before is done with, whatever its frame rate.
        self._write_frame(picture, frame.seconds if is_camera(video.source) else None)
