import os

import keras
import keras_cv
import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from kyolo.config import ModelConfig
from kyolo.errors import InputError
from kyolo.layers import C2f, ConvBNAct
from kyolo.models import build_detector
from kyolo.models.backbones import yolov8_backbone

# Channels of P2 to P5 and bottlenecks of each, as published: 64, 128, 256, 512, 1024 x width and 3, 6, 6, 3 x depth.
PUBLISHED = {
    "n": ((32, 64, 128, 256), (1, 2, 2, 1)),
    "m": ((96, 192, 384, 576), (2, 4, 4, 2)),
    "p": ((16, 32, 64, 128), (1, 1, 1, 1)),
}


def own_backbone(channels, depths):
    """The same network from our own layers, named as the weights of KerasCV are."""
    image = keras.Input((None, None, 3))
    x = ConvBNAct(channels[0] // 2, strides=2, name="stem_1")(image / 255)
    x = ConvBNAct(channels[0], strides=2, name="stem_2")(x)
    outputs = {}
    for i, (width, depth) in enumerate(zip(channels, depths, strict=True), start=1):
        if i > 1:
            x = ConvBNAct(width, strides=2, name=f"stack{i}_downsample")(x)
        x = outputs[f"P{i + 1}"] = C2f(width, depth, shortcut=True, name=f"stack{i}_c2f")(x)
    return keras.Model(image, outputs)


def kerascv_name(path):
    """The name in KerasCV of one of our variables, by rule."""
    for ours, theirs in (("/pre/", "_pre/"), ("/post/", "_output/"), ("/conv/", "_conv/"), ("/norm/", "_bn/")):
        path = path.replace(ours, theirs)
    *front, last = path.split("/bottleneck_")
    return f"{front[0]}_pre_{last}" if front else path


class BackbonesTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.parameters(("n",))
    def test_equals_one_from_our_own_layers(self, size):
        taps = yolov8_backbone(("P2", "P3", "P4", "P5"), size)
        random = np.random.default_rng(0)
        for variable in taps.model.variables:  # batch norms too, away from 0 and 1
            if len(variable.shape) == 1:
                variable.assign(random.uniform(0.5, 1.5, variable.shape))
        own = own_backbone(*PUBLISHED[size])
        theirs = {variable.path: variable.numpy() for variable in taps.model.variables}
        names = [kerascv_name(variable.path) for variable in own.variables]
        self.assertEqual(set(names), set(theirs))
        for variable, name in zip(own.variables, names, strict=True):
            variable.assign(theirs[name])
        images = random.uniform(0, 255, (2, 64, 96, 3)).astype("float32")
        for training in (False, True):
            expected, found = taps.model(images, training=training), own(images, training=training)
            self.assertEqual(set(found), set(expected))
            for level, x in expected.items():
                self.assertAllClose(found[level], x, rtol=1e-5, atol=1e-5, msg=level)

    def test_weights_of_a_file_bring_their_sppf(self):
        """What KerasCV's backbone gives at its end, the detector gives behind its own SPPF."""
        channels, depths = PUBLISHED["p"]
        theirs = keras_cv.models.YOLOV8Backbone(
            stackwise_channels=channels, stackwise_depth=depths, include_rescaling=True, input_shape=(None, None, 3)
        )
        random = np.random.default_rng(0)
        for variable in theirs.variables:
            if len(variable.shape) == 1:
                variable.assign(random.uniform(0.5, 1.5, variable.shape))
        path = os.path.join(self.get_temp_dir(), "theirs.weights.h5")
        theirs.save_weights(path)
        detector = build_detector(ModelConfig(num_classes=1, backbone={"size": "p", "weights": path}))
        images = random.uniform(0, 255, (2, 64, 96, 3)).astype("float32")
        found = detector.top.sppf(detector.backbone(images)["P5"])
        self.assertAllClose(found, theirs(images), rtol=1e-5, atol=1e-5)
        with self.assertRaisesRegex(InputError, "model.backbone.weights: cannot load"):
            build_detector(ModelConfig(num_classes=1, backbone={"size": "n", "weights": path}))

    @parameterized.parameters(*PUBLISHED)
    def test_taps(self, size):
        taps = yolov8_backbone(("P2", "P3", "P4", "P5"), size)
        for level, channels in zip(taps.levels, PUBLISHED[size][0], strict=True):
            stride = 2 ** int(level.name[1])
            self.assertEqual((level.stride, level.channels), (stride, channels))
        for level, x in taps.model(np.zeros((1, 64, 128, 3))).items():
            stride = 2 ** int(level[1])
            self.assertEqual(x.shape[1:3], (64 // stride, 128 // stride))

    def test_kerascvs_own_sppf_is_left_out(self):
        taps = yolov8_backbone(("P3", "P4", "P5"), "p")
        self.assertEmpty([layer.name for layer in taps.model.layers if "spp" in layer.name])

    def test_ends_at_its_coarsest_level(self):
        taps = yolov8_backbone(("P2", "P3", "P4"), "p")
        self.assertEmpty([layer.name for layer in taps.model.layers if layer.name.startswith("stack4")])

    def test_batch_norms_of_the_reference(self):
        norms = [x for x in yolov8_backbone(("P4", "P5"), "p").model.layers if "BatchNorm" in type(x).__name__]
        self.assertNotEmpty(norms)
        for norm in norms:
            self.assertEqual((norm.momentum, norm.epsilon), (0.97, 1e-3))


if __name__ == "__main__":
    tf.test.main()
