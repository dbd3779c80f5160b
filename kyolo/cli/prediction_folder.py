"""What `kyolo predict --output` writes: pictures or videos with boxes, and predictions.jsonl."""

import contextlib
import json
import typing
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from kyolo.errors import InputError

if typing.TYPE_CHECKING:
    import numpy as np

    from kyolo.evaluation import Frame, Video


def check_names(sources: Sequence[str]) -> None:
    """What is written lies side by side in one folder, so that two images or videos cannot share a name."""
    [(name, count)] = Counter(map(output_name, sources)).most_common(1)
    if count > 1:
        raise InputError(
            f"expected images or videos of different names for --output, received {count} that give {name}"
        )


def output_name(source: str) -> str:
    """Name of the picture or video that is drawn: 1.jpg for 1.jpg, 2.png for 2.webp, camera_0.mp4 for camera:0."""
    from kyolo.evaluation import is_camera, is_video

    path = Path(source)
    if is_video(source):
        return f"{source.replace(':', '_') if is_camera(source) else path.stem}.mp4"
    return path.name if path.suffix.lower() in (".jpg", ".jpeg", ".png") else f"{path.stem}.png"


class PredictionWriter:
    """Writes predictions as they come: pictures or videos with the boxes drawn in, and predictions.jsonl.

    Args:
        folder: a new one, which this makes.
        class_names: name of each label.
    """

    def __init__(self, folder: Path, class_names: Sequence[str]):
        folder.mkdir()
        self.folder = folder
        self.class_names = class_names
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
            Image.fromarray(picture).save(self.folder / output_name(found["image"]), quality=95)
        self._lines.write(json.dumps(found) + "\n")

    def __enter__(self) -> "PredictionWriter":
        return self

    def __exit__(self, *exception: typing.Any) -> None:
        with self._lines:
            self._video_writer.__exit__(*exception)

    def _add_to_video(self, picture: "np.ndarray", frame: "Frame") -> None:
        from kyolo.evaluation import is_camera
        from kyolo.report import VideoWriter

        video = frame.video
        if video is not self._video:
            self._video_writer.close()
            path = self.folder / output_name(video.source)
            self._write_frame = self._video_writer.enter_context(VideoWriter(path, video.frame_rate)).write
            self._video = video
        # A camera's frames come when the one before is done with, whatever its frame rate.
        self._write_frame(picture, frame.seconds if is_camera(video.source) else None)
