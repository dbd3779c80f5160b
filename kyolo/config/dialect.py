"""YAML as kyolo reads and writes it: plain data, and numbers as people write them."""

import re
import typing

import yaml

from kyolo.config.blocks import shorten
from kyolo.config.errors import ConfigError

# Unlike YAML 1.1, which takes 1e-3 for text, 010 for 8, 1:30 for 90 and `no` for false.
_SCALARS = (
    ("null", re.compile(r"^(?:~|null|Null|NULL|)$"), ["~", "n", "N", ""]),
    ("bool", re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF")),
    ("int", re.compile(r"^[-+]?[0-9]+(?:_[0-9]+)*$"), list("-+0123456789")),
    (
        "float",
        re.compile(r"^[-+]?(?:[0-9]+(?:_[0-9]+)*(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?$"),
        list("-+.0123456789"),
    ),
)
_MAX_BRACKETS = 50


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


class _Dumper(yaml.SafeDumper):
    """Writes text in quotes where `_StrictLoader`, or any reader of YAML 1.1, would take it for something else."""


_StrictLoader.yaml_implicit_resolvers = {}
for _name, _pattern, _first in _SCALARS:
    _StrictLoader.add_implicit_resolver(f"tag:yaml.org,2002:{_name}", _pattern, _first)
    _Dumper.add_implicit_resolver(f"tag:yaml.org,2002:{_name}", _pattern, _first)
_StrictLoader.add_constructor("tag:yaml.org,2002:int", lambda _, node: int(node.value))
_StrictLoader.add_constructor("tag:yaml.org,2002:float", lambda _, node: float(node.value))


def parse_yaml(text: str) -> typing.Any:
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


def to_yaml(data: typing.Any) -> str:
    """Return plain data as YAML that `parse_yaml` reads back equal."""
    return yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=True, default_flow_style=None, width=110)
