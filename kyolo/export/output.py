"""Writing an export whole or not at all."""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from kyolo.errors import InputError


@contextlib.contextmanager
def new_output(path: str | os.PathLike) -> Iterator[Path]:
    """A path to write a file or folder to, which becomes `path` when the `with` block succeeds.

    It lies in a temporary folder beside `path`, which is removed whatever happens.

    Args:
        path: the output; folders above it are made.

    Yields:
        The temporary path, nothing there yet.

    Raises:
        InputError: `path` exists.
    """
    path = Path(path)
    if path.exists():
        raise InputError(f"{path}: expected a path to write to, received one that exists; remove it or name another")
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as folder:
        temporary = Path(folder) / path.name
        yield temporary
        temporary.rename(path)
