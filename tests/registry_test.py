import contextlib
import dataclasses
import importlib
import json
import pickle
import sys

import keras
import numpy as np
import tensorflow as tf
from absl.testing import parameterized

import kyolo
from kyolo import registry
from kyolo.config import (
    AttentionConfig,
    BackboneConfig,
    BoxLossConfig,
    Config,
    ConfigError,
    LossConfig,
    ModelConfig,
    apply_overrides,
    config_to_dict,
)
from kyolo.errors import ArgumentError
from kyolo.models import build_loss
from kyolo.weights import transfer_weights
from tests.test_case import ROOT, TestCase

EXAMPLE = ("--import", "examples.custom_box_loss")
FAMILIES = {"box_loss": kyolo.losses.BoxLoss, "classification_loss": kyolo.losses.ClassificationLoss}


class RegistryTest(tf.test.TestCase, TestCase):
    def setUp(self):
        super().setUp()
        for names in registry._registered.values():
            self.addCleanup(names.clear)

    def enter(self, folder):
        """Makes a folder the current one, and forgets the modules that are imported from it."""
        self.enterContext(contextlib.chdir(folder))
        self.addCleanup(sys.path.__setitem__, slice(None), list(sys.path))
        for name in set(sys.modules):
            if name.startswith("examples"):
                del sys.modules[name]

    @parameterized.parameters(*FAMILIES)
    def test_every_public_loss_of_a_family_has_a_name(self, family):
        base = FAMILIES[family]
        public = {cls for cls in vars(kyolo.losses).values() if isinstance(cls, type) and issubclass(cls, base)}
        self.assertEqual({registry.find(family, name) for name in registry.names(family)}, public - {base})

    def test_the_example_on_the_command_line(self):
        self.enter(ROOT)
        (self.folder / "empty.yaml").write_text("")
        train = ("train", "--config", self.folder / "empty.yaml", "--dry-run", "--json", *EXAMPLE)
        train += ("--set", "model.num_classes=3", "--set", "model.backbone.size=p")
        code, stdout, stderr = self.run_kyolo(*train, "--set", "model.loss.box={kind: nwd, scale: 20}")
        self.assertEqual(code, 0, stderr)
        box = json.loads(stdout)["config"]["model"]["loss"]["box"]
        self.assertEqual(box, {"kind": "nwd", "weight": 7.5, "scale": 20})
        for value, expected in (("scal: 20", "did you mean scale?"), ("scale: 0", "model.loss.box.scale: expected")):
            self.assert_bad_input([*train, "--set", f"model.loss.box={{kind: nwd, {value}}}"], expected)

    def test_the_attention_example(self):
        self.enter(ROOT)
        module = importlib.import_module("examples.custom_attention")
        block = {"kind": "context_gate", "at": "P4", "reduction": 4}
        config = apply_overrides(Config(), [f"model.attention=[{json.dumps(block)}]", "model.num_classes=3"]).model
        config = dataclasses.replace(config, backbone=BackboneConfig(size="p"))
        detector = kyolo.build_detector(config)
        (layer,) = detector.top.attention["P4"]
        self.assertEqual((type(layer), layer.reduction), (module.ContextGate, 4))
        # It starts as the identity; with one channel's bias at 1 that channel is 1 more.
        x = np.random.default_rng(0).normal(size=(2, 4, 4, 64)).astype("float32")
        self.assertAllEqual(layer(x), x)
        layer.expand.bias.assign(np.eye(64)[5])
        self.assertAllClose(layer(x) - x, np.broadcast_to(np.eye(64)[5], x.shape), atol=1e-6)
        path = self.folder / "own.keras"
        detector.save(path)
        images = np.zeros((1, 64, 64, 3), "uint8")
        for name, output in keras.models.load_model(path)(images).items():
            self.assertAllClose(output, detector(images)[name], atol=1e-6)

    def test_modules_written_in_other_ways(self):
        """Sublayers made in the constructor and built by their first call, initialisers of their own, dropout."""

        @kyolo.register("attention", "own")
        class Own(keras.layers.Layer):
            def __init__(self, channels=128, kernel_initializer="he_normal", **kwargs):
                super().__init__(**kwargs)
                self.channels, self.kernel_initializer = channels, kernel_initializer
                small = keras.initializers.RandomNormal(stddev=1e-4)
                self.inner = keras.layers.Conv2D(channels, 1, kernel_initializer=small, name="inner")
                self.drop = keras.layers.Dropout(0.5)

            def call(self, inputs):
                return self.drop(self.inner(inputs))

        def build(seed, *before, **arguments):
            blocks = (*before, AttentionConfig("own", arguments=arguments))
            config = ModelConfig(num_classes=3, backbone=BackboneConfig(size="p"), attention=blocks)
            return kyolo.build_detector(config, seed=seed)

        first, second, third = build(1), build(1, AttentionConfig("se", at="P3")), build(2)
        kernels = [detector.top.attention["sppf_in"][0].inner.kernel.numpy() for detector in (first, second, third)]
        self.assertAllEqual(kernels[0], kernels[1])
        self.assertNotAllClose(kernels[0], kernels[2], atol=1e-6)
        self.assertAllClose(np.std(kernels[0]), 1e-4, rtol=0.05)
        report = transfer_weights(first, {variable.path: variable.numpy() for variable in third.weights})
        self.assertEqual((report.new, report.unused), ((), ()))
        with self.assertRaisesRegex(
            ConfigError, "^model.attention.0: own cannot be built: expected a layer that keeps"
        ):
            build(1, channels=64)

    def test_modules_that_would_not_be_found_again(self):
        @kyolo.register("attention", "nameless")
        class Nameless(keras.layers.Layer):
            def __init__(self, **kwargs):
                super().__init__(**kwargs)
                self.kernel_initializer = keras.initializers.get("glorot_uniform")  # and it has no kernel

            def build(self, input_shape):
                self.inner = keras.layers.Dense(input_shape[-1])
                self.inner.build(input_shape)

            def call(self, inputs):
                return self.inner(inputs)

        config = ModelConfig(num_classes=3, backbone=BackboneConfig(size="p"), attention=(AttentionConfig("nameless"),))
        with self.assertRaisesRegex(ConfigError, "^model.attention.0: expected layers with names of their own"):
            kyolo.build_detector(config)

    def test_the_backbone_example(self):
        self.enter(ROOT)
        importlib.import_module("examples.custom_backbone")
        settings = ["model.backbone={kind: separable_net, width: 8, depth: 2}", "model.num_classes=3"]
        detector = kyolo.build_detector(apply_overrides(Config(), settings).model)
        self.assertEqual([level.channels for level in detector.levels], [16, 32, 64])
        images = np.random.default_rng(0).integers(0, 256, (1, 64, 96, 3)).astype("uint8")
        maps = detector.backbone(images)
        self.assertEqual([x.shape for x in maps.values()], [(1, 8, 12, 16), (1, 4, 6, 32), (1, 2, 3, 64)])
        # By hand: stem 27 x 8; then for each level one separable convolution and two more, 9 a + a b and 9 b + b b.
        kernels = 216
        for before, after in ((8, 8), (8, 16), (16, 32), (32, 64)):
            kernels += 9 * before + before * after + 2 * (9 * after + after * after)
        counted = sum(np.prod(x.shape) for x in detector.backbone.trainable_weights if x.path.endswith("kernel"))
        self.assertEqual(counted, kernels)
        path = self.folder / "own.keras"
        detector.save(path)
        for name, output in keras.models.load_model(path)(images).items():
            self.assertAllClose(output, detector(images)[name], atol=1e-6)

    def test_the_example_from_yaml_and_through_json(self):
        self.enter(ROOT)
        cls = importlib.import_module("examples.custom_box_loss").NWDLoss
        config = LossConfig(box=BoxLossConfig("nwd", arguments={"scale": 5.0}))
        again = LossConfig.from_mapping(config_to_dict(config))
        self.assertEqual(again, config)
        box = build_loss(again).box
        # Centres 3 and 4 apart, equal sizes: a distance of 5. Equal boxes: none, and no infinite gradient.
        y_true, y_pred = tf.constant([[0.0, 0, 8, 8], [0, 0, 8, 8]]), tf.constant([[3.0, 4, 11, 12], [0, 0, 8, 8]])
        with tf.GradientTape() as tape:
            tape.watch(y_pred)
            loss = box.call(y_true, y_pred)
        self.assertAllClose(loss, [1 - np.exp(-1), 0], atol=1e-5)
        self.assertTrue(np.isfinite(tape.gradient(loss, y_pred)).all())
        loaded = keras.losses.deserialize(json.loads(json.dumps(keras.losses.serialize(box))))
        self.assertIs(type(loaded), cls)
        self.assertEqual(loaded.scale, 5.0)

    def test_without_the_import_the_name_is_unknown(self):
        (self.folder / "empty.yaml").write_text("")
        train = ("train", "--config", self.folder / "empty.yaml", "--dry-run", "--set", "model.loss.box.kind=nwd")
        self.assert_bad_input(train, "model.loss.box.kind", "nwd", "shape_iou", "--import")

    @parameterized.parameters(
        ("examples.missing", None, "ModuleNotFoundError"),
        ("examples_broken", "def", "SyntaxError"),
        ("examples_raising", "1 / 0", "ZeroDivisionError: division by zero"),
        ("examples_ending", "raise SystemExit(3)", "SystemExit: 3"),
    )
    def test_a_module_that_cannot_be_imported_is_one_line(self, name, text, reason):
        self.enter(self.folder)
        if text is not None:
            (self.folder / f"{name}.py").write_text(text)
        self.assert_bad_input(["train", "--import", name], f"--import {name}", reason)

    def test_a_class_takes_its_own_place_and_no_other(self):
        def define(qualname):
            cls = type("Mine", (kyolo.losses.BoxLoss,), {"__qualname__": qualname})
            return registry.register("box_loss", "mine")(cls)

        define("Mine")
        again = define("Mine")  # a notebook's cell runs twice
        self.assertIs(registry.find("box_loss", "mine"), again)
        self.assertEqual(registry.names("box_loss")[-1], "mine")
        with self.assertRaisesRegex(ValueError, "unused.*'mine'"):
            define("Another")
        with self.assertRaisesRegex(ValueError, "unused.*'ciou'"):
            registry.register("box_loss", "ciou")(type("CIoU", (kyolo.losses.BoxLoss,), {}))

    def test_wrong_names(self):
        with self.assertRaisesRegex(ValueError, "box_loss, classification_loss, got 'boxloss'"):
            kyolo.register("boxloss", "mine")
        with self.assertRaisesRegex(ValueError, "got 'my loss'"):
            kyolo.register("box_loss", "my loss")
        for thing in (kyolo.boxes.iou, kyolo.losses.CIoULoss(), int):
            with self.assertRaisesRegex(ValueError, "mine: expected a class derived from keras.losses.Loss"):
                kyolo.register("box_loss", "mine")(thing)
        with self.assertRaisesRegex(ValueError, "ciou.*got 'ciuo'"):
            registry.find("box_loss", "ciuo")


class FurtherKeysTest(parameterized.TestCase):
    def test_arguments_stand_beside_the_kind(self):
        config = apply_overrides(Config(), ["model.loss.box={kind: siou, theta: 3, weight: 5}"])
        box = config.model.loss.box
        self.assertEqual((box.kind, box.weight, box.arguments), ("siou", 5.0, {"theta": 3}))
        self.assertEqual(config_to_dict(box), {"kind": "siou", "weight": 5.0, "theta": 3})
        self.assertEqual(build_loss(config.model.loss).box.theta, 3)

    def test_null_is_absent(self):
        # With a base whose box loss has an argument, another kind can be chosen all the same.
        overrides = ["model.loss.box={kind: siou, theta: 3}", "model.loss.box.kind=ciou", "model.loss.box.theta=null"]
        self.assertIs(type(build_loss(apply_overrides(Config(), overrides).model.loss).box), kyolo.losses.CIoULoss)

    def test_null_reaches_the_loss_that_knows_it(self):
        config = apply_overrides(Config(), ["model.loss.classification={kind: focal, alpha: null}"])
        self.assertIsNone(build_loss(config.model.loss).classification.alpha)
        again = apply_overrides(config, ["train.epochs=5"]).model.loss
        self.assertEqual(again.classification.arguments, {"alpha": None})
        config = apply_overrides(Config(), ["model.loss.box={kind: siou, theta: null}"])
        with self.assertRaisesRegex(ConfigError, "^model.loss.box.theta: expected a number >= 1, got None"):
            build_loss(config.model.loss)

    def test_settings_of_the_block_are_no_arguments(self):
        with self.assertRaisesRegex(ConfigError, "^weight: expected a setting of the block itself"):
            BoxLossConfig("siou", arguments={"weight": 3})

    @parameterized.parameters(
        ("{kind: siou, thet: 3}", r"^model.loss.box.thet: .*theta \(did you mean theta\?\)"),
        ("{kind: ciou, theta: 3}", r"^model.loss.box.theta: unknown key for ciou; expected nothing further, or null"),
        ("{kind: siou, theta: 0.5}", r"^model.loss.box.theta: expected a number >= 1, got 0.5"),
        ("{kind: siou, theta: high}", r"^model.loss.box.theta: expected a number >= 1, got 'high'"),
        ("{kind: siou, reduction: sum}", r"^model.loss.box.reduction: unknown key"),
        ("{kind: alpha_iou, base: siou}", r"^model.loss.box.base: expected one of iou, giou, diou, ciou"),
        ("{kind: mpdiou, image_size: [640, 0]}", r"^model.loss.box.image_size.1: expected a number > 0, got 0"),
        ("{kind: siou, theta: {a: 1}}", r"^model.loss.box.theta: expected a number, a text or a list"),
        ("{kind: siou, the-ta: 1}", r"^model.loss.box.the-ta: unknown key"),
    )
    def test_wrong_arguments(self, text, message):
        with self.assertRaisesRegex(ConfigError, message):
            build_loss(apply_overrides(Config(), [f"model.loss.box={text}"]).model.loss)

    @parameterized.parameters(
        (ArgumentError("scale", "expected a prime: 4."), "model.loss.box.scale", "expected a prime: 4."),
        (ArgumentError("scale.1", "expected 3."), "model.loss.box.scale.1", "expected 3."),
        # The refused argument belongs to a part inside the loss.
        (ArgumentError("theta", "expected 3."), "model.loss.box", "picky cannot be built: theta: expected 3."),
        # Texts that only look like an argument's error.
        (ValueError("scale: expected 3."), "model.loss.box", "picky cannot be built: scale: expected 3."),
        (TypeError("scale: expected 3."), "model.loss.box", "picky cannot be built: scale: expected 3."),
    )
    def test_errors_are_recognized_by_class(self, error, path, problem):
        @kyolo.register("box_loss", "picky")
        class Picky(kyolo.losses.BoxLoss):
            def __init__(self, scale=1, **kwargs):  # noqa: ARG002
                raise error

        self.addCleanup(registry._registered["box_loss"].clear)
        with self.assertRaises(ConfigError) as caught:
            build_loss(LossConfig(box=BoxLossConfig("picky", arguments={"scale": 2})))
        self.assertEqual((caught.exception.path, caught.exception.problem), (path, problem))

    def test_argument_errors_survive_other_processes(self):
        again = pickle.loads(pickle.dumps(ArgumentError("scale", "expected 3.")))
        self.assertEqual((again.argument, again.problem, str(again)), ("scale", "expected 3.", "scale: expected 3."))

    def test_the_image_size_is_that_of_the_data_unless_given(self):
        config = LossConfig(box=BoxLossConfig("mpdiou"))
        self.assertEqual(build_loss(config, (320, 640)).box.image_size, (320, 640))
        config = LossConfig(box=BoxLossConfig("mpdiou", arguments={"image_size": [64, 96]}))
        self.assertEqual(build_loss(config, (320, 640)).box.image_size, (64, 96))
        with self.assertRaisesRegex(ConfigError, "^model.loss.box.image_size: missing; .*mpdiou.*augment.multi_scale"):
            build_loss(LossConfig(box=BoxLossConfig("mpdiou")))


if __name__ == "__main__":
    tf.test.main()
