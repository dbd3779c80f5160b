"""Where the command line begins and ends: arguments, exit codes, and what goes to which stream."""

import argparse
import contextlib
import importlib
import json
import os
import signal
import sys
import threading
import traceback
import types
import typing
from collections.abc import Iterator, Sequence

from kyolo.cli.options import CheckFailed, import_modules
from kyolo.config import ConfigError
from kyolo.errors import InputError, NonFiniteError, WorkerLostError

# Each is a module of this package.
COMMANDS = ("train", "evaluate", "predict", "export", "benchmark", "describe", "convert")
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
        >>> main(["train", "--config", "configs/yolov8_n.yaml", "--data", "path/to/set", "--output", "run"])
    """
    argv = sys.argv[1:] if argv is None else list(argv)
    debug = "--debug" in argv
    try:
        with _sigterm_interrupts():
            arguments = _make_parser().parse_args(argv)
            return _run(arguments.command, arguments)
    except SystemExit as done:  # argparse, after --help
        return int(done.code or OK)
    except BrokenPipeError:  # The reader of stdout, `head` perhaps, has seen enough.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return INTERRUPTED
    except (CheckFailed, ConfigError, InputError, NonFiniteError, WorkerLostError, OSError) as error:
        if debug:
            traceback.print_exc()
        print(f"kyolo: error: {' '.join(str(error).split())}", file=sys.stderr)
        return CHECK_FAILED if isinstance(error, CheckFailed | NonFiniteError | WorkerLostError) else BAD_INPUT
    except KeyboardInterrupt as interrupt:
        if debug:
            traceback.print_exc()
        print("; ".join(["kyolo: interrupted", *map(str, interrupt.args)]), file=sys.stderr)
        return INTERRUPTED


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


def _run(command: types.ModuleType, arguments: argparse.Namespace) -> int:
    stdout = sys.stdout
    with contextlib.redirect_stdout(sys.stderr if arguments.json else stdout):
        import_modules(getattr(arguments, "imports", ()))
        for document in command.run(arguments):
            if arguments.json:
                print(json.dumps(document, allow_nan=False), file=stdout, flush=True)
    stdout.flush()
    return OK
