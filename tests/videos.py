"""Videos for tests: a small one in a file, and a stand-in for a camera."""

from unittest import mock

import cv2
import numpy as np

SIZE = (48, 64)  # height, width


def pictures(count):
    """BGR pictures with a red square in the upper left corner, on a ground that grows lighter."""
    for i in range(count):
        picture = np.full((*SIZE, 3), 40 + 3 * i % 200, np.uint8)
        picture[:16, :16] = (0, 0, 255)
        yield picture


def write_video(path, num_frames=10, frame_rate=10.0, codec="mp4v"):
    """Write a video and return its path."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*codec), frame_rate, SIZE[::-1])
    for picture in pictures(num_frames):
        writer.write(picture)
    writer.release()
    return path


class FakeCamera:
    """Behaves as a cv2.VideoCapture of a camera does.

    Args:
        num_frames: after these, the camera is gone.
        frame_rate: what it says.
        before_frame: called with a frame's number before it is delivered.
    """

    def __init__(self, num_frames, frame_rate=10.0, before_frame=None):
        self.frame_rate = frame_rate
        self.before_frame = before_frame
        self.released = False
        self._pictures = enumerate(pictures(num_frames))

    def patch(self):
        """Let OpenCV open this camera instead of a device; files are opened as ever."""
        capture = cv2.VideoCapture
        return mock.patch.object(
            cv2, "VideoCapture", side_effect=lambda source, *rest: capture(source, *rest) if rest else self
        )

    def read(self):
        number, picture = next(self._pictures, (None, None))
        if picture is None:
            return False, None
        if self.before_frame is not None:
            self.before_frame(number)
        return True, picture

    def get(self, name):
        return self.frame_rate if name == cv2.CAP_PROP_FPS else -1.0

    def release(self):
        self.released = True
