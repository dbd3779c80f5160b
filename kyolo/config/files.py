"""Configuration files: strict YAML with one `base:`, dotted overrides, atomic saving."""

import dataclasses
import os
import typing
from collections.abc import Iterable, Mapping
from pathlib import Path

from kyolo.config.blocks import Block, further_field, shorten
from kyolo.config.dialect import parse_yaml, to_yaml
from kyolo.config.errors import ConfigError
from kyolo.config.schema import Config
from kyolo.errors import is_line
from kyolo.files import write_text

_MAX_BYTES = 256 * 1024  # Far above any real file; the YAML parser needs seconds for more.
_NO_PATH: tuple[str, ...] = ()


def load_config(path: str | os.PathLike, overrides: Iterable[str] = ()) -> Config:
    """Read a YAML file, and the `base:` it names, into a checked `Config`.

    Args:
        path: the file. Settings that it does not give keep their defaults.
        overrides: texts such as "train.epochs=60" that win over the file, values written as in YAML; paths in them are
            relative to the current folder, those in a file to the file's.

    Raises:
        ConfigError: the file cannot be read or is no YAML, or a setting is unknown, twice there, missing, mistyped or
            out of range.

    Example:
        >>> load_config("configs/yolov8_n.yaml", ["data.image_size=320"]).data.image_size
        320
    """
    return Config.from_mapping(_override(_load_mapping(Path(path), children=()), overrides))


def load_variant(path: str | os.PathLike, settings: Mapping[str, typing.Any], folder: Path) -> Config:
    """Read a YAML file as `load_config` does, with the settings of one variant of a study on top.

    Args:
        path: the file.
        settings: values by dotted path, such as `{"model.backbone.size": "s"}`. Mappings merge with those of the file,
            lists and other values replace them.
        folder: paths among the settings are relative to it.

    Raises:
        ConfigError: see `load_config`.

    Example:
        >>> load_variant("configs/yolov8_n.yaml", {"model.backbone.size": "s"}, Path(".")).model.backbone.size
        's'
    """
    nested: dict = {}
    for name, value in settings.items():
        try:
            _set(nested, name.split("."), value)
        except ConfigError as error:
            raise ConfigError(name, error.problem) from None
    _anchor_paths(nested, Config, folder)
    return Config.from_mapping(_merge(_load_mapping(Path(path), children=()), nested))


def apply_overrides(config: Config, overrides: Iterable[str]) -> Config:
    """Return a copy of `config` with dotted overrides such as "model.loss.box.kind=siou" applied."""
    return Config.from_mapping(_override(config_to_dict(config), overrides))


def config_to_dict(config: Block) -> dict[str, typing.Any]:
    """Return a configuration, or one block of it, as plain dicts, lists and scalars, in the order of the fields."""
    plain: dict[str, typing.Any] = {}
    further = further_field(type(config))
    for field in dataclasses.fields(config):  # type: ignore[arg-type]
        value = _to_plain(getattr(config, field.name))
        plain |= value if field.name == further else {field.name: value}
    return plain


def read_yaml(path: str | os.PathLike) -> dict[str, typing.Any] | None:
    """Read a mapping from a YAML file; None if the file is empty.

    Raises:
        ConfigError: the file cannot be read, is no YAML or holds something else.
    """
    try:
        document = parse_yaml(_read_text(Path(path)))
        if not isinstance(document, dict | None):
            raise ConfigError("", f"expected a mapping of settings, received {shorten(document)}")
    except ConfigError as error:
        raise ConfigError(str(path), error.problem) from None
    return document


def save_config(config: Config, path: str | os.PathLike) -> None:
    """Write all settings, paths made absolute, as YAML for `load_config`; the file is whole or not there at all."""
    settings = config_to_dict(config)
    _anchor_paths(settings, Config, Path.cwd())
    write_text(Path(path), to_yaml(settings))


def _to_plain(value: typing.Any) -> typing.Any:
    if isinstance(value, Block):
        return config_to_dict(value)
    if isinstance(value, dict):
        return dict(value)
    return [_to_plain(item) for item in value] if isinstance(value, tuple) else value


def _load_mapping(path: Path, children: tuple[Path, ...]) -> dict:
    """Return a file's settings merged into those of its base; `children` are the files that led here."""
    if path.resolve() in children:
        raise ConfigError("base", f"expected a file that does not come back to itself, received {path}")
    settings = read_yaml(path) or {}
    _anchor_paths(settings, Config, path.parent)
    base = settings.pop("base", None)
    if base is None:
        return settings
    if not isinstance(base, str) or not base or not is_line(base):
        raise ConfigError("base", f"expected the name of one file, received {shorten(base)}")
    return _merge(_load_mapping(path.parent / base, (*children, path.resolve())), settings)


def _anchor_paths(settings: dict, block: type[Block], folder: Path) -> None:
    """Make the paths among a file's settings absolute, in place: they are relative to the folder of the file."""
    hints = typing.get_type_hints(block)
    for field in dataclasses.fields(block):  # type: ignore[arg-type]
        value, hint = settings.get(field.name), hints[field.name]
        blocks = [each for each in (hint, *typing.get_args(hint)) if isinstance(each, type) and issubclass(each, Block)]
        if isinstance(value, dict) and blocks:
            _anchor_paths(value, blocks[0], folder)
        elif isinstance(value, str) and value and value.endswith(field.metadata.get("path", _NO_PATH)):
            settings[field.name] = os.path.abspath(folder / value)


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
            value = parse_yaml(text)
            _set(settings, names, value)
        except ConfigError as error:
            raise ConfigError(path.strip(), error.problem) from None
    _anchor_paths(settings, Config, Path.cwd())  # The file's are absolute already.
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
