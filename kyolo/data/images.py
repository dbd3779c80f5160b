"""Image files: decoding them, fitting them to the network's size, and keeping the result."""

import contextlib
import hashlib
import io
import os
import struct
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image

from kyolo.data.transforms import fit_image
from kyolo.errors import ArgumentError, InputError

FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "GIF")  # no other of Pillow's: some of them start programs
DECODER = "pillow"  # part of a cached image's name: another decoder gives other pixels
SUFFIXES = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".webp", ".gif")
OTHER_SUFFIXES = (  # images that are not read
    *(".tif", ".tiff", ".avif", ".heic", ".heif", ".hif", ".jp2", ".j2k", ".jxl", ".jxr", ".psd", ".svg", ".eps"),
    *(".ico", ".tga", ".ppm", ".pgm", ".pbm", ".pnm", ".exr", ".hdr", ".dcm", ".dng", ".cr2", ".cr3", ".nef", ".arw"),
    *(".raw", ".orf"),
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
    """Decodes a JPEG, PNG, BMP, WebP or GIF file (its first frame) in full, the way it is meant to be looked at.

    An EXIF orientation is applied: boxes are given for the upright picture. Damaged EXIF counts as none. Grey, palette
    and CMYK images become RGB, transparency is dropped, and of 16 bits a pixel the upper 8 are taken. JPEG is decoded
    with the accurate inverse cosine transform, as most programs do; TensorFlow's default, a faster one, is up to 19 of
    255 away from it.

    Args:
        path: the file.

    Returns:
        (H, W, 3) uint8, RGB.

    Raises:
        InputError: the file cannot be read, or is no whole image, or has more than 179 million pixels, as files do
            that are made to fill the memory.
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
        image.load()  # Now, so that what is wrong with the pixels is not taken for damaged EXIF.
        orientation = _orientation(image)
        upright = image.transpose(TURNS[orientation]) if orientation in TURNS else image
        if upright.mode.startswith("I"):  # 16 bits grey; Pillow's conversion would clip instead of scale
            upright = Image.fromarray((np.asarray(upright).astype(np.uint32) >> 8).astype(np.uint8))
        return np.array(upright.convert("RGB"))


def read_image_size(path: str | os.PathLike) -> tuple[int, int]:
    """Height and width that `read_image` will return, from the head of the file.

    Raises:
        InputError: the file cannot be read, or does not begin as an image.
    """
    with _opened(path, path) as image:
        turned = _orientation(image) in (5, 6, 7, 8)
        return (image.width, image.height) if turned else (image.height, image.width)


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
        with Image.open(source, formats=FORMATS) as image:
            yield image
    except Image.DecompressionBombError as error:
        raise InputError(f"{name}: expected an image of at most 179 million pixels, received more; leave it out") from (
            error
        )
    except OSError as error:
        if error.errno is not None:
            reason = error.strerror.lower()
            raise InputError(f"{name}: expected an image file, received {reason}; check the path") from error
        raise _no_image(name, error) from error
    except Exception as error:
        # Decoders raise what they meet in broken data: ValueError, SyntaxError, struct.error ...
        raise _no_image(name, error) from error


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
        cache: "memory" keeps each image once it was decoded, "disk" keeps it as a `.npy` file under
            `$XDG_CACHE_HOME/kyolo` (`~/.cache/kyolo`), None decodes each time.

    Example:
        ```python
        store = ImageStore((320, 320))
        index = load_index("path/to/set", "train", store=store)  # the check fills the store: one decode an image
        dataset = make_dataset(index, image_size=320, cache=store)
        ```
    """

    def __init__(self, image_size: tuple[int, int], *, fit: str = "letterbox", cache: str | None = "memory"):
        if cache not in ("memory", "disk", None):
            raise ArgumentError("cache", f'expected "memory", "disk" or None, got {cache!r}.')
        self.image_size = tuple(image_size)
        self.fit = fit
        self.cache = cache
        self._memory: dict[str, np.ndarray] = {}

    def get(self, path: str) -> np.ndarray:
        """The image of `path`, fitted: (h, w, 3) uint8 with h <= H, w <= W, one of them equal (both with stretch)."""
        if path in self._memory:
            return self._memory[path]
        if self.cache == "disk":
            try:
                return np.load(self._file(path), allow_pickle=False)
            except (OSError, ValueError, EOFError):  # Not kept yet, or damaged: decoded below and written anew.
                self._file(path).unlink(missing_ok=True)
        return self.put(path, read_image(path))

    def put(self, path: str, image: np.ndarray) -> np.ndarray:
        """Fits a decoded image and keeps it, if it is not kept already; returns what `get(path)` returns."""
        fitted = fit_image(image, self.image_size, self.fit).numpy()
        if self.cache == "memory":
            self._memory[path] = fitted
        elif self.cache == "disk" and not self._file(path).is_file():
            _save_atomically(self._file(path), fitted)
        return fitted

    def _file(self, path: str) -> Path:
        """Where an image is kept on disk: the name changes with the file, its time stamp and the target size."""
        status = os.stat(path)
        key = (DECODER, os.path.realpath(path), status.st_mtime_ns, status.st_size, self.image_size, self.fit)
        name = hashlib.sha1(repr(key).encode(), usedforsecurity=False).hexdigest()
        root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        return root / "kyolo" / "images" / name[:2] / f"{name}.npy"


def _save_atomically(file: Path, array: np.ndarray) -> None:
    """Writes beside the target and renames, so that no reader ever sees half a file."""
    file.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=file.parent, suffix=".tmp")
    try:
        with os.fdopen(descriptor, "wb") as stream:
            np.save(stream, array)
        os.replace(temporary, file)
    except BaseException:
        os.unlink(temporary)
        raise
