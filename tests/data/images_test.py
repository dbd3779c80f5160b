import os
import pathlib
from unittest import mock

import numpy as np
import tensorflow as tf
from absl.testing import parameterized
from PIL import Image

from kyolo.data import ImageStore, read_image
from kyolo.errors import InputError


class ReadImageTest(tf.test.TestCase, parameterized.TestCase):
    def setUp(self):
        super().setUp()
        self.folder = pathlib.Path(self.get_temp_dir())

    @parameterized.parameters("png", "bmp", "gif")
    def test_lossless_formats(self, suffix):
        pixels = np.zeros((6, 9, 3), np.uint8)
        pixels[2:4, 1:5] = (255, 0, 51)
        Image.fromarray(pixels).save(self.folder / f"a.{suffix}")
        self.assertAllEqual(read_image(self.folder / f"a.{suffix}"), pixels)

    def test_one_channel_is_repeated(self):
        pixels = np.arange(24, dtype=np.uint8).reshape(4, 6)
        Image.fromarray(pixels).save(self.folder / "a.png")
        self.assertAllEqual(read_image(self.folder / "a.png"), np.repeat(pixels[..., None], 3, axis=-1))

    def test_jpeg_of_one_colour(self):
        Image.new("RGB", (32, 16), (200, 100, 50)).save(self.folder / "a.jpg", quality=95)
        self.assertAllClose(read_image(self.folder / "a.jpg"), np.full((16, 32, 3), (200, 100, 50)), atol=3)

    def test_what_is_no_image(self):
        Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)).save(self.folder / "a.jpg")
        whole = (self.folder / "a.jpg").read_bytes()
        for name, content in (("empty", b""), ("text", b"text"), ("cut", whole[:1500]), ("header", whole[:20])):
            (self.folder / name).write_bytes(content)
            with self.assertRaisesRegex(InputError, name) as caught:
                read_image(self.folder / name)
            self.assertNotIn("\n", str(caught.exception))
        for path in (self.folder, self.folder / "missing.jpg"):
            with self.assertRaisesRegex(InputError, path.name):
                read_image(path)


class ImageStoreTest(tf.test.TestCase, parameterized.TestCase):
    def setUp(self):
        super().setUp()
        self.folder = pathlib.Path(self.get_temp_dir())
        self.enter_context(mock.patch.dict(os.environ, XDG_CACHE_HOME=str(self.folder / "cache")))
        self.path = str(self.folder / "a.png")
        Image.new("RGB", (40, 20), (10, 20, 30)).save(self.path)

    @parameterized.product(cache=("memory", "disk", None), fit=("letterbox", "stretch"))
    def test_gives_the_fitted_image(self, cache, fit):
        store = ImageStore((16, 16), fit=fit, cache=cache)
        shape = (8, 16, 3) if fit == "letterbox" else (16, 16, 3)
        for _ in range(2):
            self.assertAllEqual(store.get(self.path), np.full(shape, (10, 20, 30)))
        self.assertEqual(store.get(self.path).dtype, np.uint8)

    def test_disk_outlives_the_store_and_sees_changes(self):
        ImageStore((16, 16), cache="disk").get(self.path)
        (kept,) = (self.folder / "cache").rglob("*.npy")
        np.save(kept, np.full((8, 16, 3), 77, np.uint8))  # Tells whether it is read.
        self.assertAllEqual(ImageStore((16, 16), cache="disk").get(self.path)[0, 0], [77, 77, 77])
        self.assertAllEqual(ImageStore((16, 32), cache="disk").get(self.path)[0, 0], [10, 20, 30])
        Image.new("RGB", (40, 20), (1, 2, 3)).save(self.path)
        os.utime(self.path, ns=(0, 0))
        self.assertAllEqual(ImageStore((16, 16), cache="disk").get(self.path)[0, 0], [1, 2, 3])
        self.assertEmpty(list((self.folder / "cache").rglob("*.tmp")))

    def test_damaged_cache_file_is_replaced(self):
        store = ImageStore((16, 16), cache="disk")
        store.get(self.path)
        (kept,) = (self.folder / "cache").rglob("*.npy")
        for content in (b"", b"damaged", kept.read_bytes()[:100]):
            kept.write_bytes(content)
            self.assertAllEqual(store.get(self.path)[0, 0], [10, 20, 30])
            self.assertAllEqual(np.load(kept)[0, 0], [10, 20, 30])

    def test_unknown_cache(self):
        with self.assertRaisesRegex(ValueError, "ram"):
            ImageStore((16, 16), cache="ram")


if __name__ == "__main__":
    tf.test.main()
