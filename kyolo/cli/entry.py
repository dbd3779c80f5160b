"""Where the command line begins and ends: arguments, exit codes, and what goes to which stream."""

import argparse
import contextlib
import importlib
import json
import signal
import sys
import threading
import traceback
import typing
from collections.abc import Iterator, Sequence

from kyolo.cli.options import CheckFailed, import_modules
from kyolo.cli.streams import discard, prepare_streams, print_error
from kyolo.config import ConfigError
from kyolo.errors import InputError, NonFiniteError, WorkerLostError
from kyolo.files import disk_problem

# Each is a module of this package.
COMMANDS = ("train", "evaluate", "predict", "export", "benchmark", "describe", "convert", "ablate")
OK, CHECK_FAILED, BAD_INPUT, INTERRUPTED = 0, 1, 2, 130


class _Parser(argparse.ArgumentParser):
    """A parser whose complaints are one line, like those of everything behind it."""

    def error(self, message: str) -> typing.NoReturn:
        raise InputError(f"{message} (see {self.prog} --help)")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 0, 1 a check failed, 2 bad input, 130 interrupted.

    A command is a module with `add_arguments(parser)` and `run(arguments)`. The latter prints for people, and yields
    documents for programs; with --json those alone reach stdout, one a line, and everything else goes to stderr.

    Args:
        argv: the arguments after the program's name; those of the process by default.

    Example:
        >>> main(["convert", "path/to/set", "--to", "yolo", "--output", "set_yolo"])
        train
        images used                   8
        ...
        yolo: set_yolo
        0
    """
    argv = sys.argv[1:] if argv is None else list(argv)
    prepare_streams()
    try:
        with _sigterm_interrupts():
            return _run(argv)
    except BrokenPipeError:  # The reader of stdout, `head` perhaps, has seen enough.
        discard(sys.stdout)
        return INTERRUPTED
    except KeyboardInterrupt as interrupt:
        _print_traceback(argv)
        print_error("; ".join(["kyolo: interrupted", *map(str, interrupt.args)]))
        return INTERRUPTED
    except Exception as error:
        code, line = _describe(error)
        if line is None:
            raise
        _print_traceback(argv)
        print_error(f"kyolo: error: {' '.join(line.split())}")
        return code


def _describe(error: Exception) -> tuple[int, str | None]:
    """Return the exit code of an error and its line; no line for a mistake in the program, which needs a traceback."""
    if isinstance(error, UnicodeEncodeError):  # in the name of a file: no stream of ours raises it
        remedy = "Rename the file" if error.encoding == "utf-8" else "Set the environment variable PYTHONUTF8=1"
        received = f"{error.object[:200]!a}: expected a name that this system's encoding {error.encoding} can write"
        return BAD_INPUT, f"{received}, got {error.object[error.start]!a}. {remedy}."
    if isinstance(error, CheckFailed | NonFiniteError | WorkerLostError):
        return CHECK_FAILED, str(error)
    if isinstance(error, ConfigError | InputError | OSError):
        return BAD_INPUT, str(error)
    if isinstance(error, MemoryError):
        return BAD_INPUT, "out of memory. Lower the batch size or the image size, or close other programs."
    problem = disk_problem(error)
    return BAD_INPUT, problem and f"Cannot write: {error}"


def _print_traceback(argv: Sequence[str]) -> None:
    if "--debug" in argv:
        traceback.print_exc()


@contextlib.contextmanager
def _sigterm_interrupts() -> Iterator[None]:
    """Has SIGTERM, by which schedulers end a process, do what Ctrl-C does; only a main thread can handle signals."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    kept = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, kept)


def _make_parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="kyolo", description="Train, evaluate, use and export YOLOv8-type object detectors.", allow_abbrev=False
    )
    parser.add_argument("--version", action="version", version=f"kyolo {importlib.import_module('kyolo').__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for name in COMMANDS:
        module = importlib.import_module(f"kyolo.cli.{name}")
        summary = (module.__doc__ or "").splitlines()[0]
        command = commands.add_parser(name, help=summary, description=summary, allow_abbrev=False)
        module.add_arguments(command)
        command.add_argument("--json", action="store_true", help="print JSON on stdout and nothing else there")
        command.add_argument("--debug", action="store_true", help="show the traceback of an error")
        command.set_defaults(command=module)
    return parser


def _run(argv: Sequence[str]) -> int:
    stdout = sys.stdout
    try:
        arguments = _make_parser().parse_args(argv)
        with contextlib.redirect_stdout(sys.stderr if arguments.json else stdout):
            import_modules(getattr(arguments, "imports", ()))
            for document in arguments.command.run(arguments):
                if arguments.json:
                    print(json.dumps(document, allow_nan=False), file=stdout, flush=True)
    except SystemExit as done:  # argparse, after --help
        _flush(stdout)
        return int(done.code or OK)
    _flush(stdout)
    return OK


def _flush(stdout: typing.TextIO) -> None:
    """Write what stdout has buffered, here rather than when Python ends, which would print a traceback.

    Raises:
        InputError: it cannot be written.
    """
    try:
        stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        discard(stdout)
        raise InputError(f"standard output: expected free disk space, got {error.strerror!r}. Free some.") from error
