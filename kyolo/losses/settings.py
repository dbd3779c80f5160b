"""Checks of what the losses are constructed with: the same arguments come from Python and from YAML."""

import math


def check_number(name, value, *, minimum=-math.inf, above=-math.inf, maximum=math.inf):
    """Returns `value`, a finite number within the limits, or raises ValueError."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if is_number and above < value and minimum <= value <= maximum:
        return value
    limits = [f">= {minimum:g}" if minimum > -math.inf else "", f"> {above:g}" if above > -math.inf else ""]
    limits.append(f"<= {maximum:g}" if maximum < math.inf else "")
    expected = " and ".join(limit for limit in limits if limit)
    raise ValueError(f"{name}: expected a number {expected}, received {value!r}")


def check_choice(name, value, choices):
    """Returns `value`, one of `choices`, or raises ValueError."""
    if isinstance(value, str | int) and not isinstance(value, bool) and value in choices:
        return value
    raise ValueError(f"{name}: expected one of {', '.join(map(str, choices))}, received {value!r}")


def check_size(name, value):
    """Returns `value` as a tuple of height and width in pixels, both above 0, or raises ValueError."""
    if isinstance(value, list | tuple) and len(value) == 2:
        return tuple(check_number(f"{name}.{side}", number, above=0) for side, number in enumerate(value))
    raise ValueError(f"{name}: expected (height, width) in pixels, received {value!r}")
