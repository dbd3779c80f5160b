"""What a detector costs: weights and arithmetic."""

import math

import keras
import tensorflow as tf


def count_weights(model):
    """Number of trainable weights of a built Keras model or layer."""
    return sum(math.prod(variable.shape) for variable in model.trainable_variables)


def count_gflop(model, image_size):
    """Arithmetic of one forward pass on one image, in units of 10^9 operations, two for each multiply-add.

    Counts the convolutions and matrix products of the traced graph; the rest (activations, batch norm, pooling) is
    a few per cent.

    Args:
        model: a Keras model on images `(B, H, W, 3)`.
        image_size: `(height, width)` in pixels.
    """
    spec = tf.TensorSpec((1, *image_size, 3), keras.config.floatx())
    graph = tf.function(lambda images: model(images, training=False)).get_concrete_function(spec).graph
    return sum(_operations(op) for op in graph.get_operations()) / 1e9


def _operations(op):
    if op.type in ("Conv2D", "DepthwiseConv2dNative"):
        height, width, channels, _ = op.inputs[1].shape  # a grouped kernel holds the channels of one group
        per_output = height * width * (channels if op.type == "Conv2D" else 1)
    elif op.type == "MatMul":
        per_output = op.inputs[0].shape[0 if op.get_attr("transpose_a") else 1]
    else:
        return 0
    return 2 * per_output * math.prod(op.outputs[0].shape)
