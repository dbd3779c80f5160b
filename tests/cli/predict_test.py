"""`kyolo predict`: documents, pictures, videos, and what bad input leaves behind."""

import itertools
import json
import os
import signal
import sys
from unittest import mock

import cv2
import numpy as np
from absl.testing import absltest, parameterized
from PIL import Image

from kyolo.data.shapes import CLASS_NAMES
from kyolo.evaluation import Video
from tests.cli.run_case import RunTestCase
from tests.videos import SIZE, FakeCamera, write_video


class PredictTestCase(RunTestCase):
    weak = ("--set", "evaluation.confidence=1.0e-6", "--set", "evaluation.max_detections=3")

    def predict(self, *arguments):
        return self.run_kyolo("predict", "--run", self.folder / "run", *arguments)

    def assert_bad_paths(self, arguments, *parts):
        """Bad input leaves nothing but what was there."""
        before = sorted(self.folder.iterdir())
        self.assert_bad_input(
            ["predict", "--run", self.folder / "run", *arguments, "--output", self.folder / "out"], *parts
        )
        self.assertEqual(sorted(self.folder.iterdir()), before)


class PredictImagesTest(PredictTestCase):
    def test_json_lines_pictures_and_file(self):
        output = self.folder / "out" / "pictures"
        code, stdout, stderr = self.predict(self.shapes / "val", "--output", output, "--json", *self.weak)
        self.assertEqual(code, 0, stderr)
        documents = [json.loads(line) for line in stdout.splitlines()]
        self.assertEqual([d["image"] for d in documents], sorted(str(path) for path in (self.shapes / "val").iterdir()))
        for document in documents:
            self.assertEqual(list(document), ["image", "boxes", "scores", "labels", "names"])
            self.assertBetween(len(document["boxes"]), 1, 3)
            self.assertEqual(np.shape(document["boxes"]), (len(document["labels"]), 4))
            self.assertEqual(document["names"], [CLASS_NAMES[label] for label in document["labels"]])
        self.assertEqual((output / "predictions.jsonl").read_text(), stdout)
        self.assertCountEqual(
            [path.name for path in output.iterdir()], ["000000.jpg", "000001.jpg", "000002.jpg", "predictions.jsonl"]
        )
        with Image.open(output / "000000.jpg") as picture:
            self.assertEqual(picture.size, (64, 64))
        self.assertEqual([path.name for path in output.parent.iterdir()], ["pictures"])

    def test_defaults_show_sure_detections_only(self):
        code, stdout, _ = self.predict(f"{self.shapes}/val/*1.jpg")
        self.assertEqual((code, stdout), (0, f"{self.shapes}/val/000001.jpg: nothing\n"))

    def spoil(self, *numbers):
        """Add files that are no images to the folder; return their paths."""
        bad = [self.shapes / "val" / f"{number}.jpg" for number in numbers]
        for number, path in enumerate(bad):
            path.write_bytes([b"no image", (self.shapes / "val" / "000000.jpg").read_bytes()[:300]][number % 2])
        return bad

    @parameterized.parameters(([0],), ([0, 1],), ([0, 5, 9],))
    def test_goes_on_past_images_that_are_none(self, numbers):
        bad = self.spoil(*numbers)
        output = self.folder / "pictures"
        code, stdout, stderr = self.predict(self.shapes / "val", "--output", output, "--json", *self.weak)
        self.assertEqual(code, 1)
        images = [json.loads(line)["image"] for line in stdout.splitlines()]
        self.assertEqual(images, [str(self.shapes / "val" / f"00000{number}.jpg") for number in range(3)])
        self.assertEqual((output / "predictions.jsonl").read_text(), stdout)
        self.assertLen(list(output.iterdir()), 3 + 1)
        count = "1 image" if len(bad) == 1 else f"{len(bad)} images"
        line = stderr.splitlines()[-1]
        self.assertStartsWith(line, f"kyolo: error: {count} could not be read: ")
        for path in bad:
            self.assertIn(str(path), line)

    def test_strict_stops_at_an_image_that_is_none_and_leaves_nothing_behind(self):
        [bad] = self.spoil(5)
        code, _, stderr = self.predict(self.shapes / "val", "--output", self.folder / "pictures", "--strict")
        self.assertEqual(code, 2)
        self.assertRegex(stderr, rf"^kyolo: error: [^\n]*{bad.name}[^\n]*\n$")
        self.assertEqual(sorted(path.name for path in self.folder.iterdir()), ["run", "shapes"])

    def test_without_any_image_that_can_be_read_nothing_is_written(self):
        self.assert_bad_paths(self.spoil(0, 1), "0.jpg")

    def test_subfolders_are_not_searched(self):
        nested = self.folder / "nested[1]"
        (nested / "day1" / "morning").mkdir(parents=True)
        (self.shapes / "val" / "000000.jpg").rename(nested / "day1" / "morning" / "a.jpg")
        pattern = f"{self.folder}/nested[[]1]/**/*.jpg"
        self.assert_bad_paths([nested], f"{nested}: expected images, got subfolders", f'Pass "{pattern}" (with')
        code, stdout, _ = self.predict(pattern)
        self.assertEqual((code, stdout), (0, f"{nested}/day1/morning/a.jpg: nothing\n"))
        (self.shapes / "val" / "000001.jpg").rename(nested / "day1" / "morning" / "b.PNG")
        self.assert_bad_paths([nested], f'Pass "{self.folder}/nested[[]1]/**/*" (with')

    def test_subfolders_beside_images_are_told(self):
        (self.shapes / "val" / "more").mkdir()
        (self.shapes / "val" / "000000.jpg").rename(self.shapes / "val" / "more" / "000000.jpg")
        code, stdout, stderr = self.predict(self.shapes / "val")
        self.assertEqual((code, len(stdout.splitlines())), (0, 2))
        self.assertRegex(stderr, rf'^{self.shapes}/val/more: not searched, .* pass "{self.shapes}/val/\*\*/\*"')

    def test_output_in_use_is_left_alone(self):
        output = self.folder / "pictures"
        output.mkdir()
        (output / "mine.txt").write_text("mine")
        self.assert_bad_input(
            ["predict", "--run", self.folder / "run", self.shapes / "val", "--output", output],
            output,
            "expected a path that is new",
        )
        self.assertEqual([path.name for path in output.iterdir()], ["mine.txt"])

    def test_empty_output_folder_is_taken(self):
        output = self.folder / "pictures"
        output.mkdir()
        self.assertEqual(self.predict(self.shapes / "val", "--output", output)[0], 0)
        self.assertLen(list(output.iterdir()), 4)

    def test_two_images_of_one_name_keep_their_folders(self):
        paths = [self.shapes / "val" / "000000.jpg", self.shapes / "train" / "000000.jpg", self.shapes / "top.jpg"]
        (self.shapes / "val" / "000001.jpg").rename(paths[2])
        code, _, stderr = self.predict(*paths, "--output", self.folder / "out")
        self.assertEqual(code, 0, stderr)
        written = sorted(str(path.relative_to(self.folder / "out")) for path in (self.folder / "out").rglob("*.*"))
        self.assertEqual(written, ["predictions.jsonl", "top.jpg", "train/000000.jpg", "val/000000.jpg"])

    def test_two_images_of_one_folder_that_give_one_name(self):
        paths = [self.shapes / "val" / name for name in ("a.bmp", "a.webp")]
        for path in paths:
            Image.new("RGB", (64, 64)).save(path)
        self.assert_bad_paths(paths, "different names", *paths, "a.png", "Rename one")

    def test_missing_path_is_named(self):
        self.assert_bad_input(["predict", "--run", self.folder / "run", self.folder / "no.jpg"], "no.jpg")

    def test_settings_of_the_training_are_refused(self):
        self.assert_bad_input(
            ["predict", "--run", self.folder / "run", self.shapes / "val", "--set", "train.epochs=3"], "train.epochs"
        )

    def test_frames_are_of_videos(self):
        self.assert_bad_paths([self.shapes / "val", "--frames", "3"], "--frames", "images")


class PredictVideosTest(PredictTestCase):
    def read(self, path):
        with Video(str(path)) as video:
            return video.frame_rate, [frame.image for frame in video.frames()]

    def test_json_lines_video_and_file(self):
        video = write_video(self.folder / "street.mov", num_frames=5, frame_rate=8)
        output = self.folder / "out"
        code, stdout, stderr = self.predict(video, "--output", output, "--json", *self.weak)
        self.assertEqual(code, 0, stderr)
        documents = [json.loads(line) for line in stdout.splitlines()]
        self.assertEqual([document["frame"] for document in documents], list(range(5)))
        np.testing.assert_allclose([document["seconds"] for document in documents], np.arange(5) / 8)
        for document in documents:
            self.assertEqual(list(document), ["image", "frame", "seconds", "boxes", "scores", "labels", "names"])
            self.assertEqual(document["image"], str(video))
            self.assertBetween(len(document["boxes"]), 1, 3)
        self.assertEqual((output / "predictions.jsonl").read_text(), stdout)
        self.assertCountEqual([path.name for path in output.iterdir()], ["street.mp4", "predictions.jsonl"])
        frame_rate, images = self.read(output / "street.mp4")
        self.assertAlmostEqual(frame_rate, 8)
        self.assertEqual([image.shape for image in images], 5 * [(*SIZE, 3)])

    def test_red_stays_red(self):
        video = write_video(self.folder / "street.mp4", num_frames=2)
        self.assertEqual(self.predict(video, "--output", self.folder / "out")[0], 0)  # Nothing is drawn in.
        _, images = self.read(self.folder / "out" / "street.mp4")
        np.testing.assert_allclose(images[0][4:12, 4:12].mean((0, 1)), [255, 0, 0], atol=12)

    def test_several_videos_of_several_sizes(self):
        a = write_video(self.folder / "a.mp4", num_frames=3)
        b = self.folder / "b.avi"
        writer = cv2.VideoWriter(str(b), cv2.VideoWriter.fourcc(*"MJPG"), 25, (80, 60))
        for _ in range(4):
            writer.write(np.zeros((60, 80, 3), np.uint8))
        writer.release()
        code, stdout, stderr = self.predict(a, b, "--output", self.folder / "out", "--frames", "2")
        self.assertEqual(code, 0, stderr)
        lines = [f"{a} 0.00 s: nothing", f"{a} 0.10 s: nothing", f"{b} 0.00 s: nothing", f"{b} 0.04 s: nothing"]
        self.assertEqual(stdout.splitlines(), [*lines, f"videos and predictions.jsonl: {self.folder / 'out'}"])
        for name, shape in (("a", (48, 64, 3)), ("b", (60, 80, 3))):
            images = self.read(self.folder / "out" / f"{name}.mp4")[1]
            self.assertEqual([image.shape for image in images], 2 * [shape])

    def test_no_video(self):
        video = self.folder / "street.mp4"
        video.write_text("no video")
        self.assert_bad_paths([write_video(self.folder / "good.mp4"), video], video, "expected a video")

    def test_video_that_is_cut_off_is_told(self):
        video = write_video(self.folder / "street.mkv", num_frames=40, frame_rate=10)
        video.write_bytes(video.read_bytes()[: video.stat().st_size // 2])
        code, stdout, stderr = self.predict(video)
        self.assertEqual(code, 0)
        self.assertBetween(len(stdout.splitlines()), 5, 35)
        self.assertRegex(stderr, r"^[^\n]*street.mkv: ends \d\.\d s before its header says[^\n]*\n$")

    def test_failure_in_the_middle_leaves_nothing_behind(self):
        video = write_video(self.folder / "street.mp4")
        with mock.patch.object(Video, "_position", side_effect=[0.0, 0.1, OSError("disk failure")]):
            code, stdout, stderr = self.predict(
                video, "--output", self.folder / "out", "--set", "evaluation.batch_size=1"
            )
        self.assertEqual((code, stderr), (2, "kyolo: error: disk failure\n"))
        self.assertLen(stdout.splitlines(), 2)  # printed as they came
        self.assertEqual(sorted(path.name for path in self.folder.iterdir()), ["run", "shapes", "street.mp4"])

    def test_images_and_videos_are_refused(self):
        video = write_video(self.folder / "street.mp4")
        self.assert_bad_paths([self.shapes / "val", video], "images or videos", self.shapes / "val", video)

    def test_two_videos_of_one_name_are_refused(self):
        videos = [write_video(self.folder / "street.mp4"), write_video(self.folder / "street.mov")]
        self.assert_bad_paths(videos, "different names", "street.mp4")

    def test_without_opencv(self):
        with mock.patch.dict(sys.modules, {"cv2": None}):
            self.assert_bad_paths(["camera:0"], 'pip install "kyolo-tf[video]"')
            self.assertEqual(self.predict(self.shapes / "val")[0], 0)

    @parameterized.parameters("0", "-1")
    def test_frames_out_of_range(self, frames):
        self.assert_bad_paths(["camera:0", "--frames", frames], "--frames", "1 or more", frames)


class PredictCameraTest(PredictTestCase):
    def test_number_of_frames_at_the_speed_of_life(self):
        # The camera says 10 frames a second, but gives one each 0.25 s: at 0, 0.25, 0.5 and 0.75 s, which are the
        # frames 0, 2, 5 and 7 of the video that is written, 8 in all.
        camera = FakeCamera(num_frames=100, frame_rate=10.0)
        clock = mock.patch(
            "kyolo.evaluation.video.time.monotonic", side_effect=itertools.chain([5], itertools.count(5, 0.25))
        )
        with camera.patch(), clock:
            code, stdout, stderr = self.predict("camera:0", "--frames", "4", "--output", self.folder / "out", "--json")
        self.assertEqual(code, 0, stderr)
        documents = [json.loads(line) for line in stdout.splitlines()]
        self.assertEqual([document["image"] for document in documents], 4 * ["camera:0"])
        self.assertEqual([document["seconds"] for document in documents], [0.0, 0.25, 0.5, 0.75])
        with Video(str(self.folder / "out" / "camera_0.mp4")) as video:
            self.assertEqual((video.frame_rate, len(list(video.frames()))), (10.0, 8))
        self.assertTrue(camera.released)

    def test_ctrl_c_keeps_what_was_recorded(self):
        def press(number):
            if number == 2:
                os.kill(os.getpid(), signal.SIGINT)

        camera = FakeCamera(num_frames=100, before_frame=press)
        handler = signal.getsignal(signal.SIGINT)
        with camera.patch():
            code, stdout, stderr = self.predict("camera:0", "--output", self.folder / "out")
        self.assertEqual((code, stderr), (130, "kyolo: interrupted\n"))
        self.assertLen(stdout.splitlines(), 3 + 1)
        self.assertLen((self.folder / "out" / "predictions.jsonl").read_text().splitlines(), 3)
        with Video(str(self.folder / "out" / "camera_0.mp4")) as video:
            self.assertNotEmpty(list(video.frames()))
        self.assertTrue(camera.released)
        self.assertIs(signal.getsignal(signal.SIGINT), handler)

    def test_no_camera(self):
        with FakeCamera(num_frames=0).patch():
            self.assert_bad_paths(["camera:3"], "camera:3", "expected a camera")


if __name__ == "__main__":
    absltest.main()
