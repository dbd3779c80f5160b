"""Writing files and folders whole or not at all."""

import contextlib
import errno
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from kyolo.errors import InputError

# What a disk answers when it cannot be written: full, over quota, a file too large, read-only, broken, no permission.
_DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO, errno.EACCES, errno.EPERM)
_SHORT_WRITE = "requested and"  # NumPy: "4096 requested and 512 written", without an errno
_REMEDY = "Free disk space or check the write permission, then run again"


def part_of(path: Path) -> Path:
    """Where the next content of `path` is written to first; a process that is killed leaves this file."""
    return path.with_name(f"{path.name}.part")


def disk_problem(error: BaseException) -> str | None:
    """Return what the disk answered if `error` says that something could not be written, else None.

    Recognizes `OSError`, TensorFlow's errors and the errors of libraries that only quote the system's message (h5py).

    Args:
        error: any exception.

    Example:
        >>> disk_problem(OSError(28, "No space left on device"))
        'No space left on device'
    """
    if isinstance(error, OSError) and error.errno is not None:
        return error.strerror if error.errno in _DISK_ERRORS else None
    if not isinstance(error, OSError | RuntimeError) and not _is_tensorflow_error(error):
        return None
    if _SHORT_WRITE in str(error):
        return os.strerror(errno.ENOSPC)
    return next((text for text in map(os.strerror, _DISK_ERRORS) if text in str(error)), None)


def _is_tensorflow_error(error: BaseException) -> bool:
    tensorflow = sys.modules.get("tensorflow")  # whoever raises its errors has imported it
    return tensorflow is not None and isinstance(error, tensorflow.errors.OpError)


@contextlib.contextmanager
def replace_file(path: Path) -> Iterator[BinaryIO]:
    """Open a file that takes the place of `path` when the `with` block succeeds; its folder exists.

    A reader sees the old file or the new one, also when the process is killed or the machine loses power. One process
    at a time may write a path.

    Raises:
        InputError: the file cannot be written, on a full disk for example. The previous file is still there.
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
        raise InputError(
            f"Cannot write {path}: expected free disk space and write permission, got {error.strerror or error!r}. "
            f"{_REMEDY} (a training run: with --resume). A previous file of that name is kept."
        ) from error
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    """Bring the names in a folder to the disk, which a file's own sync does not; some file systems cannot."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise InputError(
                f"Cannot sync the names in {folder} to the disk: expected a working disk, got "
                f"{error.strerror or error!r}. Check the disk: after a power failure the last file may be missing."
            ) from error
    finally:
        os.close(descriptor)


def write_text(path: Path, text: str) -> None:
    """Write or replace a text file."""
    with replace_file(path) as file:
        file.write(text.encode())


@contextlib.contextmanager
def new_output(path: str | os.PathLike, *, folder: bool = False) -> Iterator[Path]:
    """Yield a temporary path to write a file or folder to, which becomes `path` when the `with` block succeeds.

    It lies in a hidden folder beside `path` (inside `path` if that is an empty mounted volume), which is removed
    whatever happens. Errors that name it name `path` instead.

    Args:
        path: the output; missing folders above it are made, and removed again if the block fails.
        folder: whether a folder will be written: then `path` may be an empty folder.

    Yields:
        The temporary path, nothing there yet.

    Raises:
        InputError: `path` exists or cannot be written.
    """
    given, path = os.fspath(path), Path(os.path.abspath(path))
    _check_new(given, path, folder=folder)
    path = path.resolve() if path.is_symlink() else path
    inside = folder and os.path.ismount(path)  # nothing can take its place
    made: list[Path] = []
    hidden: Path | None = None
    try:
        made = _make_folders(path.parent)
        home, name = (path, "kyolo") if inside else (path.parent, path.name.encode()[:100].decode(errors="ignore"))
        hidden = Path(tempfile.mkdtemp(dir=home, prefix=f".{name}."))
        temporary = hidden / path.name
        with contextlib.ExitStack() as stack:
            stack.callback(shutil.rmtree, hidden, ignore_errors=True)
            yield temporary
            _put_in_place(temporary, path, inside=inside)
    except BaseException as error:
        for parent in reversed(made):
            with contextlib.suppress(OSError):  # not empty any more
                parent.rmdir()
        renamed = _in_terms_of(given, str(hidden / path.name) if hidden else None, error)
        if renamed is error:
            raise
        raise renamed from error


def _check_new(given: str, path: Path, *, folder: bool) -> None:
    try:
        path.lstat()
        used = path.exists() and not (folder and path.is_dir() and not any(path.iterdir()))
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        raise _unwritable(given, error.strerror or str(error)) from error
    if used:
        raise InputError(f"{given}: expected a path that is new, got one that exists. Remove it or choose another.")
    if not path.exists():
        raise InputError(
            f"{given}: expected a new path, got a symbolic link to {path.readlink()}, which does not exist. "
            f"Remove the link or choose another path."
        )


def _make_folders(folder: Path) -> list[Path]:
    """Make a folder and those above it; return the new ones."""
    missing = [each for each in (folder, *folder.parents) if not os.path.lexists(each)][::-1]
    for number, each in enumerate(missing):
        try:
            each.mkdir(exist_ok=True)
        except OSError:
            for made in reversed(missing[:number]):
                made.rmdir()
            raise
    if not folder.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(folder))
    return missing


def _put_in_place(temporary: Path, path: Path, *, inside: bool) -> None:
    if inside:
        for entry in temporary.iterdir():
            entry.rename(path / entry.name)
    else:
        temporary.rename(path)


def _in_terms_of(given: str, temporary: str | None, error: BaseException) -> BaseException:
    """Return the error as one about the path that the user gave, or the error itself if it is about something else."""
    text = str(error)
    names_output = temporary is None or os.path.dirname(temporary) in text
    problem = disk_problem(error)
    if isinstance(error, OSError) and error.filename is not None and not names_output:
        return error  # about another file, such as an image that cannot be read
    if isinstance(error, OSError) and names_output:
        problem = problem or error.strerror or _renamed(text, temporary, given)
    if problem is None:
        return _with_renamed_arguments(error, temporary, given)
    if not names_output and tempfile.gettempdir() in text:
        given = f"{given} (temporary files in {tempfile.gettempdir()}, set by TMPDIR)"
    return _unwritable(given, problem)


def _unwritable(given: str, problem: str) -> InputError:
    return InputError(
        f"Cannot write {given}: expected free disk space and write permission, got {problem!r}. {_REMEDY}."
    )


def _renamed(text: str, temporary: str | None, given: str) -> str:
    return text if temporary is None else text.replace(temporary, given).replace(os.path.dirname(temporary), given)


def _with_renamed_arguments(error: BaseException, temporary: str | None, given: str) -> BaseException:
    """Change the texts in an error's arguments in place."""
    error.args = tuple(_renamed(each, temporary, given) if isinstance(each, str) else each for each in error.args)
    return error
