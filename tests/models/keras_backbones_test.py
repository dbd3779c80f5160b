"""Backbones from any Keras model: named in a configuration, in a file, handed in, or registered."""

import zipfile

import keras
import keras_cv
import numpy as np
import pytest
import tensorflow as tf
from absl.testing import parameterized

import kyolo
from kyolo import registry
from kyolo.config import BackboneConfig, ConfigError, ModelConfig
from kyolo.errors import InputError
from kyolo.models.backbones import keras_backbone
from kyolo.models.initialize import finalize_states
from kyolo.training.run_folder import dtype_policy
from kyolo.weights import transfer_weights
from tests.test_case import TestCase

MOBILENET_V2 = ("block_2_add", "block_5_add", "block_12_add", "block_16_project_BN")
EFFICIENTNET_B0 = ("block2b_add", "block3b_add", "block5c_add", "block7a_project_bn")
VGG16 = ("block2_pool", "block3_pool", "block4_pool", "block5_pool")


def chain(levels=("P2", "P3", "P4", "P5"), last_strides=2, names=True):
    """A functional model with a map for each level, of 8 channels."""
    x = image = keras.Input((None, None, 3))
    maps = {}
    for number in range(1, 6):
        strides = last_strides if number == 5 else 2
        name = f"conv_{number}" if names else None
        x = keras.layers.Conv2D(8, 3, strides=strides, padding="same", name=name)(x)
        maps[f"P{number}"] = x
    return keras.Model(image, {level: maps[level] for level in levels})


def config(**settings):
    return ModelConfig(num_classes=2, **settings)


class KerasBackboneTest(tf.test.TestCase, TestCase):
    @parameterized.parameters(
        ("MobileNetV2", MOBILENET_V2, lambda x: x / 127.5 - 1),
        # VGG: blue first, less the mean of ImageNet.
        ("VGG16", VGG16, lambda x: x[..., ::-1] - np.float32([103.939, 116.779, 123.68])),
        # It has a `Normalization`, which computes from its weights when it gets them.
        ("EfficientNetB0", EFFICIENTNET_B0, lambda x: x),
    )
    def test_equals_the_library(self, name, layers, preprocess):
        """The maps are those that its own network has at these layers, on pixels as it was trained on them."""
        theirs, random = getattr(keras.applications, name)(include_top=False, weights=None), np.random.default_rng(0)
        for variable in theirs.variables:
            if len(variable.shape) == 1:
                variable.assign(random.uniform(0.5, 1.5, variable.shape))
        finalize_states(theirs)
        path = str(self.folder / "theirs.weights.h5")
        theirs.save_weights(path)
        images = random.integers(0, 256, (1, 64, 96, 3)).astype("float32")
        expected = keras.Model(theirs.input, [theirs.get_layer(layer).output for layer in layers])(preprocess(images))
        found = keras_backbone(("P2", "P3", "P4", "P5", "P6"), name, layers[::-1], path).model(images)
        for level, x in zip(("P2", "P3", "P4", "P5"), expected, strict=True):
            self.assertGreater(np.std(x), 1e-3)
            self.assertAllClose(found[level], x, rtol=1e-4, atol=1e-4 * np.abs(x).max(), msg=level)

    @pytest.mark.slow
    def test_a_run_is_loaded_as_it_was_trained(self):
        """Its average by name onto another build in the same program: nameless layers, dropout, a `Normalization`."""
        block = BackboneConfig(kind="keras", model="EfficientNetB0", layers=EFFICIENTNET_B0)
        trained, random = kyolo.build_detector(config(backbone=block)), np.random.default_rng(0)
        for variable in trained.backbone.weights:
            variable.assign(random.uniform(0.1, 0.3, variable.shape))
        finalize_states(trained)
        trained.compile("sgd", ema_decay=0.9)
        loaded = kyolo.build_detector(config(backbone=block), seed=1)
        report = transfer_weights(
            loaded, {path: variable.numpy() for path, variable in trained.ema.averaged_variables()}
        )
        self.assertEqual((report.new, report.unused, report.mismatched), ((), (), ()))
        images = random.integers(0, 256, (1, 64, 64, 3))
        for name, output in trained(images).items():
            self.assertAllClose(loaded(images)[name], output, rtol=1e-5, atol=1e-5)

    @pytest.mark.slow
    def test_every_weight_comes_from_the_seed(self):
        block = BackboneConfig(kind="keras", model="EfficientNetB0", layers=EFFICIENTNET_B0)
        first, second = (kyolo.build_detector(config(backbone=block)).weights for _ in range(2))
        self.assertEqual([variable.path for variable in first], [variable.path for variable in second])
        for one, other in zip(first, second, strict=True):
            self.assertAllEqual(one, other, msg=one.path)

    def test_imagenet_of_another_network(self):
        block = BackboneConfig(kind="keras", model="EfficientNetB0", layers=EFFICIENTNET_B0, weights="imagenet")
        with self.assertRaisesRegex(ConfigError, "^model.backbone.weights: .*got imagenet.*EfficientNetV2B0"):
            kyolo.build_detector(config(backbone=block))

    @parameterized.parameters(
        ({"model": "MobilNetV2", "layers": MOBILENET_V2}, r"^model.backbone.model: .*\(did you mean MobileNetV2\?\)"),
        ({"model": "applications", "layers": MOBILENET_V2}, "^model.backbone.model: .*got 'applications'"),
        (
            {"model": "MobileNetV2", "layers": ["block_2_ad"]},
            r"^model.backbone.layers: .*\(did you mean block_2_add\?\)",
        ),
        (
            {"model": "MobileNetV2", "layers": ["Conv1"]},
            "^model.backbone.layers: expected one layer for each of the strides 4, 8, 16, 32, .*'Conv1' of stride 2.$",
        ),
        (
            {"model": "MobileNetV2", "layers": ["block_5_add", "block_4_add"]},
            "'block_4_add' of stride 8, which another layer has",
        ),
        (
            {"model": "MobileNetV2", "layers": MOBILENET_V2[:3]},
            "^model.backbone: expected a map of P5.*received P2, P3, P4",
        ),
        ({"layers": MOBILENET_V2}, "^model: missing"),
        ({"model": "MobileNetV2"}, "^layers: missing"),
        ({"model": "MobileNetV2", "layers": MOBILENET_V2, "size": "n"}, "^model.backbone.size: expected none"),
        ({"model": "MobileNetV2", "layers": MOBILENET_V2, "arguments": {"alpha": 1}}, "^model.backbone.alpha: unknown"),
    )
    def test_wrong_settings(self, settings, message):
        with self.assertRaisesRegex((ConfigError, InputError), message):
            kyolo.build_detector(config(backbone=BackboneConfig(kind="keras", **settings)))

    def test_a_file_keeps_its_weights(self):
        model, path = chain(), str(self.folder / "own.keras")
        model.save(path)
        layers = [f"conv_{number}" for number in range(2, 6)]
        detector = kyolo.build_detector(
            config(levels=("P3", "P4"), backbone=BackboneConfig(kind="keras", model=path, layers=layers)), seed=3
        )
        images = np.random.default_rng(0).uniform(0, 255, (1, 64, 64, 3)).astype("float32")
        expected = model(images)
        for level, x in detector.backbone(images).items():
            self.assertAllClose(x, expected[level], rtol=1e-5, atol=1e-5)

    def test_a_file_computes_as_the_run_does(self):
        """Its weights come in half precision, and the maps in float32, as an export needs them."""
        with dtype_policy("mixed_bfloat16"):
            chain().save(self.folder / "half.keras")
        block = BackboneConfig(kind="keras", model=str(self.folder / "half.keras"), layers=["conv_3", "conv_4"])
        detector = kyolo.build_detector(config(levels=("P3", "P4"), backbone=block))
        self.assertEqual(detector.backbone(np.zeros((1, 64, 64, 3)))["P4"].dtype, tf.float32)

    @parameterized.parameters(
        (lambda: keras.Model(image := keras.Input((224, 224, 3)), keras.layers.Conv2D(8, 3)(image)), "224, 224, 3"),
        (lambda: keras.Model(image := keras.Input((None, None, 1)), keras.layers.Conv2D(8, 3)(image)), "None, 1"),
    )
    def test_a_file_of_other_inputs(self, make, received):
        make().save(self.folder / "other.keras")
        block = BackboneConfig(kind="keras", model=str(self.folder / "other.keras"), layers=["conv_3"])
        expected = rf"of the inputs \[\(None, None, None, 3\)\], received a Functional of .*{received}"
        with self.assertRaisesRegex(InputError, expected):
            kyolo.build_detector(config(backbone=block))

    def test_a_layer_that_is_a_model(self):
        image = keras.Input((None, None, 3))
        inner = chain()
        inner.name = "inner"
        keras.Model(image, inner(image)).save(self.folder / "nested.keras")
        block = BackboneConfig(kind="keras", model=str(self.folder / "nested.keras"), layers=["inner"])
        with self.assertRaisesRegex(ConfigError, "^model.backbone.layers: expected layers of .*, none of them a model"):
            kyolo.build_detector(config(backbone=block))

    def test_a_file_runs_no_code_and_may_be_broken(self):
        image = keras.Input((None, None, 3))
        keras.Model(image, keras.layers.Lambda(lambda x: x)(image)).save(self.folder / "code.keras")
        with self.assertWarnsRegex(UserWarning, "not yet been built"):
            keras.Sequential([keras.layers.Conv2D(8, 3)]).save(self.folder / "unbuilt.keras")
        (self.folder / "text.keras").write_text("no model")
        with zipfile.ZipFile(self.folder / "empty.keras", "w"):
            pass
        cases = {
            "code": "unsafe|Lambda",
            "text": "a file of another kind",
            "empty": "",
            "unbuilt": "functional",
            "none": "no such file",
        }
        for name, reason in cases.items():
            block = BackboneConfig(kind="keras", model=str(self.folder / f"{name}.keras"), layers=["conv_2"])
            with self.assertRaisesRegex(InputError, f"^model.backbone.model: .*({reason})") as caught:
                kyolo.build_detector(config(backbone=block))
            self.assertNotIn("\n", str(caught.exception))


class PyramidBackboneTest(tf.test.TestCase, TestCase):
    def check(self, model, expected, levels=("P3", "P4", "P5")):
        """The detector's maps are the model's, of the weights that it has, and its layers are the model's own."""
        detector = kyolo.build_detector(config(levels=levels), backbone=model)
        images = np.random.default_rng(0).uniform(0, 255, (1, 64, 64, 3)).astype("float32")
        maps = dict(zip(expected, keras.Model(model.input, list(expected.values()))(images), strict=True))
        for level, x in detector.backbone(images).items():
            self.assertGreater(np.std(x), 0)
            self.assertAllClose(x, maps[level], rtol=1e-5, atol=1e-5)
        for layer in detector.backbone.layers:
            self.assertIs(layer, model.get_layer(layer.name))
        path = self.folder / "detector.keras"
        detector.save(path)
        for name, output in keras.models.load_model(path)(images).items():
            self.assertAllClose(output, detector(images)[name], rtol=1e-5, atol=1e-5)

    def test_maps_by_level(self):
        model = chain()
        self.check(model, model.output, ("P3", "P4", "P5", "P6"))

    def test_two_layers_of_one_name(self):
        """Weights are found by name: the second would get the first one's."""
        first, second = chain(("P3",)), chain(("P3",))
        image = keras.Input((None, None, 3))
        x, y = first(image)["P3"], second(image)["P3"]
        y = keras.layers.Conv2D(8, 3, strides=2, padding="same")(y)
        with self.assertRaisesRegex(ConfigError, "expected one variable of each path.*conv_1/kernel"):
            kyolo.build_detector(config(levels=("P3", "P4")), backbone=keras.Model(image, {"P3": x, "P4": y}))

    def test_of_kerashub(self):
        model = chain(levels=("P5",))
        model.pyramid_outputs = {f"P{n}": model.get_layer(f"conv_{n}").output for n in range(2, 6)}
        self.check(model, model.pyramid_outputs)

    def test_of_kerascv(self):
        model = keras_cv.models.YOLOV8Backbone(
            stackwise_channels=[8, 8, 16, 16], stackwise_depth=[1, 1, 1, 1], include_rescaling=True
        )
        expected = {level: model.get_layer(name).output for level, name in model.pyramid_level_inputs.items()}
        self.assertContainsSubset({"P2", "P3", "P4", "P5"}, expected)
        self.check(model, expected, ("P2", "P3"))

    @parameterized.parameters(
        ({"levels": ("P2", "P3", "P4")}, "expected a map of P5, of stride 32, received P2, P3, P4$"),
        ({"last_strides": 1}, "expected a map of P5, of stride 32, received one of stride 16$"),
    )
    def test_what_lacks_a_level(self, arguments, message):
        with self.assertRaisesRegex(InputError, message):
            kyolo.build_detector(config(), backbone=chain(**arguments))

    def test_what_tells_no_pyramid(self):
        image = keras.Input((None, None, 3))
        plain = keras.Model(image, keras.layers.Conv2D(8, 3)(image))
        with self.assertRaisesRegex(InputError, "expected a map of P3, of stride 8, received none"):
            kyolo.build_detector(config(), backbone=plain)
        with self.assertRaisesRegex(InputError, "expected a functional Keras model .*received a Sequential"):
            kyolo.build_detector(config(), backbone=keras.Sequential([keras.layers.Conv2D(8, 3)]))


class RegisteredBackboneTest(tf.test.TestCase, TestCase):
    def setUp(self):
        super().setUp()
        self.addCleanup(registry._registered["backbone"].clear)

    def test_its_arguments_and_its_seed(self):
        @kyolo.register("backbone", "mine")
        def mine(levels, weights=None, strides=2):
            model = chain(levels, strides)
            if weights:
                model.load_weights(weights)
            return model

        block = BackboneConfig(kind="mine")
        first, second, third = (kyolo.build_detector(config(backbone=block), seed=seed) for seed in (1, 1, 2))
        kernels = [detector.backbone.get_layer("conv_4").kernel.numpy() for detector in (first, second, third)]
        # Keras' own initialiser, which the function took: uniform within +-sqrt(6 / (72 + 72)).
        self.assertBetween(np.abs(kernels[0]).max(), 0.95 * 24**-0.5, 24**-0.5)
        self.assertAllEqual(kernels[0], kernels[1])
        self.assertNotAllClose(kernels[0], kernels[2])
        path = str(self.folder / "mine.weights.h5")
        model = chain(("P3", "P4", "P5"))
        model.save_weights(path)
        loaded = kyolo.build_detector(config(backbone=BackboneConfig(kind="mine", weights=path)))
        self.assertAllEqual(loaded.backbone.get_layer("conv_4").kernel, model.get_layer("conv_4").kernel)
        with self.assertRaisesRegex(InputError, "expected a map of P5, of stride 32, received one of stride 16"):
            kyolo.build_detector(config(backbone=BackboneConfig(kind="mine", arguments={"strides": 1})))
        with self.assertRaisesRegex(
            ConfigError, "^model.backbone.width: unknown key for mine; expected one of weights"
        ):
            kyolo.build_detector(config(backbone=BackboneConfig(kind="mine", arguments={"width": 1})))
        with self.assertRaisesRegex(ConfigError, "^model.backbone.size: expected none, as mine"):
            kyolo.build_detector(config(backbone=BackboneConfig(kind="mine", size="n")))

    def test_layers_need_names(self):
        kyolo.register("backbone", "nameless")(_nameless)
        with self.assertRaisesRegex(ConfigError, "^model.backbone: expected layers with names.*received conv2d"):
            kyolo.build_detector(config(backbone=BackboneConfig(kind="nameless")))

    def test_wrong_registrations(self):
        with self.assertRaisesRegex(ValueError, "mine: expected a function, got <class"):
            kyolo.register("backbone", "mine")(keras.Model)
        with self.assertRaisesRegex(ValueError, "settings of every backbone, got 'layers'"):
            kyolo.register("backbone", "mine")(lambda layers: layers)
        with self.assertRaisesRegex(ValueError, "unused.*'yolov8'"):
            kyolo.register("backbone", "yolov8")(_nameless)


def _nameless():
    return chain(names=False)


if __name__ == "__main__":
    tf.test.main()
