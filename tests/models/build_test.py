import functools
import math

import keras
import numpy as np
import pytest
import tensorflow as tf
from absl.testing import parameterized

import kyolo
from kyolo.config import AttentionConfig, BackboneConfig, ConfigError, HeadConfig, ModelConfig, NeckConfig
from kyolo.layers import GAM, SPPF
from tests import oracles

LEVELS = ("P2", "P3", "P4", "P5", "P6")
RUNS = [LEVELS[i:j] for i in range(4) for j in range(i + 2, 6)]


def build(size="p", seed=0, **settings):
    settings = {"num_classes": 3, **settings}
    return kyolo.build_detector(ModelConfig(backbone=BackboneConfig(size=size), **settings), seed=seed)


@functools.cache
def plain():
    """A detector with the default settings, for tests that only look at it."""
    return build()


def weights(detector):
    return {variable.path: variable.numpy() for variable in detector.variables}


class PublishedSizesTest(tf.test.TestCase, parameterized.TestCase):
    def check(self, size, expected):
        detector = build(size, num_classes=80)
        self.assertEqual(sum(math.prod(v.shape) for v in detector.trainable_variables), expected)

    @parameterized.parameters(("n", 3157184), ("s", 11166544), ("m", 25902624))
    def test_number_of_weights(self, size, expected):
        self.check(size, expected)

    @parameterized.parameters(("l", 43691504), ("x", 68229632))
    @pytest.mark.slow
    def test_number_of_weights_of_the_large_sizes(self, size, expected):
        self.check(size, expected)


class LevelsTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.parameters(*(("-".join(run),) for run in RUNS))
    def test_every_run_of_levels(self, names):
        names = tuple(names.split("-"))
        detector = build(levels=names)
        strides = tuple(2 ** int(name[1]) for name in names)
        self.assertEqual(detector.strides, strides)
        self.assertEqual(tuple(level.name for level in detector.levels), names)
        self.assertEqual(sum(isinstance(layer, SPPF) for layer in detector._flatten_layers()), 1)
        images = np.random.default_rng(0).integers(0, 256, (1, 64, 128, 3)).astype("uint8")
        points, _ = oracles.anchor_points((64, 128), strides)
        outputs = detector(images)
        self.assertEqual(outputs["box_logits"].shape, (1, len(points), 4, 16))
        self.assertEqual(outputs["class_logits"].shape, (1, len(points), 3))
        for name, output in outputs.items():
            self.assertTrue(np.isfinite(output).all(), msg=name)

    def test_no_weight_is_left_out_of_the_outputs(self):
        # Every trainable weight of a full pyramid has a gradient: no part hangs in the air.
        detector = build(levels=LEVELS)
        images = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3)).astype("uint8")
        with tf.GradientTape() as tape:
            outputs = detector(images, training=False)
            total = sum(tf.reduce_sum(output**2) for output in outputs.values())
        variables = detector.trainable_variables
        gradients = tape.gradient(total, [variable.value for variable in variables])
        for variable, gradient in zip(variables, gradients, strict=True):
            self.assertIsNotNone(gradient, msg=variable.path)
            self.assertGreater(np.abs(gradient).max(), 0, msg=variable.path)


class InitialWeightsTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.parameters(1, 3, 80)
    def test_head_bias(self, num_classes):
        # With features of zero the logits are the biases: 1 for the boxes, log(5 / K / (640 / stride)^2) for the
        # classes, where (640 / stride)^2 is the number of cells of a level at 640 px.
        detector = build(num_classes=num_classes)
        for level, box, classes in zip(
            detector.levels, detector.head.box_branches, detector.head.class_branches, strict=True
        ):
            self.assertAllEqual(box[-1].bias, np.ones(64))
            expected = math.log(5 / num_classes / (640 / level.stride) ** 2)
            self.assertAllClose(classes[-1].bias, [expected] * num_classes, rtol=1e-6)

    def test_first_scores_are_those_of_the_bias(self):
        # About 5 objects in an image of 640 px are 8400 points: scores of a per mille, and not of one half.
        detector = build(num_classes=1)
        outputs = detector(np.random.default_rng(0).integers(0, 256, (2, 128, 128, 3)), training=True)
        scores = oracles.sigmoid(outputs["class_logits"].numpy())
        # The mean of 5 / (640 / stride)^2 over 256, 64 and 16 points: (256 x 1 + 64 x 4 + 16 x 16) x 5 / 6400 / 336.
        self.assertBetween(scores.mean(), 0.5 * 768 * 5 / 6400 / 336, 2 * 768 * 5 / 6400 / 336)

    def test_same_seed_same_paths_and_values(self):
        first = weights(plain())
        keras.utils.set_random_seed(99)
        keras.layers.Dense(3)  # counters of automatic names move
        second = weights(build())
        self.assertEqual(list(first), list(second))
        for path, value in first.items():
            self.assertAllEqual(second[path], value, msg=path)

    def test_paths_are_unique(self):
        detector = build(levels=LEVELS, attention=(AttentionConfig(kind="gam"), AttentionConfig(kind="gam")))
        paths = [variable.path for variable in detector.variables]
        self.assertLen(set(paths), len(paths))

    def test_another_seed_moves_every_kernel(self):
        first, second = weights(plain()), weights(build(seed=2))
        for path, value in first.items():
            if path.endswith("kernel"):
                self.assertNotAllClose(second[path], value, msg=path)

    def test_depthwise_kernels_come_from_the_seed_too(self):
        """Uniform in +-1 / sqrt(fan_in), and a depthwise kernel of k x k looks at k^2 values."""
        light = {"backbone": BackboneConfig("mobilenet_v3", "small"), "neck": NeckConfig(conv="depthwise")}
        config = ModelConfig(num_classes=3, head=HeadConfig(conv="depthwise"), **light)
        first, second = (weights(kyolo.build_detector(config, seed=7)) for _ in range(2))
        depthwise = [path for path in first if "depthwise" in path and path.endswith("kernel")]
        self.assertGreater(len(depthwise), 25)
        for path in depthwise:
            self.assertAllEqual(first[path], second[path], msg=path)
            side = first[path].shape[0]
            self.assertBetween(first[path].max(), 0.9 / side, 1 / side, msg=path)
            self.assertBetween(first[path].min(), -1 / side, -0.9 / side, msg=path)

    def test_kernels_of_one_shape_differ(self):
        # One seed for all would give layers of equal shape equal weights.
        kernels = [v.tobytes() for path, v in weights(plain()).items() if path.endswith("kernel")]
        self.assertLen(set(kernels), len(kernels))

    def test_spread_of_the_initial_kernels(self):
        # Uniform in +-1 / sqrt(fan_in): standard deviation 1 / sqrt(3 fan_in). Wide kernels only, 10 %.
        for path, value in weights(plain()).items():
            if path.endswith("kernel") and value.size > 2000:
                fan_in = math.prod(value.shape[:3])
                self.assertAllClose(value.std() * math.sqrt(3 * fan_in), 1.0, rtol=0.1, msg=path)

    @parameterized.parameters("identity", "paper")
    def test_attention_leaves_all_other_weights_as_they_are(self, init):
        without = weights(plain())
        detector = build(attention=(AttentionConfig(kind="gam", arguments={"init": init}),))
        with_gam = weights(detector)
        for path, value in without.items():
            self.assertAllEqual(with_gam[path], value, msg=path)
        added = set(with_gam) - set(without)
        gam = next(layer for layer in detector._flatten_layers() if isinstance(layer, GAM))
        self.assertEqual(added, {variable.path for variable in gam.variables})

    def test_more_levels_leave_the_backbone_as_it_is(self):
        three, four = weights(plain()), weights(build(levels=("P2", "P3", "P4", "P5")))
        for path, value in three.items():
            if path.startswith("stack"):
                self.assertAllEqual(four[path], value, msg=path)


class SettingsTest(tf.test.TestCase):
    def test_settings_of_attention_arrive(self):
        block = AttentionConfig(kind="gam", arguments={"reduction": 8, "groups": 2, "init": "paper"})
        gam = next(x for x in build(attention=(block,))._flatten_layers() if isinstance(x, GAM))
        self.assertEqual((gam.reduction, gam.groups, gam.init), (8, 2, "paper"))

    def test_reg_max(self):
        outputs = build(head=HeadConfig(reg_max=8))(np.zeros((1, 64, 64, 3), "uint8"))
        self.assertEqual(outputs["box_logits"].shape, (1, 84, 4, 8))

    def test_number_of_classes_must_be_known(self):
        with self.assertRaisesRegex(ConfigError, "num_classes"):
            build(num_classes=None)


if __name__ == "__main__":
    tf.test.main()
