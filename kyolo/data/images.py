"""Image files: decoding them, fitting them to the network's size, and keeping the result."""

import contextlib
import errno
import io
import os
import struct
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import BinaryIO

import numpy as np
import tensorflow as tf
from PIL import ExifTags, Image
from tqdm import tqdm

from kyolo.data.bit_depth import decode_deep_png, to_8_bits
from kyolo.data.disk_cache import DiskCache
from kyolo.data.memory import fitted_bytes, free_memory
from kyolo.data.transforms import fit_image
from kyolo.errors import ArgumentError, InputError

FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "GIF", "TIFF")  # no other of Pillow's: some of them start programs
TIFF_COMPRESSIONS = ("raw", "tiff_lzw", "tiff_adobe_deflate", "tiff_deflate", "packbits")
DECODER = "pillow, used bits"  # part of a cached image's name: another decoder gives other pixels
CACHES = ("auto", "memory", "disk", None)
MEMORY_SHARE = 0.5  # of the free memory, for decoded images: training needs the rest
DISK_SHARE = 0.9  # of the free disk
OUT_OF_MEMORY = (
    "memory ran out while decoding images. Set data.cache=disk or null, lower data.image_size or train.batch_size, or "
    "convert the set to TFRecords (kyolo convert --to tfrecord)."
)
SUFFIXES = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".webp", ".gif", ".tif", ".tiff")
OTHER_SUFFIXES = (  # images that are not read
    *(".avif", ".heic", ".heif", ".hif", ".jp2", ".j2k", ".jxl", ".jxr", ".psd", ".svg", ".eps", ".ico", ".tga"),
    *(".ppm", ".pgm", ".pbm", ".pnm", ".exr", ".hdr", ".dcm", ".dng", ".cr2", ".cr3", ".nef", ".arw", ".raw", ".orf"),
)
OTHER_FORMAT = "image of another format"  # in the report
TURNS = {  # what makes a picture of an EXIF orientation upright; from 5 on height and width are swapped
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def read_image(path: str | os.PathLike) -> np.ndarray:
    """Decode a JPEG, PNG, BMP, WebP, GIF or TIFF file (first frame or page), with its EXIF orientation applied.

    Damaged EXIF counts as none. Grey, palette and CMYK images become RGB; transparency is dropped. Of images with more
    than 8 bits per channel, the upper 8 of the used bits are kept: 8, 10, 12, 14 or 16 bits, the smallest number that
    holds the image's largest value. Float images are scaled likewise, by 255 if they lie in 0..1. JPEG is decoded with
    the accurate inverse cosine transform, as most programs do; TensorFlow's default, a faster one, is up to 19 of 255
    away from it. TIFF may be uncompressed or compressed with LZW, deflate or PackBits.

    Args:
        path: the file.

    Returns:
        (H, W, 3) uint8, RGB.

    Raises:
        InputError: the file cannot be read, or is no whole image, or has more than 179 million pixels, as files do
            that are made to fill the memory.
        MemoryError: memory ran out.
    """
    return _decode(path, path)


def decode_image(content: bytes, name: str) -> np.ndarray:
    """Decodes the content of an image file, as `read_image` does.

    Args:
        content: of the file.
        name: what an error calls it.
    """
    return _decode(io.BytesIO(content), name)


def _decode(source: str | os.PathLike | io.BytesIO, name: str | os.PathLike) -> np.ndarray:
    with _opened(source, name) as image:
        deep = _has_deep_colours(image)
        image.load()  # Now, so that what is wrong with the pixels is not taken for damaged EXIF.
        orientation = _orientation(image)  # Pillow has applied and removed that of TIFF.
        if deep and image.format == "PNG":
            shown = Image.fromarray(to_8_bits(decode_deep_png(source)))
        elif deep:  # Of TIFF, Pillow gives the upper 8 bits only.
            shown = Image.fromarray(to_8_bits(np.asarray(image.convert("RGB")).astype(np.uint16) << 8))
        elif image.mode.startswith("I") or image.mode == "F":  # Pillow's conversion would clip instead of scale.
            shown = Image.fromarray(to_8_bits(np.asarray(image)))
        else:
            shown = image
        upright = shown.transpose(TURNS[orientation]) if orientation in TURNS else shown
        return np.array(upright.convert("RGB"))


def _has_deep_colours(image: Image.Image) -> bool:
    """Return whether a file holds 16 bits per colour, of which Pillow keeps the upper 8: dark images turn black."""
    return not image.mode.startswith("I") and any(";16" in str(tile.args) for tile in image.tile)


def read_image_size(path: str | os.PathLike) -> tuple[int, int]:
    """Height and width that `read_image` will return, from the head of the file.

    Raises:
        InputError: the file cannot be read, or does not begin as an image.
    """
    with _opened(path, path) as image:
        turned = image.format != "TIFF" and _orientation(image) in (5, 6, 7, 8)  # Pillow turns TIFF itself.
        return (image.width, image.height) if turned else (image.height, image.width)


def image_suffix(source: str | os.PathLike | io.BytesIO, name: str | os.PathLike) -> str:
    """Return the file name suffix of an image's format, such as ".jpeg".

    Args:
        source: the file, or its content.
        name: what an error calls it.

    Raises:
        InputError: the file cannot be read, or does not begin as an image.
    """
    with _opened(source, name) as image:
        return ".jpeg" if image.format == "MPO" else f".{str(image.format).lower()}"  # MPO: several pictures in a JPEG


def _orientation(image: Image.Image) -> object:
    """What EXIF says of it, if anything: 1 to 8 in sound files. Pictures are whole whose EXIF is damaged."""
    try:
        return image.getexif().get(ExifTags.Base.Orientation)
    except (OSError, SyntaxError, struct.error, AttributeError, LookupError, TypeError, ValueError):
        return None


@contextlib.contextmanager
def _opened(source: str | os.PathLike | io.BytesIO, name: str | os.PathLike) -> Iterator[Image.Image]:
    """An image file whose head is read; whatever Pillow meets in a damaged file becomes an InputError."""
    try:
        with _stream(source) as stream, Image.open(stream, formats=FORMATS) as image:
            compression = image.info.get("compression") if image.format == "TIFF" else None
            if compression not in (None, *TIFF_COMPRESSIONS):
                raise InputError(
                    f"{name}: expected a TIFF that is uncompressed or compressed with LZW, deflate or PackBits, got "
                    f"{compression}. Convert it to PNG."
                )
            yield image
    except (InputError, MemoryError):
        raise
    except tf.errors.ResourceExhaustedError as error:
        raise MemoryError(f"{name}: {OUT_OF_MEMORY}") from error
    except Image.DecompressionBombError as error:
        raise InputError(f"{name}: expected an image of at most 179 million pixels, received more; leave it out") from (
            error
        )
    except OSError as error:
        if error.errno == errno.ENOMEM:
            raise MemoryError(f"{name}: {error.strerror}") from error
        if error.errno is not None:
            reason = error.strerror.lower()
            raise InputError(f"{name}: expected an image file, received {reason}; check the path") from error
        raise _no_image(name, error) from error
    except Exception as error:
        # Decoders raise what they meet in broken data: ValueError, SyntaxError, struct.error ...
        raise _no_image(name, error) from error


def _stream(source: str | os.PathLike | io.BytesIO) -> BinaryIO:
    """Return an open file: Pillow maps a path into memory, and then does not turn 16-bit TIFF upright."""
    return source if isinstance(source, io.BytesIO) else open(source, "rb")


def _no_image(name: str | os.PathLike, error: Exception) -> InputError:
    return InputError(
        f"{name}: expected a whole {', '.join(FORMATS)} image, received a file that does not decode "
        f"({type(error).__name__}); replace or remove the file"
    )


class ImageStore:
    """Random access to images that are already resized to fit the network's size.

    Args:
        image_size: (H, W) of the network's input.
        fit: "letterbox" keeps the aspect, "stretch" does not.
        cache: where decoded images are kept. "memory"; "disk", as files under `$XDG_CACHE_HOME/kyolo`
            (`~/.cache/kyolo`); None: nowhere, they are decoded each time; "auto": in memory if they take less than half
            of what is free, else on disk if there is room, else nowhere.
        free_memory: returns the free memory in bytes, or None if it is unknown.

    Example:
        ```python
        store = ImageStore((320, 320))
        index = load_index("path/to/set", "train", store=store)  # the check fills the store: one decode per image
        dataset = make_dataset(index, image_size=320, cache=store)
        ```
    """

    def __init__(
        self,
        image_size: tuple[int, int],
        *,
        fit: str = "letterbox",
        cache: str | None = "auto",
        free_memory: Callable[[], int | None] = free_memory,
    ):
        if cache not in CACHES:
            raise ArgumentError("cache", f'expected "auto", "memory", "disk" or None, got {cache!r}.')
        self.image_size = tuple(image_size)
        self.fit = fit
        self.cache = cache
        self._kept_in = "memory" if cache == "auto" else cache
        self._memory: dict[str, np.ndarray] = {}
        self._disk = DiskCache(DECODER, self.image_size, fit)
        self._sizes: dict[str, int] = {}  # bytes by path of the images that `plan` was told
        self._free_memory = free_memory
        self._lock = threading.Lock()

    @property
    def kept_in(self) -> str | None:
        """Where images are kept: "memory", "disk" or None. Differs from `cache` if that is "auto" or cannot be used."""
        return self._kept_in

    def plan(self, sizes: Mapping[str, tuple[int, int]]) -> None:
        """Decide where images are kept, before the first is decoded; more may be added later.

        Args:
            sizes: (height, width) of the images by path.

        Raises:
            InputError: `cache` is "memory", and the images take more than half of the free memory.
        """
        new = {path: fitted_bytes(size, self.image_size, self.fit) for path, size in sizes.items()}
        if new.keys() <= self._sizes.keys():
            return
        self._sizes |= new
        if self.cache == "disk":
            self._plan_disk("data.cache=disk")
        if self.cache not in ("auto", "memory"):
            return
        needed = sum(size for path, size in self._sizes.items() if path not in self._memory)
        free = self._free_memory()
        if free is None or needed <= free * MEMORY_SHARE:
            return
        numbers = (
            f"{len(self._sizes):,} decoded images of up to {self.image_size[0]} x {self.image_size[1]} pixels take "
            f"{needed / 1e9:.1f} GB of memory, {free / 1e9:.1f} GB are free"
        )
        if self.cache == "memory":
            raise InputError(
                f"data.cache=memory: expected images that take at most half of the free memory: {numbers}. Set "
                f"data.cache=disk or null, lower data.image_size, or convert the set to TFRecords."
            )
        if self._kept_in == "memory":
            self._plan_disk(f"data.cache=auto: {numbers}")

    def _plan_disk(self, reason: str) -> None:
        """Keep images on disk if that can be written and has room, else nowhere; say so on stderr."""
        try:
            room, needed = self._disk.room(), self._disk.missing_bytes(self._sizes)
        except OSError as error:
            self._keep_nothing(reason, error)
            return
        if needed >= room * DISK_SHARE:
            problem = f"{self._disk.folder} has room for {room / 1e9:.1f} GB, {needed / 1e9:.1f} GB are needed"
            self._keep_nothing(reason, OSError(problem))
            return
        self._kept_in = "disk"
        if self.cache == "auto":
            tqdm.write(f"{reason}; they are kept in {self._disk.folder}", file=sys.stderr)

    def _keep_nothing(self, reason: str, error: OSError) -> None:
        """Decode images each time from now on, and say why, once."""
        with self._lock:
            if self._kept_in is None:
                return
            self._kept_in = None
        problem = (
            f"{error.strerror}: {error.filename}" if error.strerror and error.filename else error.strerror or error
        )
        tqdm.write(f"{reason}; images are decoded each time, as no cache can be written ({problem})", file=sys.stderr)

    def get(self, path: str) -> np.ndarray:
        """Return the fitted image of `path`: (h, w, 3) uint8, h <= H and w <= W, one of them equal (stretch: both)."""
        if path in self._memory:
            return self._memory[path]
        kept = self._disk.load(path) if self._kept_in == "disk" else None
        return self.put(path, read_image(path)) if kept is None else kept

    def put(self, path: str, image: np.ndarray) -> np.ndarray:
        """Fit a decoded image and keep it, if it is not kept already; return what `get(path)` returns."""
        fitted = fit_image(image, self.image_size, self.fit).numpy()
        if self._kept_in == "memory":
            self._memory[path] = fitted
        elif self._kept_in == "disk":
            try:
                self._disk.save(path, fitted)
            except OSError as error:  # The disk is full, for example: training needs no cache.
                self._keep_nothing(f"data.cache={self.cache}", error)
        return fitted
