"""Detections in video files and what a camera sees. OpenCV reads both; it is imported when it is needed."""

import itertools
import os
import re
import time
import types
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kyolo.errors import InputError
from kyolo.evaluation.detect import Predictor
from kyolo.evaluation.predict import as_lists, find_files, nms_settings, predict_each

VIDEO_SUFFIXES = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v")
FRAME_RATE = 30.0  # where a video or camera names none
MAX_FRAME_RATE = 1000.0  # what is above is a clock's rate: some containers have no other
_CAMERA = re.compile(r"camera:(\d+)")


def import_opencv() -> types.ModuleType:
    """Return OpenCV, which keeps its own log to itself unless the environment wants it.

    Raises:
        InputError: it is not installed.
    """
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # FFmpeg's AV_LOG_QUIET
    try:
        import cv2
    except ImportError as error:
        raise InputError(
            f'videos and cameras are read with OpenCV, expected it installed, received "{error}"; '
            'pip install "kyolo-tf[video]"'
        ) from error
    if "OPENCV_LOG_LEVEL" not in os.environ:  # which OpenCV reads when it is imported, perhaps by others
        cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    return cv2


def is_camera(path: str | os.PathLike) -> bool:
    """Whether a path is none but names a camera: "camera:0"."""
    return _CAMERA.fullmatch(os.fspath(path)) is not None


def is_video(path: str | os.PathLike) -> bool:
    """Whether a path names a camera, or by its suffix a video (or a glob pattern for some)."""
    return is_camera(path) or Path(path).suffix.lower() in VIDEO_SUFFIXES


def find_videos(paths: Iterable[str | os.PathLike]) -> list[str]:
    """Expand video files, glob patterns and cameras, each once, in the order given.

    Args:
        paths: of each a file, a folder, a glob pattern ("scans/*.mp4") or a camera ("camera:0").

    Returns:
        Paths of files, and cameras' names as they are.

    Raises:
        InputError: a path is missing, or a folder or pattern holds no video.
    """
    found = [[os.fspath(path)] if is_camera(path) else find_files([path], "video", VIDEO_SUFFIXES) for path in paths]
    return list(dict.fromkeys(itertools.chain.from_iterable(found)))


@dataclass(frozen=True, eq=False)
class Frame:
    """A picture out of a video.

    Attributes:
        video: where it comes from.
        number: 0-based.
        seconds: time in the video; of a camera, since its first frame.
        image: (H, W, 3) uint8, RGB, turned upright where the file says how it was held.
    """

    video: "Video"
    number: int
    seconds: float
    image: np.ndarray


class Video:
    """A video file or camera, open until its `with` block ends.

    Args:
        source: path of a file, or "camera:0" for the first camera, "camera:1" for the next.

    Attributes:
        source: as given.
        frame_rate: frames in a second, as the header or driver has it; 30 where there is no credible one.
        num_frames: as the header has it, exact or estimated; None where it does not say, and of cameras.
        missing_seconds: once all frames were read, how much earlier they ended than the header says. Files that were
            cut off or damaged miss some, but also those that were trimmed without being encoded anew.

    Raises:
        InputError: no frame can be read, or OpenCV is not installed.

    Example:
        >>> with Video("street.mp4") as video:
        ...     for frame in video.frames(limit=100):
        ...         print(frame.seconds, frame.image.shape)
        0.0 (64, 96, 3)
        0.1 (64, 96, 3)
        0.2 (64, 96, 3)
    """

    def __init__(self, source: str):
        self._cv2 = import_opencv()
        self.source = source
        self.missing_seconds = 0.0
        camera = _CAMERA.fullmatch(source)
        if camera:
            self._capture = self._cv2.VideoCapture(int(camera[1]))
        else:  # As an absolute path, no name is taken for an address.
            self._capture = self._cv2.VideoCapture(os.path.abspath(source), self._cv2.CAP_FFMPEG)
        self._first = self._read()
        if self._first is None:
            self.close()
            expected = "a camera that delivers frames" if camera else "a video file with frames that decode"
            raise InputError(
                f"{source}: expected {expected}, received none; check the {'device' if camera else 'file'}"
            )
        rate = self._capture.get(self._cv2.CAP_PROP_FPS)
        self.frame_rate = rate if 0 < rate < MAX_FRAME_RATE else FRAME_RATE
        count = self._capture.get(self._cv2.CAP_PROP_FRAME_COUNT)
        self.num_frames = int(count) if count > 0 and not camera else None

    def frames(self, limit: int | None = None) -> Iterator[Frame]:
        """Read the frames, once.

        Args:
            limit: the most frames; all by default, which a camera never ends to deliver.

        Yields:
            One frame after the other, the file's in the order in which they are shown.
        """
        start, seconds = time.monotonic(), 0.0
        image, self._first = self._first, None
        for number in itertools.count() if limit is None else range(limit):
            if number > 0:
                image = self._read()
            if image is None:
                if self.num_frames is not None:
                    self.missing_seconds = max(0.0, (self.num_frames - 1) / self.frame_rate - seconds)
                return
            seconds = time.monotonic() - start if is_camera(self.source) else self._position(number)
            yield Frame(self, number, round(seconds, 6), image)

    def close(self) -> None:
        """Give file or camera free."""
        self._capture.release()

    def __enter__(self) -> "Video":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _read(self) -> np.ndarray | None:
        """The next frame, RGB; None after the last."""
        there, frame = self._capture.read()
        return self._cv2.cvtColor(frame, self._cv2.COLOR_BGR2RGB) if there else None

    def _position(self, number: int) -> float:
        """When the frame that was read last is shown; by its number in a file without time stamps."""
        return self._capture.get(self._cv2.CAP_PROP_POS_MSEC) / 1000 or number / self.frame_rate


def predict_frames(
    detector: Any, frames: Iterable[Frame], *, batch_size: int = 16, **settings: Any
) -> Iterator[tuple[Frame, dict[str, Any]]]:
    """Detect in the frames of a video or of several, one batch in memory at a time.

    Args:
        detector: a `Detector` or a `TFLiteDetector`.
        frames: as from `Video.frames`.
        batch_size: frames that run together; 1 for a camera, where a frame should not wait for the next.
        **settings: as for `predict_paths`.

    Yields:
        Each frame, in order, and its dict: image (the video's source), frame (number), seconds, and boxes, scores,
        labels, names as in `predict_paths`; boxes in pixels of the frame.

    Example:
        ```python
        with Video("street.mp4") as video:
            for frame, found in predict_frames(detector, video.frames()):
                print(found["seconds"], found["boxes"])
        ```
    """
    predictor = Predictor(detector, nms_settings(detector, settings))
    for frame, found in predict_each(predictor, frames, lambda frame: frame.image, batch_size=batch_size):
        where = {"image": frame.video.source, "frame": frame.number, "seconds": frame.seconds}
        yield frame, {**where, **as_lists(found)}
