"""Write docs/configuration.md from the dataclasses of kyolo.config: every setting, its type, default and meaning."""

import argparse
import dataclasses
import inspect
import sys
import types
import typing
from collections.abc import Iterator
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from kyolo.config import Block, Config, choices_of  # noqa: E402 (a clone that is not installed)

OUTPUT = ROOT / "docs" / "configuration.md"
HEAD = """# Configuration

A configuration is a YAML file, or nothing at all: every setting has a default. `base: other.yaml` takes another file's
settings first; mappings merge, lists and scalars replace. On the command line `--set train.epochs=60` changes one,
`--set model.attention.0.init=paper` an item of a list, and `--set 'model.attention=[{kind: gam}]'` a whole one. Paths
in a file are relative to it. Durations are seconds, or texts such as `90s`, `5m` and `1h30m`. An unknown or repeated
key, a wrong type, and a number out of range stop the run and say what was expected; the resolved configuration is the
first file of a run. Nothing in a file is executed, and YAML's tags and aliases are refused.

This page is written by `python tools/configuration_reference.py`.
"""
TYPES = {bool: "true, false", int: "whole number", float: "number", str: "text"}
LIMITS = (("minimum", ">="), ("above", ">"), ("maximum", "<="), ("below", "<"))


def main() -> int:
    """Write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=OUTPUT, help="file to write (default: docs/configuration.md)")
    parser.parse_args().output.write_text(reference(), encoding="utf-8")
    return 0


def reference() -> str:
    """The page: a table for each block."""
    parts = [HEAD]
    for path, block in blocks(Config, ""):
        rows = [row(field, hint) for field, hint in settings(block)]
        if rows:
            header = "| setting | value | default | what |\n|---|---|---|---|\n"
            parts.append(f"## {path}\n\n{inspect.getdoc(block)}\n\n{header}" + "".join(rows))
    return "\n".join(parts)


def blocks(block: type[Block], path: str) -> Iterator[tuple[str, type[Block]]]:
    """The block and those below it with their dotted paths, in the order of the fields."""
    yield path, block
    for name, hint in typing.get_type_hints(block).items():
        for inner in (hint, *typing.get_args(hint)):
            if isinstance(inner, type) and issubclass(inner, Block):
                below = f"{path}.{name}".strip(".")
                item = typing.get_origin(hint) is tuple
                yield from blocks(inner, f"{below}.0" if item else below)


def settings(block: type[Block]) -> Iterator[tuple[dataclasses.Field, typing.Any]]:
    """The fields that hold values, with their types."""
    hints = typing.get_type_hints(block)
    for field in dataclasses.fields(block):  # type: ignore[arg-type]
        if "doc" in field.metadata:
            yield field, hints[field.name]


def row(field: dataclasses.Field, hint: typing.Any) -> str:
    """A line of a table."""
    if hint is dict:
        return f"| further keys | number, text or list of them | none | {field.metadata['doc']} |\n"
    value = field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
    default = "must be given" if value is dataclasses.MISSING else f"`{plain(value)}`"
    return f"| `{field.name}` | {kind(field, hint)} | {default} | {field.metadata['doc']} |\n"


def kind(field: dataclasses.Field, hint: typing.Any) -> str:
    """What values a setting takes."""
    members = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    names = [name_of(field, member) for member in members if member is not types.NoneType]
    return " or ".join([*names, *["null"] * (types.NoneType in members)])


def name_of(field: dataclasses.Field, hint: typing.Any) -> str:
    """The name of one type, with its choices and limits."""
    if typing.get_origin(hint) is tuple:
        item, *others = typing.get_args(hint)
        block = isinstance(item, type) and issubclass(item, Block)
        inner = "blocks" if block else name_of(field, item)
        return f"list of {inner}" if others == [Ellipsis] else f"list of {1 + len(others)} of them"
    if typing.get_origin(hint) is dict:
        return f"mapping of names to {name_of(field, typing.get_args(hint)[1])}"
    choices = choices_of(field.metadata)
    if choices and hint is str:
        return ", ".join(f"`{choice}`" for choice in choices)
    if field.metadata["duration"]:
        return "duration"
    if isinstance(hint, type) and issubclass(hint, Block):
        return "text or block"
    limits = [f"{sign} {field.metadata[name]}" for name, sign in LIMITS if field.metadata[name] is not None]
    return " ".join([TYPES[hint], ", ".join(limits)]).strip()


def plain(value: object) -> str:
    """A default as YAML has it."""
    return yaml.safe_dump(list(value) if isinstance(value, tuple) else value, default_flow_style=True).splitlines()[0]


if __name__ == "__main__":
    sys.exit(main())
