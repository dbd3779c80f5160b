"""Checks of the arguments of losses, which come from Python and from YAML."""

import math

from kyolo.errors import ArgumentError


def check_number(name, value, *, minimum=-math.inf, above=-math.inf, maximum=math.inf):
    """Return `value`, a finite number within the limits; raise ArgumentError otherwise."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if is_number and above < value and minimum <= value <= maximum:
        return value
    limits = [f">= {minimum:g}" if minimum > -math.inf else "", f"> {above:g}" if above > -math.inf else ""]
    limits.append(f"<= {maximum:g}" if maximum < math.inf else "")
    expected = " and ".join(limit for limit in limits if limit)
    raise ArgumentError(name, f"expected a number {expected}, got {value!r}.")


def check_choice(name, value, choices):
    """Return `value`, one of `choices`; raise ArgumentError otherwise."""
    if isinstance(value, str | int) and not isinstance(value, bool) and value in choices:
        return value
    raise ArgumentError(name, f"expected one of {', '.join(map(str, choices))}, got {value!r}.")


def check_size(name, value):
    """Return `value` as `(height, width)` in pixels, both above 0; raise ArgumentError otherwise."""
    if isinstance(value, list | tuple) and len(value) == 2:
        return tuple(check_number(f"{name}.{side}", number, above=0) for side, number in enumerate(value))
    raise ArgumentError(name, f"expected (height, width) in pixels, got {value!r}.")
