"""What every block of the configuration shares: typed, ranged, documented settings, checked when they are set."""

import dataclasses
import math
import operator
import re
import reprlib
import types
import typing
from collections.abc import Callable, Iterable, Mapping

from kyolo.config.errors import ConfigError
from kyolo.errors import did_you_mean, is_line

_TYPE_NAMES = {bool: "true or false", int: "a whole number", float: "a number", str: "one line of text"}
_COUNT = r"([0-9]{1,9}(?:\.[0-9]{1,9})?)"
_DURATION = re.compile(rf"(?:{_COUNT} ?h)? ?(?:{_COUNT} ?m)? ?(?:{_COUNT} ?s)?")
_LIMITS = {
    "minimum": (">=", operator.ge),
    "above": (">", operator.gt),
    "maximum": ("<=", operator.le),
    "below": ("<", operator.lt),
}

# Received values are quoted on one line of a bearable length, however large or deeply nested they are.
_shortened = reprlib.Repr()
_shortened.maxstring = _shortened.maxother = _shortened.maxlong = 60


def setting(  # noqa: PLR0913 (all that can be said of a setting, by name)
    default: typing.Any = dataclasses.MISSING,
    *,
    doc: str,
    choices: tuple[str, ...] | Callable[[], tuple[str, ...]] | None = None,
    minimum: float | None = None,
    maximum: float | None = None,
    above: float | None = None,
    below: float | None = None,
    path: tuple[str, ...] = (),
    duration: bool = False,
) -> typing.Any:
    """Declare one setting of a `Block`.

    Args:
        default: its value where the file says nothing (of a mapping, a copy); without one the setting must be given.
        doc: one line: meaning, unit, and where the default comes from.
        choices: the only texts allowed, or a function that gives them. For tuples and mappings, choices and limits
            hold for each item.
        minimum: smallest number allowed.
        maximum: largest number allowed.
        above: numbers must be larger than this.
        below: numbers must be smaller than this.
        path: texts with one of these endings are paths; in a file they are relative to its folder. ("",): all texts.
        duration: seconds, or a text such as "90s", "5m" or "1h30m".
    """
    limits = {"minimum": minimum, "maximum": maximum, "above": above, "below": below}
    more = {"choices": choices, "path": path, "duration": duration}
    given: dict = {"default_factory": default.copy} if isinstance(default, dict) else {"default": default}
    return dataclasses.field(**given, metadata={"doc": doc, **more, **limits})


def further_settings(doc: str) -> typing.Any:
    """Declare the field, a dict, that takes the keys of a `Block` which no other field has."""
    return dataclasses.field(default_factory=dict, metadata={"doc": doc})


class Block:
    """Base of the frozen dataclasses: checks and converts every field, from YAML and from Python alike.

    Lists become tuples, whole numbers become floats where a float is meant, and mappings become blocks, or stay what
    they are where the keys are free (`dict[str, float]`). Everything
    else that does not fit its annotation, choices or limits raises `ConfigError`.

    Attributes:
        shorthand: name of the one setting that a text in the block's place stands for; None where that is an error.
    """

    shorthand: typing.ClassVar[str | None] = None

    def __post_init__(self) -> None:
        hints = typing.get_type_hints(type(self))
        for field in dataclasses.fields(self):  # type: ignore[arg-type]
            try:
                value = _convert(getattr(self, field.name), hints[field.name], field.metadata)
            except ConfigError as error:
                raise (error if hints[field.name] is dict else error.under(field.name)) from None
            object.__setattr__(self, field.name, value)
            for key in value if hints[field.name] is dict else ():
                if key in hints:
                    raise ConfigError(
                        key, "expected a setting of the block itself, received one among its further keys"
                    )
        self.check()

    def check(self) -> None:
        """Check what no field can say alone; blocks with such rules override this."""

    @classmethod
    def from_mapping(cls, mapping: Mapping) -> typing.Self:
        """Build the block from a mapping of its settings; unknown and missing keys raise `ConfigError`."""
        further = further_field(cls)
        fields = [field for field in dataclasses.fields(cls) if field.name != further]  # type: ignore[arg-type]
        names = [field.name for field in fields]
        unknown = {key: value for key, value in mapping.items() if key not in names}
        for key in unknown:
            if further is None:
                raise ConfigError(shorten(key, quote=False), f"unknown key; expected {one_of(names, key)}")
        for field in fields:
            needed = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
            if needed and field.name not in mapping:
                raise ConfigError(
                    field.name, f"missing; expected {_expected(str, field.metadata, None)}, received nothing"
                )
        known = {key: value for key, value in mapping.items() if key in names}
        return cls(**known) if further is None else cls(**known, **{further: unknown})


def further_field(block: type[Block]) -> str | None:
    """Return the name of the field that `further_settings` declared, if there is one."""
    hints = typing.get_type_hints(block)
    return next((field.name for field in dataclasses.fields(block) if hints[field.name] is dict), None)  # type: ignore[arg-type]


def shorten(value: object, *, quote: bool = True) -> str:
    """Return `value` as text on one line, at most some 60 characters long; text is quoted unless told otherwise."""
    if value is None:
        return "null"
    try:
        text = _shortened.repr(value)
    except ValueError:  # Python refuses to print whole numbers of more than 4300 digits.
        text = "thousands of digits"
    return text[1:-1] if isinstance(value, str) and not quote else text


def _convert(value: typing.Any, hint: typing.Any, rules: Mapping) -> typing.Any:
    """Return `value` as the annotation `hint` wants it, or raise."""
    if isinstance(hint, types.UnionType):
        members = [member for member in typing.get_args(hint) if member is not types.NoneType]
        if value is None and len(members) < len(typing.get_args(hint)):
            return None
        plain = tuple(value) if isinstance(value, list) else value
        fitting = [member for member in members if isinstance(plain, typing.get_origin(member) or member)]
        return _convert(value, [*fitting, *members][0], rules)
    if typing.get_origin(hint) is tuple:
        return _convert_items(value, hint, rules)
    if typing.get_origin(hint) is dict:
        return _convert_mapping(value, hint, rules)
    if hint is dict:
        return _convert_further(value)
    if issubclass(hint, Block):
        if isinstance(value, hint):
            return value
        if isinstance(value, str) and hint.shorthand is not None:
            value = {hint.shorthand: value}
        if not isinstance(value, Mapping):
            raise ConfigError("", f"expected a mapping of settings, received {shorten(value)}")
        return hint.from_mapping(value)
    return _convert_scalar(value, hint, rules)


def _convert_items(value: typing.Any, hint: typing.Any, rules: Mapping) -> tuple:
    item_hint, *others = typing.get_args(hint)
    count = None if others == [Ellipsis] else 1 + len(others)
    if not isinstance(value, list | tuple) or (count is not None and len(value) != count):
        expected = "a list" if count is None else f"a list of {count}"
        raise ConfigError("", f"expected {expected}, received {shorten(value)}")
    items = []
    for position, item in enumerate(value):
        try:
            items.append(_convert(item, item_hint, rules))
        except ConfigError as error:
            raise error.under(position) from None
    return tuple(items)


def _convert_mapping(value: typing.Any, hint: typing.Any, rules: Mapping) -> dict:
    if not isinstance(value, Mapping):
        raise ConfigError("", f"expected a mapping, received {shorten(value)}")
    items = {}
    for key, item in value.items():
        if not isinstance(key, str) or not key or not is_line(key):
            raise ConfigError(shorten(key, quote=False), "expected a name, received another key")
        try:
            items[key] = _convert(item, typing.get_args(hint)[1], rules)
        except ConfigError as error:
            raise error.under(shorten(key, quote=False)) from None
    return items


def _convert_further(value: typing.Any) -> dict:
    if not isinstance(value, Mapping):
        raise ConfigError("", f"expected a mapping of settings, received {shorten(value)}")
    for key, item in value.items():
        if not isinstance(key, str) or not key.isidentifier():
            raise ConfigError(shorten(key, quote=False), "unknown key; expected a word of letters and underscores")
        for one in item if isinstance(item, list | tuple) else (item,):
            if not (one is None or (isinstance(one, bool | int | float | str) and _is_allowed(one, {}))):
                raise ConfigError(key, f"expected a number, a text or a list of them, received {shorten(item)}")
    return {key: list(item) if isinstance(item, tuple) else item for key, item in value.items()}


def _convert_scalar(value: typing.Any, kind: type, rules: Mapping) -> typing.Any:
    if rules["duration"] and isinstance(value, str):
        value = _seconds(value)
    if kind is float and type(value) is int and abs(value) < 1e300:
        value = float(value)
    if type(value) is kind and _is_allowed(value, rules):
        return value
    raise ConfigError("", f"expected {_expected(kind, rules, value)}, received {shorten(value)}{_hint(value, kind)}")


def _seconds(text: str) -> float | str:
    """Return the seconds of "1h30m" and the like, or the text if it is none."""
    found = _DURATION.fullmatch(text)
    if not found or not text:
        return text
    return sum(float(number) * unit for number, unit in zip(found.groups(default="0"), (3600, 60, 1), strict=True))


def _is_allowed(value: typing.Any, rules: Mapping) -> bool:
    if isinstance(value, str):
        choices = choices_of(rules)
        return bool(value) and is_line(value) if choices is None else value in choices
    is_number = abs(value) < 2**63 if isinstance(value, int) else math.isfinite(value)
    return is_number and all(
        rules.get(name) is None or compare(value, rules[name]) for name, (_, compare) in _LIMITS.items()
    )


def _expected(kind: type, rules: Mapping, received: object) -> str:
    if rules["duration"]:
        return "seconds above 0, or a duration such as 90s, 5m or 1h30m"
    choices = choices_of(rules)
    limits = [f"{sign} {rules[name]}" for name, (sign, _) in _LIMITS.items() if rules[name] is not None]
    if choices is not None:
        number = f"{_TYPE_NAMES[int]} {' and '.join(limits)}, or " if limits else ""  # an `int | str`
        own = ", or one that a module given by --import registers" if callable(rules["choices"]) else ""
        return number + one_of(choices, received) + own
    return " ".join([_TYPE_NAMES[kind], " and ".join(limits)]).strip()


def choices_of(rules: Mapping) -> tuple[str, ...] | None:
    """Return the only texts that the metadata of a field allows, if it names any."""
    choices = rules.get("choices")
    return choices() if callable(choices) else choices


def one_of(names: Iterable[str], received: object) -> str:
    """List the names allowed; where one is near to what was received, ask whether that is meant."""
    names = list(names)
    listed = names[0] if len(names) == 1 else "one of " + ", ".join(names)
    return listed + (did_you_mean(received, names) if isinstance(received, str) else "")


def _hint(value: object, kind: type) -> str:
    """Return how to write what was probably meant."""
    if kind is str and isinstance(value, bool | int | float):
        return " (put it in quotes)"
    return ""
