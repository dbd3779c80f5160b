"""Detectors whose outputs depend on the image, without training: one real, one of a single convolution."""

import contextlib

import keras
import numpy as np
import tensorflow as tf
from keras import ops

import kyolo
from kyolo.boxes.nms import NMSSettings

IMAGE_SIZE = (64, 96)
CLASS_NAMES = ("cell", "platelet", "other")


def random_images(count=3, seed=0):
    """Images of different sizes: coarse noise, whose edges survive the strides."""
    rng = np.random.default_rng(seed)
    for i in range(count):
        coarse = rng.integers(0, 256, (6 + i, 9 - i, 3), dtype=np.uint8)
        yield coarse.repeat(13, axis=0).repeat(11, axis=1)


def lively_detector(seed=0):
    """A narrow detector with batch-norm statistics of real activations and wide logits.

    As initialised, its logits hardly depend on the image, and a comparison of two of them proves nothing. Wider still,
    and scores are 1 within float32, where their order means nothing.
    """
    detector = kyolo.YOLOv8("p", CLASS_NAMES, image_size=IMAGE_SIZE, seed=seed)
    norms = [layer for layer in detector._flatten_layers() if isinstance(layer, keras.layers.BatchNormalization)]
    kept = [layer.momentum for layer in norms]
    for layer in norms:
        layer.momentum = 0.0  # one step in training mode sets the statistics
    noise = np.random.default_rng(seed).integers(0, 256, (4, 8, 12, 3)).repeat(8, axis=1).repeat(8, axis=2)
    detector(noise.astype(np.uint8), training=True)
    for layer, momentum in zip(norms, kept, strict=True):
        layer.momentum = momentum
    for variable in detector.head.trainable_variables:
        if variable.path.endswith("class_logits/bias"):
            variable.assign(np.zeros(variable.shape))
        elif variable.path.endswith("logits/kernel"):
            variable.assign(np.random.default_rng(seed).normal(0, 0.05, variable.shape))
    return detector


class TinyDetector(keras.Model):
    """One convolution of stride 16 with a detector's interface: exported in a second.

    Args:
        graph_error: added to the class logits in graphs only, so that an export is not what it was made of.
        image_fit: "letterbox" or "stretch".
        class_names: names of the three classes.
    """

    nms = NMSSettings()
    image_size = IMAGE_SIZE

    def __init__(self, graph_error=0.0, image_fit="letterbox", class_names=CLASS_NAMES):
        super().__init__()
        self.graph_error = graph_error
        self.image_fit = image_fit
        self.class_names = class_names
        self.convolution = keras.layers.Conv2D(4 + len(CLASS_NAMES), 16, strides=16)
        self.convolution.build((None, None, None, 3))
        kernel, bias = self.convolution.variables
        kernel.assign(np.random.default_rng(0).normal(0, 0.03, kernel.shape))
        bias.assign(np.zeros(bias.shape))
        self.built = True

    def call(self, images, training=None):
        del training
        maps = self.convolution(ops.cast(images, "float32") / 255)
        if not tf.executing_eagerly():
            maps = maps + self.graph_error
        return ops.reshape(maps, (ops.shape(maps)[0], -1, 4 + len(CLASS_NAMES)))

    def decode(self, outputs, image_size):
        height, width = image_size
        rows, columns = tf.meshgrid(tf.range(8, height, 16), tf.range(8, width, 16), indexing="ij")
        centres = tf.cast(tf.reshape(tf.stack([columns, rows], axis=-1), [1, -1, 2]), tf.float32)
        halves = 8 + 8 * ops.sigmoid(outputs[..., :4])
        boxes = ops.concatenate([centres - halves[..., :2], centres + halves[..., 2:]], axis=-1)
        return boxes, ops.sigmoid(outputs[..., 4:])

    def ema_weights(self):
        return contextlib.nullcontext()
