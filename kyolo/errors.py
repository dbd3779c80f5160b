"""The errors that the command line prints on one line, and what may stand there."""

import difflib
import unicodedata
from collections.abc import Iterable

_NOT_IN_A_LINE = ("Cc", "Cs", "Zl", "Zp")  # Unicode: control characters, lone surrogates, line breaks


class InputError(ValueError):
    """Bad input from the user: the command line prints its one line and exits with 2.

    The message says what is wrong, what was expected, what was received, and what to do.
    """


class ArgumentError(ValueError):
    """A bad value of one argument. The configuration adds the argument to the path of the setting.

    Args:
        argument: name of the argument, or of an item of it, e.g. "image_size.1".
        problem: what was expected, what was given and what to do, on one line.

    Example:
        >>> str(ArgumentError("reduction", "expected an integer >= 1, got 0."))
        'reduction: expected an integer >= 1, got 0.'
    """

    def __init__(self, argument: str, problem: str):
        super().__init__(argument, problem)
        self.argument = argument
        self.problem = problem

    def __str__(self) -> str:
        return f"{self.argument}: {self.problem}"


class NonFiniteError(ArithmeticError):
    """Training has met a loss or a weight that is no finite number: the command line prints one line and exits with 1.

    The message says where, which images were in the batch, what is kept, and what to do.
    """


class WorkerLostError(RuntimeError):
    """Another machine of a run is gone: the command line prints one line and exits with 1.

    The message says which, and what to do.
    """


def did_you_mean(received: str, names: Iterable[str]) -> str:
    """The end of a message: a question for the name nearest to what was received, or nothing if none is near."""
    near = difflib.get_close_matches(received[:60], names, n=1)
    return f" (did you mean {near[0]}?)" if near else ""


def is_line(text: str) -> bool:
    """Whether a text stands on one line and every stream takes it."""
    return not any(unicodedata.category(character) in _NOT_IN_A_LINE for character in text)


def to_line(text: str) -> str:
    r"""A text from a file as one line that every stream takes: what no line can hold is written as Python escapes it.

    Args:
        text: any text.

    Example:
        >>> print(to_line("two\nlines"))
        two\nlines
    """
    if is_line(text):
        return text
    return "".join(character if is_line(character) else repr(character)[1:-1] for character in text)
