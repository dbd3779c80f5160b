"""Videos that are written: sizes, repetition, and a disk that is full."""

import numpy as np
from absl.testing import absltest, parameterized

from kyolo.evaluation import Video
from kyolo.report import VideoWriter
from tests.test_case import TestCase


def greys(*values, size=(48, 64)):
    return [np.full((*size, 3), value, np.uint8) for value in values]


class VideoWriterTest(TestCase):
    def write(self, pictures, times=None, frame_rate=10):
        """Write pictures; return the grey values and sizes of the video's."""
        path = self.folder / "video.mp4"
        with VideoWriter(path, frame_rate) as writer:
            for i, picture in enumerate(pictures):
                writer.write(picture, times and times[i])
        with Video(str(path)) as video:
            self.assertAlmostEqual(video.frame_rate, frame_rate, places=2)
            images = [frame.image for frame in video.frames()]
        return [round(float(image.mean()) / 10) * 10 for image in images], {image.shape for image in images}

    @parameterized.parameters(10, 29.97, 60)
    def test_one_frame_a_picture(self, frame_rate):
        self.assertEqual(self.write(greys(50, 100, 150), None, frame_rate), ([50, 100, 150], {(48, 64, 3)}))

    def test_times(self):
        # At 10 frames a second: 0.25 s is in frame 2, which is the third; 0.29 s too, so that this one is left out.
        values, _ = self.write(greys(50, 100, 150, 200), [0.0, 0.25, 0.29, 0.4])
        self.assertEqual(values, [50, 100, 100, 200, 200])

    def test_odd_size_loses_a_row_and_a_column(self):
        self.assertEqual(self.write(greys(50, 100, size=(47, 65))), ([50, 100], {(46, 64, 3)}))

    def test_picture_of_another_size_is_stretched(self):
        pictures = [*greys(50), *greys(100, size=(24, 24))]
        self.assertEqual(self.write(pictures), ([50, 100], {(48, 64, 3)}))

    def test_file_that_is_not_complete(self):
        path = self.folder / "video.mp4"
        with self.assertRaisesRegex(OSError, "video.mp4.*disk full"), VideoWriter(path, 10) as writer:
            writer.write(*greys(50))
            writer._writer.release()
            path.write_bytes(path.read_bytes()[:100])

    def test_folder_that_is_missing(self):
        with self.assertRaisesRegex(OSError, "64 x 48"), VideoWriter(self.folder / "no" / "video.mp4", 10) as writer:
            writer.write(*greys(50))

    def test_error_within_is_not_hidden(self):
        with self.assertRaises(KeyError), VideoWriter(self.folder / "video.mp4", 10) as writer:
            writer.write(*greys(50))
            raise KeyError("x")


if __name__ == "__main__":
    absltest.main()
