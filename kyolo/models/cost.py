"""What a detector costs: weights and arithmetic, of the whole and of its parts."""

import math
from typing import NamedTuple

import keras
import tensorflow as tf

from kyolo import _compat
from kyolo.models.pyramid import BEFORE_SPPF


def count_weights(model):
    """Number of trainable weights of a built Keras model or layer."""
    return sum(math.prod(variable.shape) for variable in model.trainable_variables)


def count_gflop(model, image_size):
    """Arithmetic of one forward pass on one image, in units of 10^9 operations, two for each multiply-add.

    Counts the convolutions and matrix products of the traced graph and of the functions in it; the rest (activations,
    batch norm, pooling) is a few per cent.

    Args:
        model: a Keras model on images `(B, H, W, 3)`.
        image_size: `(height, width)` in pixels.
    """
    gflop, _ = _trace(model, tf.TensorSpec((1, *image_size, 3), keras.config.floatx()))
    return gflop


class Part(NamedTuple):
    """A part of a detector, or a piece of one, and what it costs.

    Attributes:
        name: "backbone", "top", "neck", "head", or the name of a layer for attention.
        outputs: shapes of what it hands on for one image, without the batch axis.
        weights: number of trainable weights.
        gflop: as `count_gflop`.
        pieces: the attention in it, a `Part` each, counted in the part too.
    """

    name: str
    outputs: tuple[tuple[int, ...], ...]
    weights: int
    gflop: float
    pieces: tuple["Part", ...] = ()


def describe_parts(detector, image_size):
    """Cost of each part of a detector, in the order of the data's way.

    Args:
        detector: a `Detector`.
        image_size: `(height, width)` in pixels, multiples of the largest stride.

    Returns:
        A list of `Part`.
    """
    parts = []
    inputs = tf.TensorSpec((1, *image_size, 3), keras.config.floatx())
    for name in ("backbone", "top", "neck", "head"):
        part = getattr(detector, name)
        gflop, outputs = _trace(part, inputs)
        shapes = tuple(tuple(spec.shape[1:]) for spec in tf.nest.flatten(outputs))
        maps = {} if name in ("backbone", "head") else _maps_of_places(detector, name, inputs, outputs)
        pieces = [
            Part(layer.name, (tuple(maps[place].shape[1:]),), count_weights(layer), _trace(layer, maps[place])[0])
            for place, layers in getattr(part, "attention", {}).items()
            for layer in layers
        ]
        parts.append(Part(name, shapes, count_weights(part), gflop, tuple(pieces)))
        inputs = outputs
    return parts


def _maps_of_places(detector, name, inputs, outputs):
    """The maps on which the attention of top or neck runs: it keeps their shape."""
    if name == "neck":
        return dict(zip(detector.neck.places, outputs, strict=True))
    last = detector.top.inner[-1].name
    return {BEFORE_SPPF: inputs[last], **{level.name: x for level, x in zip(detector.levels, outputs, strict=True)}}


def _trace(layer, inputs):
    """GFLOP of one forward pass, and the specs of what comes out."""
    graph = tf.function(lambda x: layer(x, training=False)).get_concrete_function(inputs)
    outputs = tf.nest.map_structure(lambda x: tf.TensorSpec(x.shape, x.dtype), graph.structured_outputs)
    return _graph_operations(graph.graph) / 1e9, outputs


def _graph_operations(graph):
    """Operations of a graph and of the functions that it calls: Keras runs grouped convolutions in one of their own."""
    total = 0
    for op in graph.get_operations():
        if op.type in ("PartitionedCall", "StatefulPartitionedCall"):
            total += _graph_operations(_compat.called_graph(graph, op))
        else:
            total += _operations(op)
    return total


def _operations(op):
    if op.type in ("Conv2D", "DepthwiseConv2dNative"):
        height, width, channels, _ = op.inputs[1].shape  # a grouped kernel holds the channels of one group
        per_output = height * width * (channels if op.type == "Conv2D" else 1)
    elif op.type == "Conv2DBackpropInput":  # a transposed convolution: each value of its input meets the whole kernel
        height, width, channels, _ = op.inputs[1].shape
        return 2 * height * width * channels * math.prod(op.inputs[2].shape)
    elif op.type == "MatMul":
        per_output = op.inputs[0].shape[0 if op.get_attr("transpose_a") else 1]
    elif op.type == "BatchMatMulV2":
        per_output = op.inputs[0].shape[-2 if op.get_attr("adj_x") else -1]
    elif op.type == "Einsum":
        given, _, made = op.get_attr("equation").decode().partition("->")
        sizes = {}
        for labels, x in zip(given.split(","), op.inputs, strict=True):
            sizes |= dict(zip(labels, x.shape, strict=True))
        per_output = math.prod(size for label, size in sizes.items() if label not in made)
    else:
        return 0
    return 2 * per_output * math.prod(op.outputs[0].shape)
