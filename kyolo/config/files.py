"""Configuration files: strict YAML with one `base:`, dotted overrides, atomic saving."""

import contextlib
import dataclasses
import os
import tempfile
import typing
from collections.abc import Iterable
from pathlib import Path

import yaml

from kyolo.config.blocks import Block, shorten
from kyolo.config.errors import ConfigError
from kyolo.config.schema import Config
from kyolo.errors import is_line

_MAX_BYTES = 256 * 1024  # Far above any real file; the YAML parser needs seconds for more.
_MAX_BRACKETS = 50


def load_config(path: str | os.PathLike, overrides: Iterable[str] = ()) -> Config:
    """Read a YAML file, and the `base:` it names, into a checked `Config`.

    Args:
        path: the file. Settings that it does not give keep their defaults.
        overrides: texts such as "train.epochs=60" that win over the file, values written as in YAML.

    Raises:
        ConfigError: the file cannot be read or is no YAML, or a setting is unknown, twice there, missing, mistyped or
            out of range.

    Example:
        >>> load_config("configs/yolov8_n.yaml", ["data.image_size=320"]).data.image_size
        320
    """
    return Config.from_mapping(_override(_load_mapping(Path(path), children=()), overrides))


def apply_overrides(config: Config, overrides: Iterable[str]) -> Config:
    """Return a copy of `config` with dotted overrides such as "model.loss.box.kind=siou" applied."""
    return Config.from_mapping(_override(config_to_dict(config), overrides))


def config_to_dict(config: Block) -> dict[str, typing.Any]:
    """Return a configuration, or one block of it, as plain dicts, lists and scalars, in the order of the fields."""
    return {field.name: _to_plain(getattr(config, field.name)) for field in dataclasses.fields(config)}  # type: ignore[arg-type]


def save_config(config: Config, path: str | os.PathLike) -> None:
    """Write all settings as YAML that `load_config` reads back equal; the file is whole or not there at all."""
    path = Path(path)
    text = yaml.safe_dump(
        config_to_dict(config), sort_keys=False, allow_unicode=True, default_flow_style=None, width=110
    )
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)  # mkstemp's files are the owner's alone.
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise


def _to_plain(value: typing.Any) -> typing.Any:
    if isinstance(value, Block):
        return config_to_dict(value)
    return [_to_plain(item) for item in value] if isinstance(value, tuple) else value


class _StrictLoader(yaml.SafeLoader):
    """Plain YAML data only: no key twice, and neither tags nor aliases, which can make small files huge."""

    def fetch_flow_collection_start(self, TokenClass: typing.Any) -> None:
        if self.flow_level >= _MAX_BRACKETS:  # The scanner takes a second for a thousand.
            problem = f"more than {_MAX_BRACKETS} brackets inside each other"
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=self.get_mark())
        super().fetch_flow_collection_start(TokenClass)

    def compose_node(self, parent: typing.Any, index: typing.Any) -> typing.Any:
        event = self.peek_event()
        if isinstance(event, yaml.AliasEvent) or getattr(event, "tag", None) is not None:
            raise yaml.MarkedYAMLError(
                problem="aliases (*) and tags (!) are not allowed", problem_mark=event.start_mark
            )
        return super().compose_node(parent, index)

    def construct_mapping(self, node: typing.Any, deep: bool = False) -> dict:
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.MarkedYAMLError(problem="a key must be a name", problem_mark=key.start_mark)
            if key.value in seen:
                raise yaml.MarkedYAMLError(problem=f"key {shorten(key.value)} twice", problem_mark=key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


# Without dates and merge keys: they stay text, as everything else that is no number and neither true, false nor null.
_StrictLoader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag.rsplit(":", 1)[1] in ("null", "bool", "int", "float")]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def _parse_yaml(text: str) -> typing.Any:
    """Return the plain data that a YAML text holds, or raise a `ConfigError` without a path."""
    try:
        return _StrictLoader(text).get_single_data()
    except yaml.MarkedYAMLError as error:
        place = f" in line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise ConfigError("", f"expected YAML, received a mistake{place}: {error.problem}") from None
    except RecursionError:
        raise ConfigError("", "expected a few levels of YAML, received hundreds inside each other") from None
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError("", f"expected YAML, received a mistake: {reason:.200}") from None


def _load_mapping(path: Path, children: tuple[Path, ...]) -> dict:
    """Return a file's settings merged into those of its base; `children` are the files that led here."""
    if path.resolve() in children:
        raise ConfigError("base", f"expected a file that does not come back to itself, received {path}")
    try:
        settings = _parse_yaml(_read_text(path))
        if not isinstance(settings, dict | None):
            raise ConfigError("", f"expected a mapping of settings, received {shorten(settings)}")
    except ConfigError as error:
        raise ConfigError(str(path), error.problem) from None
    settings = settings or {}
    base = settings.pop("base", None)
    if base is None:
        return settings
    if not isinstance(base, str) or not base or not is_line(base):
        raise ConfigError("base", f"expected the name of one file, received {shorten(base)}")
    return _merge(_load_mapping(path.parent / base, (*children, path.resolve())), settings)


def _read_text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ConfigError("", f"expected a readable YAML file, received: {reason}") from None
    if len(content) > _MAX_BYTES:
        raise ConfigError("", f"expected at most {_MAX_BYTES // 1024} KiB of YAML, received more")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError("", f"expected UTF-8 text, received other bytes at position {error.start}") from None


def _merge(base: dict, settings: dict) -> dict:
    """Return `base` with `settings` on top: mappings merge, lists and scalars replace."""
    merged = dict(base)
    for key, value in settings.items():
        below = merged.get(key)
        merged[key] = _merge(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return merged


def _override(settings: dict, overrides: Iterable[str]) -> dict:
    """Return `settings`, changed in place by "dotted.path=value" texts; numbers in the path count list items."""
    for override in overrides:
        path, equals, text = override.partition("=")
        names = path.strip().split(".")
        if not equals or not all(names):
            raise ConfigError("", f"expected an override like train.epochs=60, received {shorten(override)}")
        try:
            value = _parse_yaml(text)
            _set(settings, names, value)
        except ConfigError as error:
            raise ConfigError(path.strip(), error.problem) from None
    return settings


def _set(settings: typing.Any, names: list[str], value: typing.Any) -> None:
    parent, last = settings, names[-1]
    for name in names[:-1]:
        if isinstance(parent, dict) and parent.get(name) is None:
            parent[name] = {}
        parent = parent[_key_of(parent, name)]
    parent[_key_of(parent, last)] = value


def _key_of(parent: typing.Any, name: str) -> str | int:
    if isinstance(parent, dict):
        return name
    if not isinstance(parent, list):
        raise ConfigError("", f"expected a block with a setting {shorten(name)}, received the value {shorten(parent)}")
    if not (name.isdecimal() and name.isascii() and len(name) < 9 and int(name) < len(parent)):
        raise ConfigError("", f"expected the number of an item below {len(parent)}, received {shorten(name)}")
    return int(name)
