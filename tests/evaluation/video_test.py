"""Videos and cameras: what is read, when it is shown, and that frames are predicted as images are."""

import contextlib
import os
import struct
import sys
import tempfile
from pathlib import Path
from unittest import mock

import numpy as np
import tensorflow as tf
from absl.testing import parameterized
from PIL import Image

from kyolo.errors import InputError
from kyolo.evaluation import Video, find_videos, is_camera, is_video, predict_frames, predict_paths
from tests.export.lively import TinyDetector
from tests.videos import FakeCamera, write_video

# The 3 x 3 matrices of an MP4's track header, as 16.16 fixed-point numbers (the last column as 2.30): upright, and
# turned by a quarter clockwise.
UPRIGHT = struct.pack(">9i", 1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30)
QUARTER_TURN = struct.pack(">9i", 0, 1 << 16, 0, -(1 << 16), 0, 0, 0, 0, 1 << 30)


class VideoTestCase(tf.test.TestCase, parameterized.TestCase):
    def setUp(self):
        super().setUp()
        self.folder = Path(self.enterContext(tempfile.TemporaryDirectory()))

    def read(self, source, limit=None):
        with Video(str(source)) as video:
            return list(video.frames(limit))

    def assert_no_video(self, path):
        with self.assertRaisesRegex(InputError, f"{path.name}.*expected.*received"):
            Video(str(path))


class VideoTest(VideoTestCase):
    @parameterized.parameters(("clip.mp4", "mp4v"), ("clip.mov", "mp4v"), ("clip.mkv", "mp4v"), ("clip.avi", "MJPG"))
    def test_frames_sizes_and_times(self, name, codec):
        path = write_video(self.folder / name, num_frames=7, frame_rate=10, codec=codec)
        with Video(str(path)) as video:
            self.assertAlmostEqual(video.frame_rate, 10)
            self.assertEqual(video.num_frames, 7)
            frames = list(video.frames())
            self.assertEqual(video.missing_seconds, 0)
        self.assertEqual([frame.number for frame in frames], list(range(7)))
        self.assertAllClose([frame.seconds for frame in frames], np.arange(7) / 10, atol=1e-3)
        self.assertEqual({frame.image.shape for frame in frames}, {(48, 64, 3)})

    def test_colours_are_rgb(self):
        frame = self.read(write_video(self.folder / "clip.mp4"))[0]
        self.assertAllClose(frame.image[4:12, 4:12].mean((0, 1)), [255, 0, 0], atol=12)  # the red square

    def test_limit(self):
        self.assertLen(self.read(write_video(self.folder / "clip.mp4", num_frames=7), limit=3), 3)

    def test_rotation_is_applied(self):
        # Turned clockwise by a quarter, the square in the upper left corner comes to the upper right one.
        path = write_video(self.folder / "clip.mp4")
        content = path.read_bytes()
        self.assertEqual(content.count(UPRIGHT), 2)  # of the movie, then of its track
        head, movie, rest = content.split(UPRIGHT)
        path.write_bytes(head + UPRIGHT + movie + QUARTER_TURN + rest)
        image = self.read(path)[0].image
        self.assertEqual(image.shape, (64, 48, 3))
        self.assertAllClose(image[4:12, -12:-4].mean((0, 1)), [255, 0, 0], atol=12)

    @parameterized.parameters(b"", b"hello, world" * 100)
    def test_no_video(self, content):
        path = self.folder / "clip.mp4"
        path.write_bytes(content)
        self.assert_no_video(path)

    def test_video_without_frames(self):
        self.assert_no_video(write_video(self.folder / "clip.mp4", num_frames=0))

    def test_missing_file_and_nothing_of_opencv_on_stderr(self):
        kept = os.dup(2)
        with tempfile.TemporaryFile() as log:
            os.dup2(log.fileno(), 2)
            try:
                self.assert_no_video(self.folder / "clip.mp4")
            finally:
                os.dup2(kept, 2)
                os.close(kept)
            log.seek(0)
            self.assertEqual(log.read(), b"")

    def test_cut_off_before_its_index(self):
        path = write_video(self.folder / "clip.mp4")  # whose index comes last
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        self.assert_no_video(path)

    def test_cut_off_after_its_index(self):
        path = write_video(self.folder / "clip.mkv", num_frames=40, frame_rate=10)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        with Video(str(path)) as video:
            frames = list(video.frames())
        self.assertBetween(len(frames), 5, 35)
        self.assertAllClose(video.missing_seconds, (40 - len(frames)) / 10, atol=1e-3)

    def test_camera(self):
        clock = mock.patch("time.monotonic", side_effect=[100.0, 100.0, 100.5, 100.75])
        camera = FakeCamera(num_frames=3, frame_rate=0.0)
        with clock, camera.patch() as opened, Video("camera:1") as video:
            frames = list(video.frames())
        opened.assert_called_once_with(1)
        self.assertTrue(camera.released)
        self.assertEqual((video.frame_rate, video.num_frames), (30, None))  # It tells no rate.
        self.assertEqual([frame.seconds for frame in frames], [0.0, 0.5, 0.75])
        self.assertAllEqual(frames[0].image[0, 0], [255, 0, 0])

    def test_camera_that_is_not_there(self):
        with FakeCamera(num_frames=0).patch(), self.assertRaisesRegex(InputError, "camera:0: expected a camera"):
            Video("camera:0")

    def test_without_opencv(self):
        with (
            mock.patch.dict(sys.modules, {"cv2": None}),
            self.assertRaisesRegex(InputError, r'pip install "kyolo-tf\[video\]"'),
        ):
            Video("camera:0")


SETTINGS = {"confidence": 0.5, "batch_size": 3}


class PredictFramesTest(VideoTestCase):
    def predict(self, detector, path):
        with Video(str(path)) as video:
            yield from predict_frames(detector, video.frames(), **SETTINGS)

    def test_equals_predicting_the_frames_as_images(self):
        path = write_video(self.folder / "clip.mp4", num_frames=7)
        detector = TinyDetector()
        predictions = list(self.predict(detector, path))
        images = [self.folder / f"{frame.number}.png" for frame, _ in predictions]
        for image, (frame, _) in zip(images, predictions, strict=True):
            Image.fromarray(frame.image).save(image)
        expected = list(predict_paths(detector, images, **SETTINGS))
        self.assertGreater(sum(len(found["boxes"]) for found in expected), 5)
        for (frame, found), one in zip(predictions, expected, strict=True):
            self.assertEqual(list(found), ["image", "frame", "seconds", "boxes", "scores", "labels", "names"])
            place = {"image": str(path), "frame": frame.number, "seconds": frame.seconds}
            self.assertEqual(found, {**one, **place})

    def test_one_batch_in_memory(self):
        taken = 0

        def count(frames):
            nonlocal taken
            for frame in frames:
                taken += 1
                yield frame

        with Video(str(write_video(self.folder / "clip.mp4", num_frames=12))) as video:
            predictions = predict_frames(TinyDetector(), count(video.frames()), **SETTINGS)
            with contextlib.closing(predictions):
                for number, _ in enumerate(predictions, start=1):
                    self.assertLessEqual(taken, number + 2)  # batches of 3


class FindVideosTest(VideoTestCase):
    def test_find_videos(self):
        paths = [self.folder / name for name in ("a.mp4", "b.MOV", "c.txt")]
        for path in paths:
            path.touch()
        a, b, _ = map(str, paths)
        self.assertEqual(find_videos([b, "camera:0", self.folder / "*", "camera:0"]), [b, "camera:0", a])
        self.assertEqual(find_videos([self.folder]), [a, b])
        for missing in (self.folder / "no.mp4", str(self.folder / "*.avi")):
            with self.assertRaisesRegex(InputError, "videos"):
                find_videos([missing])

    @parameterized.parameters(
        ("camera:0", True, True), ("camera:12", True, True), ("camera:x", False, False), ("scans/*.mp4", False, True),
        ("a.MP4", False, True), ("a.jpg", False, False), ("mp4", False, False),
    )  # fmt: skip
    def test_kinds(self, path, camera, video):
        self.assertEqual((is_camera(path), is_video(path)), (camera, video))


if __name__ == "__main__":
    tf.test.main()
