"""A `.tflite` as Python objects, and back."""

import json
from collections.abc import Sequence
from typing import Any

import flatbuffers
from ai_edge_litert import schema_py_generated as schema


def unpack(content: bytes) -> schema.ModelT:
    """The model of a file."""
    return schema.ModelT.InitFromObj(schema.Model.GetRootAs(content, 0))


def pack(model: schema.ModelT) -> bytes:
    """The content of a model's file."""
    builder = flatbuffers.Builder(0)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


def append(items: list, item: Any) -> int:
    """Appends, and returns the index."""
    items.append(item)
    return len(items) - 1


def describe(content: bytes, class_names: Sequence[str], fit: str) -> bytes:
    """The same file with a description that tells, as JSON, what the graph does not."""
    model = unpack(content)
    model.description = json.dumps({"class_names": list(class_names), "fit": fit}, ensure_ascii=False)
    return pack(model)


def description(content: bytes) -> tuple[tuple[str, ...], str | None]:
    """The class names and the fit that `describe` wrote into a file; () and None where another wrote it."""
    try:
        about = json.loads(schema.Model.GetRootAs(content, 0).Description() or b"")
        names, fit = about["class_names"], about["fit"]
    except (ValueError, TypeError, KeyError):
        return (), None
    described = isinstance(names, list) and all(isinstance(each, str) for each in [fit, *names])
    return (tuple(names), fit) if described else ((), None)
