import contextlib
import errno
import io
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
from kyolo.data.bit_depth import to_8_bits
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

    @parameterized.product(depth=(8, 10, 12, 14, 16), suffix=("png", "tif"), seed=(0, 1))
    def test_used_bits_are_scaled(self, depth, suffix, seed):
        """A camera's 12 bits: value v of 4095 is v // 16 of 255, in every file that holds 16 bits."""
        values = np.random.default_rng(seed).integers(0, 2**depth, (5, 7), np.uint16)
        values[0, 0] = 2**depth - 1
        Image.fromarray(values).save(self.folder / f"a.{suffix}")
        expected = np.repeat((values // 2 ** (depth - 8)).astype(np.uint8)[..., None], 3, axis=-1)
        self.assertAllEqual(read_image(self.folder / f"a.{suffix}"), expected)

    @parameterized.product(depth=(8, 10, 12, 14, 16), channels=(2, 3, 4))
    def test_used_bits_of_colours_are_scaled(self, depth, channels):
        values = np.random.default_rng(0).integers(0, 2**depth, (5, 7, channels), np.uint16)
        values[0, 0] = 2**depth - 1
        (self.folder / "a.png").write_bytes(tf.io.encode_png(values).numpy())
        colours = values[..., :3] if channels > 2 else np.repeat(values[..., :1], 3, axis=-1)
        self.assertAllEqual(read_image(self.folder / "a.png"), colours // 2 ** (depth - 8))

    @parameterized.parameters(
        (np.array([0, 16, 4095], np.int32), [0, 1, 255]),
        (np.array([-5, 0, 255], np.int32), [0, 0, 255]),
        (np.array([2**24 - 1, 2**16], np.int32), [255, 1]),  # 24 bits: value // 2^16
        (np.array([0.0, 0.5, 1.0], np.float32), [0, 127, 255]),
        (np.array([np.nan, -1.0, 255.0], np.float32), [0, 0, 255]),
        (np.array([0, 0], np.uint16), [0, 0]),
    )
    def test_other_types_of_numbers(self, values, expected):
        self.assertAllEqual(to_8_bits(values), expected)

    @parameterized.product(
        mode=("RGB", "L", "P", "RGBA", "CMYK", "1", "YCbCr"),
        compression=(None, "tiff_lzw", "tiff_adobe_deflate", "tiff_deflate", "packbits"),
    )
    def test_tiff(self, mode, compression):
        pixels = np.zeros((8, 16, 3), np.uint8)
        pixels[:, 8:] = 255  # Black and white: every mode can hold them.
        second = Image.new(mode, (3, 3))
        Image.fromarray(pixels).convert(mode).save(
            self.folder / "a.tif", compression=compression, save_all=True, append_images=[second]
        )
        self.assertAllClose(read_image(self.folder / "a.tif"), pixels, atol=2)
        self.assertEqual(read_image_size(self.folder / "a.tif"), (8, 16))

    @parameterized.parameters("jpeg", "group4")
    def test_tiff_with_another_decoder_is_refused(self, compression):
        mode = "1" if compression == "group4" else "RGB"
        Image.new(mode, (16, 16)).save(self.folder / "a.tif", compression=compression)
        for read in (read_image, read_image_size):
            with self.assertRaisesRegex(InputError, f"a.tif: expected a TIFF.*got {compression}. Convert it to PNG"):
                read(self.folder / "a.tif")

    @parameterized.product(
        read=(read_image, read_image_size), error=(MemoryError(), OSError(errno.ENOMEM, "no memory"))
    )
    def test_memory_that_runs_out_is_no_damage(self, read, error):
        Image.new("RGB", (4, 4)).save(self.folder / "a.png")
        with mock.patch.object(Image, "open", side_effect=error), self.assertRaises(MemoryError):
            read(self.folder / "a.png")

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

    @parameterized.product(
        orientation=tuple(range(1, 9)), suffix=("png", "tif"), depth=(8, 16), compression=(None, "tiff_lzw")
    )
    def test_exif_orientation_is_applied(self, orientation, suffix, depth, compression):
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
        pixels = stored if depth == 8 else stored[..., 0].astype(np.uint16) << 8
        options = {"compression": compression} if suffix == "tif" else {}
        Image.fromarray(np.ascontiguousarray(pixels)).save(self.folder / f"a.{suffix}", exif=exif, **options)
        self.assertAllEqual(read_image(self.folder / f"a.{suffix}"), upright)
        self.assertEqual(read_image_size(self.folder / f"a.{suffix}"), (4, 6))

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

    def make(self, *, free, cache="auto", count=4, **options):
        """A store and the sizes of `count` images that take 8 x 16 x 3 = 384 bytes each, fitted to 16 x 16."""
        store = ImageStore((16, 16), cache=cache, free_memory=lambda: free, **options)
        return store, {f"{self.folder}/{number}.png": (20, 40) for number in range(count)}

    @parameterized.parameters((None, "memory"), (2 * 4 * 384, "memory"), (2 * 4 * 384 - 1, "disk"))
    def test_auto_keeps_in_memory_what_half_of_the_free_memory_holds(self, free, expected):
        store, sizes = self.make(free=free)
        with contextlib.redirect_stderr(io.StringIO()) as errors:
            store.plan(sizes)
            store.plan(sizes)  # Said once.
        self.assertEqual(store.kept_in, expected)
        self.assertLen(errors.getvalue().splitlines(), expected == "disk")

    def test_images_of_a_second_split_count_too(self):
        store, sizes = self.make(free=2 * 4 * 384)
        store.plan(sizes)
        with contextlib.redirect_stderr(io.StringIO()):
            store.plan({"val.png": (20, 40)})
        self.assertEqual(store.kept_in, "disk")

    def test_memory_that_does_not_fit_is_refused_with_the_numbers(self):
        store, sizes = self.make(free=1_500_000_000, cache="memory")
        sizes = {str(number): (20, 40) for number in range(2_000_000)}
        # 2,000,000 x 384 bytes = 0.768 GB, more than 0.75 GB.
        expected = "2,000,000 decoded images of up to 16 x 16 pixels take 0.8 GB of memory, 1.5 GB are free. Set"
        with self.assertRaisesRegex(InputError, f"data.cache=memory: .*{expected}"):
            store.plan(sizes)

    def test_no_room_on_the_disk(self):
        store, sizes = self.make(free=0)
        for path in sizes:
            pathlib.Path(path).touch()
        usage = mock.Mock(free=4 * 384)
        with contextlib.redirect_stderr(io.StringIO()) as errors, mock.patch("shutil.disk_usage", return_value=usage):
            store.plan(sizes)
        self.assertIsNone(store.kept_in)
        self.assertRegex(errors.getvalue(), r"^data.cache=auto: 4 decoded images.*decoded each time.*has room.*\n$")

    @parameterized.product(cache=("auto", "disk"), fault=("file", "no home", "full later"))
    def test_cache_folder_that_cannot_be_written(self, cache, fault):
        store, sizes = self.make(free=0, cache=cache)
        with contextlib.ExitStack() as stack:
            errors = stack.enter_context(contextlib.redirect_stderr(io.StringIO()))
            if fault == "file":
                (self.folder / "cache").write_text("in the way")
            elif fault == "no home":
                stack.enter_context(mock.patch.dict(os.environ))
                del os.environ["XDG_CACHE_HOME"]
                stack.enter_context(mock.patch.object(pathlib.Path, "home", side_effect=RuntimeError))
            else:
                full = OSError(errno.ENOSPC, "No space left on device")
                stack.enter_context(mock.patch("tempfile.mkstemp", side_effect=full))
            store.plan(sizes)
            for _ in range(2):
                self.assertAllEqual(store.get(self.path), np.full((8, 16, 3), (10, 20, 30)))
        self.assertIsNone(store.kept_in)
        self.assertEqual(errors.getvalue().count("images are decoded each time"), 1)

    @parameterized.product(cache=("auto", "memory", "disk", None), fit=("letterbox", "stretch"))
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
