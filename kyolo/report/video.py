"""Pictures as a video."""

import os
from pathlib import Path

import numpy as np

from kyolo.evaluation.video import import_opencv

CODEC = "mp4v"  # MPEG-4 part 2: in every build of OpenCV, unlike H.264, and many times faster than VP9


class VideoWriter:
    """Writes pictures to an .mp4 file (MPEG-4 part 2, without sound), which is complete when the `with` block ends.

    The video has the size of the first picture; where that is odd, the encoder leaves out the last column or row.

    Args:
        path: the file.
        frame_rate: pictures in a second.

    Raises:
        OSError: the video cannot be written.

    Example:
        >>> with VideoWriter("drawn.mp4", frame_rate=25) as writer:
        ...     writer.write(image)
        >>> writer.num_frames
        1
    """

    def __init__(self, path: str | os.PathLike, frame_rate: float):
        self._cv2 = import_opencv()
        self.path = Path(path)
        self.frame_rate = frame_rate
        self.num_frames = 0
        self._writer = None
        self._size = (0, 0)  # width, height

    def write(self, picture: np.ndarray, seconds: float | None = None) -> None:
        """Add a picture.

        Args:
            picture: (H, W, 3) uint8, RGB; one of another size than the first is stretched to that.
            seconds: when it was taken, so that what comes at uneven times, as from a camera, plays at the speed of
                life: it is repeated for the time since the one before, or left out where that was none. By default it
                is written once.
        """
        if self._writer is None:
            self._open(picture.shape[1], picture.shape[0])
        frame = self._cv2.cvtColor(picture, self._cv2.COLOR_RGB2BGR)
        if frame.shape[1::-1] != self._size:
            frame = self._cv2.resize(frame, self._size)  # OpenCV drops frames of another size silently.
        copies = 1 if seconds is None else int(seconds * self.frame_rate) + 1 - self.num_frames
        for _ in range(copies):
            self._writer.write(frame)
            self.num_frames += 1

    def __enter__(self) -> "VideoWriter":
        return self

    def __exit__(self, kind: type | None, *exception: object) -> None:
        if self._writer is None:
            return
        self._writer.release()
        if kind is None and not self._cv2.VideoCapture(str(self.path), self._cv2.CAP_FFMPEG).isOpened():
            # OpenCV does not tell that the disk is full: a file without its index, which comes last, does.
            raise OSError(f"{self.path}: expected a finished video, received one that does not open; is the disk full?")

    def _open(self, width: int, height: int) -> None:
        fourcc = self._cv2.VideoWriter.fourcc(*CODEC)
        self._size = (width, height)
        self._writer = self._cv2.VideoWriter(str(self.path), self._cv2.CAP_FFMPEG, fourcc, self.frame_rate, self._size)
        if not self._writer.isOpened():
            raise OSError(f"{self.path}: OpenCV cannot write a video of {width} x {height} pixels there")
