"""A `.tflite` as Python objects, and back."""

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
