"""MobileNetV3 and EfficientNet-Lite: tapped where their libraries' stages end, and equal to them there."""

import tempfile
from pathlib import Path
from unittest import mock

import keras
import keras_cv
import numpy as np
import pytest
import tensorflow as tf
from absl.testing import parameterized

from kyolo import registry
from kyolo.config import BackboneConfig, ConfigError
from kyolo.errors import InputError
from kyolo.models.backbones import mobilenet_v3_backbone

LEVELS = ("P2", "P3", "P4", "P5")
# Channels at strides 4, 8, 16, 32: tables 1 and 2 of MobileNetV3; EfficientNet's 24, 40, 112, 320 x width, to multiples
# of 8.
CHANNELS = {
    ("mobilenet_v3", "small"): (16, 24, 48, 96),
    ("mobilenet_v3", "large_minimalistic"): (24, 40, 112, 160),
    ("efficientnet_lite", "b0"): (24, 40, 112, 320),
    ("efficientnet_lite", "b2"): (24, 48, 120, 352),
}


def library_model(kind, size):
    """The model as its library makes it."""
    if kind == "mobilenet_v3":
        make = {"small": keras.applications.MobileNetV3Small, "large": keras.applications.MobileNetV3Large}
        return make[size.partition("_")[0]](
            input_shape=(None, None, 3), include_top=False, weights=None, minimalistic="minimalistic" in size
        )
    # Width and depth of the published sizes; all else as the docstring of KerasCV gives b0.
    width, depth = {"b0": (1.0, 1.0), "b2": (1.1, 1.2)}[size]
    return keras_cv.models.EfficientNetLiteBackbone(
        stackwise_kernel_sizes=[3, 3, 5, 3, 5, 5, 3],
        stackwise_num_repeats=[1, 2, 2, 3, 3, 4, 1],
        stackwise_input_filters=[32, 16, 24, 40, 80, 112, 192],
        stackwise_output_filters=[16, 24, 40, 80, 112, 192, 320],
        stackwise_expansion_ratios=[1, 6, 6, 6, 6, 6, 6],
        stackwise_strides=[1, 2, 2, 2, 1, 2, 1],
        width_coefficient=width,
        depth_coefficient=depth,
        include_rescaling=True,
        input_shape=(None, None, 3),
    )


class LightBackbonesTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.parameters(*CHANNELS)
    def test_taps(self, kind, size):
        taps = registry.find("backbone", kind)((*LEVELS, "P6"), size)
        self.assertEqual([level.name for level in taps.levels], list(LEVELS))
        self.assertEqual(tuple(level.channels for level in taps.levels), CHANNELS[kind, size])
        for level, x in taps.model(np.zeros((1, 64, 128, 3))).items():
            stride = 2 ** int(level[1])
            self.assertEqual(x.shape[1:3], (64 // stride, 128 // stride))
        for layer in taps.model.layers:
            if isinstance(layer, keras.layers.BatchNormalization):
                self.assertEqual((type(layer).__name__, layer.momentum), ("BatchNorm", 0.97))

    @parameterized.parameters(*CHANNELS)
    @pytest.mark.slow
    def test_weights_of_a_file_give_what_the_library_gives(self, kind, size):
        """Each map is one of the library's, the last one of its stride and channels: what the next stride reads."""
        theirs, random = library_model(kind, size), np.random.default_rng(0)
        for variable in theirs.variables:
            if len(variable.shape) == 1:
                variable.assign(random.uniform(0.5, 1.5, variable.shape))
        path = str(Path(self.enterContext(tempfile.TemporaryDirectory())) / "theirs.weights.h5")
        theirs.save_weights(path)
        taps = registry.find("backbone", kind)(LEVELS, size, path)
        images = random.uniform(0, 255, (1, 64, 64, 3)).astype("float32")
        outputs = [layer.output for layer in theirs.layers]
        everything = dict(zip([x.name for x in theirs.layers], keras.Model(theirs.input, outputs)(images), strict=True))
        found = taps.model(images)
        for level, channels in zip(LEVELS, CHANNELS[kind, size], strict=True):
            side = 64 // 2 ** int(level[1])
            last = [x for x in everything.values() if x.shape[1:] == (side, side, channels)][-1]
            self.assertGreater(np.std(last), 0.01)
            self.assertAllClose(found[level], last, rtol=1e-4, atol=1e-4 * np.abs(last).max(), msg=level)
        with self.assertRaisesRegex(InputError, "model.backbone.weights: cannot load"):
            registry.find("backbone", kind)(LEVELS, {"mobilenet_v3": "large", "efficientnet_lite": "b4"}[kind], path)

    @parameterized.parameters((Exception("fetch failure"), InputError), (TypeError("a mistake"), TypeError))
    def test_imagenet_without_a_network(self, error, expected):
        """Keras raises a bare Exception for a download that fails; a mistake in the code stays what it is."""

        def fetch(**_):
            raise error

        fetch.__module__ = keras.applications.MobileNetV3Small.__module__
        message = "keeps in ~/.keras/models, received Exception: fetch failure; without"
        with (
            mock.patch.object(keras.applications, "MobileNetV3Small", fetch),
            self.assertRaisesRegex(expected, message if expected is InputError else "a mistake"),
        ):
            mobilenet_v3_backbone(LEVELS, "small", "imagenet")

    @parameterized.parameters(
        ("mobilenet_v3", "n", "small, large"), ("yolov8", "b0", "n, s"), ("efficientnet_lite", "l", "b0")
    )
    def test_sizes_belong_to_their_kind(self, kind, size, expected):
        with self.assertRaisesRegex(
            ConfigError, f"size: expected one of {expected}.* with kind {kind}, received {size}"
        ):
            BackboneConfig(kind=kind, size=size)


if __name__ == "__main__":
    tf.test.main()
