"""Writing files and folders whole or not at all."""

import contextlib
import errno
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from kyolo.errors import InputError


def part_of(path: Path) -> Path:
    """Where the next content of `path` is written to first; a process that is killed leaves this file."""
    return path.with_name(f"{path.name}.part")


@contextlib.contextmanager
def replace_file(path: Path) -> Iterator[BinaryIO]:
    """Opens a file that takes the place of `path` when the `with` block succeeds; its folder exists.

    A reader sees the old file or the new one, also when the process is killed or the machine loses power. One process
    at a time may write a path.

    Raises:
        InputError: the file cannot be written, on a full disk for example. What stood at `path` is still there.
    """
    part = part_of(path)
    try:
        with open(part, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except BaseException as error:
        with contextlib.suppress(OSError):  # such as a file system that is read-only by now: the first error counts
            part.unlink(missing_ok=True)
        if not isinstance(error, OSError):
            raise
        received = error.strerror or error
        raise InputError(
            f"Cannot write {path}: expected a disk with room and leave to write, received {received!r}; mend that and "
            f"run again (a training with --resume). What stood there is kept"
        ) from error
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    """Brings the names in a folder to the disk, which a file's own sync does not; some file systems cannot."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise InputError(
                f"Cannot bring the names in {folder} to the disk: expected a disk that works, received "
                f"{error.strerror or error!r}; after a loss of power the last file may be missing there"
            ) from error
    finally:
        os.close(descriptor)


def write_text(path: Path, text: str) -> None:
    """Writes or replaces a text file."""
    with replace_file(path) as file:
        file.write(text.encode())


@contextlib.contextmanager
def new_output(path: str | os.PathLike, *, folder: bool = False) -> Iterator[Path]:
    """A path to write a file or folder to, which becomes `path` when the `with` block succeeds.

    It lies in a temporary folder beside `path`, which is removed whatever happens.

    Args:
        path: the output; folders above it are made.
        folder: whether a folder will be written: then an empty one may stand there.

    Yields:
        The temporary path, nothing there yet.

    Raises:
        InputError: `path` exists.
    """
    path = Path(os.path.abspath(path))
    if path.exists() and not (folder and path.is_dir() and not any(path.iterdir())):
        raise InputError(f"{path}: expected a path that is new, received one that exists; remove it or name another")
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as beside:
        temporary = Path(beside) / path.name
        yield temporary
        temporary.rename(path)
