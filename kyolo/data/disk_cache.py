"""Decoded images on disk, for the next epoch and the next training."""

import contextlib
import hashlib
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np


class DiskCache:
    """Arrays by the path of their image, as `.npy` files under `$XDG_CACHE_HOME/kyolo` (`~/.cache/kyolo`).

    Args:
        *key: what else the arrays depend on.
    """

    def __init__(self, *key: object):
        self._key = key

    @property
    def folder(self) -> Path:
        """The folder of the files.

        Raises:
            OSError: the user has no home folder, and XDG_CACHE_HOME is not set.
        """
        root = os.environ.get("XDG_CACHE_HOME")
        try:
            return Path(root or Path.home() / ".cache") / "kyolo" / "images"
        except RuntimeError as error:
            raise OSError("no home folder") from error

    def room(self) -> int:
        """Return the free bytes of the disk.

        Raises:
            OSError: nothing can be written there.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=self.folder):
            return shutil.disk_usage(self.folder).free

    def missing_bytes(self, sizes: Mapping[str, int]) -> int:
        """Return how many of the images' bytes are not kept yet, by path of the image."""
        return sum(size for path, size in sizes.items() if os.path.isfile(path) and not self.file(path).is_file())

    def load(self, path: str) -> np.ndarray | None:
        """Return the array of an image, or None if it is not kept or its file is damaged."""
        try:
            return np.load(self.file(path), allow_pickle=False)
        except (OSError, ValueError, EOFError):
            with contextlib.suppress(OSError):  # It is written again, if that is possible at all.
                self.file(path).unlink(missing_ok=True)
            return None

    def save(self, path: str, array: np.ndarray) -> None:
        """Keep the array of an image, unless it is kept already.

        Raises:
            OSError: it cannot be written.
        """
        file = self.file(path)
        if file.is_file():
            return
        file.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(dir=file.parent, suffix=".tmp")
        try:  # Written beside the target and renamed: no reader sees half a file.
            with os.fdopen(descriptor, "wb") as stream:
                np.save(stream, array)
            os.replace(temporary, file)
        except BaseException:
            os.unlink(temporary)
            raise

    def file(self, path: str) -> Path:
        """Return the file of an image: its name changes with the image's path, time stamp and size and the key."""
        status = os.stat(path)
        key = (*self._key, os.path.realpath(path), status.st_mtime_ns, status.st_size)
        name = hashlib.sha1(repr(key).encode(), usedforsecurity=False).hexdigest()
        return self.folder / name[:2] / f"{name}.npy"
