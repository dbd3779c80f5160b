"""Parse numbers, flags and ids by one rule in every annotation format."""

import re

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_INTEGER = re.compile(r"[+-]?(0|[1-9]\d*)(\.0*)?", re.ASCII)
_LIMIT = 1e30  # float32 holds it, and differences of two such numbers
_YES, _NO = ("true", "yes"), ("", "false", "no")


def as_number(value: object) -> int | float | None:
    """Return a finite number, or None where the value is not one.

    Text is a number if it is a decimal number with a point ("12", "0.5", "1e-3"). JSON integers and floats stay as
    they are. Booleans, NaN, infinity and numbers beyond 1e30 are not numbers.

    Args:
        value: anything that a file holds.

    Example:
        >>> as_number(" 0.5 "), as_number(7), as_number("0,5"), as_number(float("nan"))
        (0.5, 7, None, None)
    """
    if isinstance(value, str):
        value = float(value) if _NUMBER.fullmatch(value.strip()) else None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return value if abs(value) < _LIMIT else None  # False for NaN


def as_id(value: object) -> int | None:
    """Return an id as an integer, or None where the value is not one.

    An id is an integer below 2^53, a float with an integer value (1.0), or the text of either ("1", "1.0"). Text with
    leading zeros is not an id: "01" and "1" may be different ids.

    Args:
        value: anything that a file holds.

    Example:
        >>> as_id(1), as_id(1.0), as_id("1"), as_id("01"), as_id(True), as_id(1.5)
        (1, 1, 1, None, None, None)
    """
    if isinstance(value, str) and not _INTEGER.fullmatch(value.strip()):
        return None
    number = as_number(value)
    return None if number is None or number != int(number) or abs(number) >= 2**53 else int(number)


def as_side(value: object) -> int | None:
    """Return the width or height of an image in pixels, or None where the value cannot be one.

    Args:
        value: anything that a file holds; the rule is the one of `as_id`.
    """
    number = as_id(value)
    return number if number is not None and 0 < number < 2**31 else None


def as_flag(value: object) -> bool | None:
    """Return a flag, or None where the value is neither yes nor no.

    Yes is 1, true or yes; no is 0, false, no, or nothing; in any case, as text or not.

    Args:
        value: anything that a file holds; None where the file does not give the flag.

    Example:
        >>> as_flag("Yes"), as_flag(1.0), as_flag("FALSE"), as_flag(None), as_flag("Unspecified"), as_flag(-1)
        (True, True, False, False, None, None)
    """
    if value is None or isinstance(value, bool):
        return bool(value)
    if isinstance(value, str) and value.strip().lower() in _YES + _NO:
        return value.strip().lower() in _YES
    number = as_number(value)
    return bool(number) if number in (0, 1) else None


def is_id(value: object) -> bool:
    """Return whether a value is an integer that JSON readers agree on and int64 holds."""
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**53


def is_side(value: object) -> bool:
    """Return whether a value is an integer that the width or height of an image can be."""
    return is_id(value) and 0 < value < 2**31
