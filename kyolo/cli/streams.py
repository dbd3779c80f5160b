"""Standard streams that never stop a command: closed ones, and those whose encoding lacks a character."""

import contextlib
import io
import os
import sys
import typing


def prepare_streams() -> None:
    """Let stdout and stderr take every text, as escapes where the encoding lacks a character; open closed ones."""
    for descriptor, name in ((1, "stdout"), (2, "stderr")):
        stream = getattr(sys, name)
        if stream is None:  # Python found it closed, as after `>&-`
            setattr(sys, name, _to_nowhere(descriptor))
        elif isinstance(stream, io.TextIOWrapper) and stream.errors in ("strict", "surrogateescape"):
            stream.reconfigure(errors="backslashreplace")


def _to_nowhere(descriptor: int) -> io.TextIOWrapper:
    """Open the null device, as the descriptor if that is free: else the next file opened gets what is printed."""
    opened = os.open(os.devnull, os.O_WRONLY)
    with contextlib.suppress(OSError):
        os.fstat(descriptor)
        return os.fdopen(opened, "w", errors="backslashreplace")
    os.dup2(opened, descriptor)
    os.close(opened)
    return os.fdopen(descriptor, "w", errors="backslashreplace", closefd=False)


def discard(stream: typing.TextIO) -> None:
    """Send the rest of a stream nowhere, its buffer included: its reader is gone, or its disk is full."""
    with contextlib.suppress(OSError, ValueError):  # ValueError: a stream in memory, which has no descriptor
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
        stream.flush()


def print_error(line: str) -> None:
    """Print a line to stderr, or nowhere if stderr cannot be written."""
    try:
        print(line, file=sys.stderr, flush=True)
    except OSError:
        discard(sys.stderr)
