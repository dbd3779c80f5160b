"""The files that a data set consists of: finding them, reading them, and keeping inside the set."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kyolo.errors import InputError

MAX_TEXT_BYTES = 64 * 2**20  # Of lists of images: half a million lines; labels and classes are far smaller.


def find_files(folder: Path, suffixes: Sequence[str]) -> list[Path]:
    """The files with one of the suffixes, in any case, in a folder and those below it, sorted.

    Links are followed, each folder once; what begins with a point is left out.
    """
    found, seen = [], set()
    for here, folders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(here)
        folders[:] = [] if real in seen else sorted(name for name in folders if not name.startswith("."))
        if real not in seen:
            found += [
                Path(here, name) for name in names if not name.startswith(".") and name.lower().endswith(suffixes)
            ]
        seen.add(real)
    return sorted(path for path in found if os.path.isfile(path))


def read_bytes(file: Path, limit: int) -> bytes:
    """Reads a file of at most `limit` bytes.

    Raises:
        InputError: it cannot be read, or is larger.
    """
    try:
        with open(file, "rb") as stream:
            content = stream.read(limit + 1)
    except OSError as error:
        raise InputError(f"{file}: expected a file, received {(error.strerror or str(error)).lower()}") from error
    if len(content) > limit:
        raise InputError(f"{file}: expected at most {limit:,} bytes, received more")
    return content


def read_lines(file: Path, limit: int = MAX_TEXT_BYTES) -> list[str]:
    """Lines of a text file in UTF-8, with or without a byte order mark, ended as on any system.

    Raises:
        InputError: it cannot be read, is larger than `limit` bytes, or is no such text.
    """
    try:
        return read_bytes(file, limit).decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise InputError(f"{file}: expected text in UTF-8, received other bytes at position {error.start}") from error


def read_json(file: Path) -> Any:
    """Parses a json file.

    Raises:
        InputError: it cannot be read, or is no json.
    """
    try:
        return json.loads(file.read_bytes())
    except OSError as error:
        raise InputError(f"{file}: expected a json file, received {str(error.strerror).lower()}") from error
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise InputError(
            f"{file}: expected json, received {error.msg.lower()} at {where}; write the file anew"
        ) from error
    except RecursionError:
        raise InputError(f"{file}: expected lists and mappings in json, received too deep a nest of them") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{file}: expected json in UTF-8, received other bytes at position {error.start}") from error
    except ValueError as error:  # Python refuses whole numbers of more than 4300 digits.
        raise InputError(f"{file}: expected json, received a number that is too long ({error})") from error
