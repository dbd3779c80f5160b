"""Image files: decoding them, fitting them to the network's size, and keeping the result."""

import hashlib
import os
import tempfile
from pathlib import Path

import numpy as np
import tensorflow as tf

from kyolo.data.transforms import fit_image
from kyolo.errors import InputError


def read_image(path: str | os.PathLike) -> np.ndarray:
    """Decodes a JPEG, PNG, GIF (its first frame) or BMP file in full.

    An EXIF orientation is not applied: boxes are given for the pixels as they are stored.

    Args:
        path: the file.

    Returns:
        (H, W, 3) uint8, RGB; one-channel images are repeated over the channels.

    Raises:
        InputError: the file cannot be read, or is no whole image.
    """
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise InputError(
            f"{path}: expected an image file, received {error.strerror.lower()}; check the path"
        ) from error
    try:
        return tf.io.decode_image(content, channels=3, expand_animations=False).numpy()
    except tf.errors.InvalidArgumentError as error:
        raise InputError(
            f"{path}: expected a whole JPEG, PNG, GIF or BMP image, received {len(content)} bytes that do not decode; "
            "replace or remove the file"
        ) from error


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
            raise ValueError(f'Unknown cache: expected "memory", "disk" or None, received {cache!r}')
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
        key = (os.path.realpath(path), status.st_mtime_ns, status.st_size, self.image_size, self.fit)
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
