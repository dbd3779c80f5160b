"""What a `.tflite` tells MediaPipe Tasks of itself, so that its ObjectDetector opens it without code of one's own.

The schema's classes come from the package mediapipe (extra `mediapipe`).
"""

import importlib
import io
import types
import zipfile
from collections.abc import Sequence
from typing import Any

import flatbuffers
from ai_edge_litert import schema_py_generated as schema

from kyolo.errors import InputError
from kyolo.export.flatbuffer import append, pack, unpack

METADATA_NAME = b"TFLITE_METADATA"  # by which readers look for it
LABELS_FILE = "labels.txt"
# In the order in which ObjectDetector takes them: the graph's name of an output, and the name that the metadata gives.
OUTPUTS = {"locations": "location", "categories": "category", "scores": "score", "count": "number of detections"}


def check_labels(class_names: Sequence[str]) -> None:
    """Looks for what stands against metadata, before minutes of conversion.

    Raises:
        InputError: the package mediapipe is not installed, or a name cannot stand on a line of its own.
    """
    for name in class_names:
        if name.splitlines() != [name]:
            raise InputError(f"class name {name!r}: expected one line of text for {LABELS_FILE}, received another")
    _schema()


def add_metadata(content: bytes, class_names: Sequence[str], description: str) -> bytes:
    """Brings the outputs into MediaPipe's order, and adds metadata and the labels.

    Args:
        content: a `.tflite` with the outputs of `kyolo.export.network.task_outputs`.
        class_names: name of each label.
        description: one line.

    Returns:
        The file's content, behind it a zip of the labels, as TFLite Metadata has it.

    Raises:
        InputError: see `check_labels`.
    """
    check_labels(class_names)
    model = unpack(content)
    graph = model.subgraphs[0]
    tensors = {named.name.decode(): named.tensorIndex for named in model.signatureDefs[0].outputs}
    graph.outputs = [tensors[name] for name in OUTPUTS]
    buffer = append(model.buffers, schema.BufferT(data=list(_metadata(description, graph))))
    model.metadata = [*(model.metadata or []), schema.MetadataT(name=METADATA_NAME, buffer=buffer)]
    file = io.BytesIO()
    file.write(pack(model))
    with zipfile.ZipFile(file, "a") as archive:
        labels = zipfile.ZipInfo(LABELS_FILE)  # of a fixed date: equal detectors give equal files
        archive.writestr(labels, "\n".join(class_names) + "\n")
    return file.getvalue()


def _metadata(description: str, graph: schema.SubGraphT) -> bytes:
    fields = _schema()
    normalization = fields.NormalizationOptionsT(mean=[0.0], std=[1.0])  # the network takes 0..255
    image = fields.TensorMetadataT(
        name="image",
        description="RGB pixels, 0 to 255, of the whole image stretched to the input",
        content=_content(fields, "ImageProperties", colorSpace=fields.ColorSpaceType.RGB),
        stats=fields.StatsT(min=[0.0], max=[255.0]),
    )
    if graph.tensors[graph.inputs[0]].type == schema.TensorType.FLOAT32:
        unit = fields.ProcessUnitT(optionsType=fields.ProcessUnitOptions.NormalizationOptions, options=normalization)
        image.processUnits = [unit]
    outputs = [
        fields.TensorMetadataT(name=name, content=_content(fields, "FeatureProperties")) for name in OUTPUTS.values()
    ]
    location, category, score, _ = outputs
    location.content = _content(
        fields,
        "BoundingBoxProperties",
        index=[1, 0, 3, 2],  # where left, top, right and bottom stand
        type=fields.BoundingBoxType.BOUNDARIES,
        coordinateType=fields.CoordinateType.RATIO,
    )
    category.associatedFiles = [
        fields.AssociatedFileT(name=LABELS_FILE, type=fields.AssociatedFileType.TENSOR_VALUE_LABELS)
    ]
    for each in (location, category, score):
        each.content.range = fields.ValueRangeT(min=2, max=2)  # the axis of the detections
    subgraph = fields.SubGraphMetadataT(
        inputTensorMetadata=[image],
        outputTensorMetadata=outputs,
        outputTensorGroups=[
            fields.TensorGroupT(
                name="detection_result", tensorNames=[each.name for each in (location, category, score)]
            )
        ],
    )
    metadata = fields.ModelMetadataT(
        name="ObjectDetector", description=description, subgraphMetadata=[subgraph], minParserVersion="1.2.0"
    )
    builder = flatbuffers.Builder(0)
    builder.Finish(metadata.Pack(builder), file_identifier=b"M001")
    return bytes(builder.Output())


def _content(fields: types.ModuleType, kind: str, **properties: Any) -> Any:
    return fields.ContentT(
        contentPropertiesType=getattr(fields.ContentProperties, kind),
        contentProperties=getattr(fields, f"{kind}T")(**properties),
    )


def _schema() -> types.ModuleType:
    try:
        return importlib.import_module("mediapipe.tasks.metadata.metadata_schema_py_generated")
    except ImportError as error:
        raise InputError(
            f'metadata: expected the package mediapipe (pip install --editable ".[mediapipe]"), received '
            f"{type(error).__name__}: {error}"
        ) from error
