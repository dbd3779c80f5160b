import os
import pathlib
import struct
import zlib
from unittest import mock

import numpy as np
import tensorflow as tf
from absl.testing import parameterized
from PIL import Image

from kyolo.data import ImageStore, read_image
from kyolo.data.images import read_image_size
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

    def test_sixteen_bits_are_scaled_not_clipped(self):
        # The upper byte: 0x1234 >> 8 = 0x12.
        Image.fromarray(np.array([[0, 0x1234, 0x80FF, 0xFFFF]], np.uint16)).save(self.folder / "a.png")
        self.assertAllEqual(read_image(self.folder / "a.png")[0, :, 0], [0, 0x12, 0x80, 0xFF])

    @parameterized.parameters("P", "RGBA", "LA", "1", "CMYK")
    def test_other_modes_become_rgb(self, mode):
        pixels = np.zeros((8, 16, 3), np.uint8)
        pixels[:, 8:] = 255  # Black and white: every mode can hold them.
        suffix = "jpg" if mode == "CMYK" else "png"
        Image.fromarray(pixels).convert(mode).save(self.folder / f"a.{suffix}")
        self.assertAllClose(read_image(self.folder / f"a.{suffix}"), pixels, atol=2)

    def test_webp(self):
        pixels = np.random.default_rng(0).integers(0, 255, (6, 9, 3), np.uint8)
        Image.fromarray(pixels).save(self.folder / "a.webp", lossless=True)
        self.assertAllEqual(read_image(self.folder / "a.webp"), pixels)

    @parameterized.parameters(*range(1, 9))
    def test_exif_orientation_is_applied(self, orientation):
        """What the EXIF standard says of the stored row 0 and column 0, for a picture with a red corner top left."""
        upright = np.zeros((4, 6, 3), np.uint8)
        upright[0, 0] = 255
        stored = {
            1: upright, 2: upright[:, ::-1], 3: upright[::-1, ::-1], 4: upright[::-1],
            5: upright.swapaxes(0, 1), 6: upright.swapaxes(0, 1)[::-1], 7: upright.swapaxes(0, 1)[::-1, ::-1],
            8: upright.swapaxes(0, 1)[:, ::-1],
        }[orientation]  # fmt: skip
        exif = Image.Exif()
        exif[0x0112] = orientation
        Image.fromarray(np.ascontiguousarray(stored)).save(self.folder / "a.png", exif=exif)
        self.assertAllEqual(read_image(self.folder / "a.png"), upright)
        self.assertEqual(read_image_size(self.folder / "a.png"), (4, 6))

    @parameterized.parameters("jpg", "png", "webp")
    def test_damaged_exif_is_no_damage_to_the_picture(self, suffix):
        pixels = np.full((4, 6, 3), 77, np.uint8)
        for exif in (b"Exif\x00\x00garbage", b"Exif\x00\x00MM\x00*\x00\x00"):
            Image.fromarray(pixels).save(self.folder / f"a.{suffix}", exif=exif)
            self.assertAllClose(read_image(self.folder / f"a.{suffix}"), pixels, atol=2)
            self.assertEqual(read_image_size(self.folder / f"a.{suffix}"), (4, 6))

    def test_bomb_is_refused(self):
        """A PNG of some 50 bytes that says it is 60000 x 60000."""
        head = struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)
        chunks = [(b"IHDR", head), (b"IDAT", zlib.compress(b"")), (b"IEND", b"")]
        content = b"".join(
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
            for name, data in chunks
        )
        (self.folder / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + content)
        for read in (read_image, read_image_size):
            with self.assertRaisesRegex(InputError, "179 million"):
                read(self.folder / "a.png")

    def test_other_formats_of_pillow_are_refused(self):
        Image.new("RGB", (4, 4)).save(self.folder / "a.eps")  # Pillow starts Ghostscript for it.
        with self.assertRaisesRegex(InputError, "a.eps"):
            read_image(self.folder / "a.eps")

    def test_as_tensorflow_decodes_accurately(self):
        rng = np.random.default_rng(0)
        pixels = np.kron(rng.integers(0, 255, (8, 8, 3), np.uint8), np.ones((5, 6, 1), np.uint8))
        Image.fromarray(pixels).save(self.folder / "a.jpg", quality=80)
        content = (self.folder / "a.jpg").read_bytes()
        expected = tf.io.decode_jpeg(content, channels=3, dct_method="INTEGER_ACCURATE")
        self.assertAllEqual(read_image(self.folder / "a.jpg"), expected)

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
