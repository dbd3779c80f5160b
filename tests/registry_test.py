import contextlib
import json
import sys

import keras
import numpy as np
import tensorflow as tf
from absl.testing import parameterized

import kyolo
from kyolo import registry
from kyolo.config import BoxLossConfig, Config, ConfigError, LossConfig, apply_overrides, config_to_dict
from kyolo.models import build_loss
from tests.test_case import TestCase

MODULE = """
import kyolo

@kyolo.register("box_loss", "half_iou")
class HalfIoULoss(kyolo.losses.BoxLoss):
    def __init__(self, factor=0.5, **kwargs):
        super().__init__(**kwargs)
        self.factor = factor

    def call(self, y_true, y_pred):
        return self.factor * (1 - kyolo.boxes.iou(y_pred, y_true))

    def get_config(self):
        return {**super().get_config(), "factor": self.factor}
"""
FAMILIES = {"box_loss": kyolo.losses.BoxLoss, "classification_loss": kyolo.losses.ClassificationLoss}


class RegistryTest(TestCase):
    def setUp(self):
        super().setUp()
        for names in registry._registered.values():
            self.addCleanup(names.clear)

    def write_module(self, text=MODULE, name="my_losses"):
        (self.folder / f"{name}.py").write_text(text)
        self.enterContext(contextlib.chdir(self.folder))
        path = list(sys.path)
        self.addCleanup(sys.path.__setitem__, slice(None), path)
        self.addCleanup(sys.modules.pop, name, None)

    @parameterized.parameters(*FAMILIES)
    def test_every_public_loss_of_a_family_has_a_name(self, family):
        base = FAMILIES[family]
        public = {cls for cls in vars(kyolo.losses).values() if isinstance(cls, type) and issubclass(cls, base)}
        self.assertEqual({registry.find(family, name) for name in registry.names(family)}, public - {base})

    def test_configuration_on_the_command_line(self):
        self.write_module()
        loss = ("--set", "model.loss.box={kind: half_iou, factor: 0.25}")
        model = ("--set", "model.num_classes=3", "--set", "model.backbone.size=p")
        (self.folder / "empty.yaml").write_text("")
        train = ("train", "--config", "empty.yaml", "--dry-run", "--json", *model)
        code, stdout, stderr = self.run_kyolo(*train, "--import", "my_losses", *loss)
        self.assertEqual(code, 0, stderr)
        box = json.loads(stdout)["config"]["model"]["loss"]["box"]
        self.assertEqual(box, {"kind": "half_iou", "weight": 7.5, "factor": 0.25})
        wrong = ("--set", "model.loss.box={kind: half_iou, factr: 0.25}")
        self.assert_bad_input([*train, "--import", "my_losses", *wrong], "model.loss.box.factr", "did you mean factor?")

    def test_without_the_import_the_name_is_unknown(self):
        (self.folder / "empty.yaml").write_text("")
        train = ("train", "--config", self.folder / "empty.yaml", "--dry-run", "--set", "model.loss.box.kind=half_iou")
        self.assert_bad_input(train, "model.loss.box.kind", "half_iou", "shape_iou")

    @parameterized.parameters(
        ("no_such_module", None, "ModuleNotFoundError"),
        ("broken", "def", "SyntaxError"),
        ("raises", "1 / 0", "ZeroDivisionError: division by zero"),
    )
    def test_a_module_that_cannot_be_imported_is_one_line(self, name, text, reason):
        if text is not None:
            self.write_module(text, name)
        self.assert_bad_input(["train", "--import", name], f"--import {name}", reason)

    def test_own_loss_through_json_and_from_yaml(self):
        self.write_module()
        sys.path.insert(0, str(self.folder))
        cls = __import__("my_losses").HalfIoULoss
        config = LossConfig(box=BoxLossConfig("half_iou", arguments={"factor": 2.0}))
        again = LossConfig.from_mapping(config_to_dict(config))
        self.assertEqual(again, config)
        box = build_loss(again).box
        # IoU is 25 / 175: twice what is missing to 1.
        pair = np.float32([[0, 0, 10, 10]]), np.float32([[5, 5, 15, 15]])
        self.assertAlmostEqual(float(box(*pair)), 2 * (1 - 25 / 175), places=6)
        loaded = keras.losses.deserialize(json.loads(json.dumps(keras.losses.serialize(box))))
        self.assertIs(type(loaded), cls)
        self.assertEqual(loaded.factor, 2.0)

    def test_a_class_takes_its_own_place_and_no_other(self):
        def define(qualname):
            cls = type("Mine", (kyolo.losses.BoxLoss,), {"__qualname__": qualname})
            return registry.register("box_loss", "mine")(cls)

        define("Mine")
        again = define("Mine")  # a notebook's cell runs twice
        self.assertIs(registry.find("box_loss", "mine"), again)
        self.assertEqual(registry.names("box_loss")[-1], "mine")
        with self.assertRaisesRegex(ValueError, "not taken.*'mine'"):
            define("Another")
        with self.assertRaisesRegex(ValueError, "not taken.*'ciou'"):
            registry.register("box_loss", "ciou")(type("CIoU", (kyolo.losses.BoxLoss,), {}))

    def test_wrong_names(self):
        with self.assertRaisesRegex(ValueError, "box_loss, classification_loss, received 'boxloss'"):
            kyolo.register("boxloss", "mine")
        with self.assertRaisesRegex(ValueError, "received 'my loss'"):
            kyolo.register("box_loss", "my loss")
        with self.assertRaisesRegex(ValueError, "ciou.*received 'ciuo'"):
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
        self.assertEqual(apply_overrides(Config(), overrides).model.loss.box, BoxLossConfig("ciou"))

    @parameterized.parameters(
        ("{kind: siou, thet: 3}", r"^model.loss.box.thet: .*theta \(did you mean theta\?\)"),
        ("{kind: ciou, theta: 3}", r"^model.loss.box.theta: unknown key for ciou; expected nothing further"),
        ("{kind: siou, theta: 0.5}", r"^model.loss.box.theta: expected a number >= 1, received 0.5"),
        ("{kind: siou, theta: high}", r"^model.loss.box.theta: expected a number >= 1, received 'high'"),
        ("{kind: siou, reduction: sum}", r"^model.loss.box.reduction: unknown key"),
        ("{kind: alpha_iou, base: siou}", r"^model.loss.box.base: expected one of iou, giou, diou, ciou"),
        ("{kind: siou, theta: {a: 1}}", r"^model.loss.box.theta: expected a number, a text or a list"),
        ("{kind: siou, the-ta: 1}", r"^model.loss.box.the-ta: unknown key"),
    )
    def test_wrong_arguments(self, text, message):
        with self.assertRaisesRegex(ConfigError, message):
            build_loss(apply_overrides(Config(), [f"model.loss.box={text}"]).model.loss)

    def test_the_image_size_is_that_of_the_data_unless_given(self):
        config = LossConfig(box=BoxLossConfig("mpdiou"))
        self.assertEqual(build_loss(config, (320, 640)).box.image_size, (320, 640))
        config = LossConfig(box=BoxLossConfig("mpdiou", arguments={"image_size": [64, 96]}))
        self.assertEqual(build_loss(config, (320, 640)).box.image_size, (64, 96))
        with self.assertRaisesRegex(ConfigError, "^model.loss.box: mpdiou .*image_size"):
            build_loss(LossConfig(box=BoxLossConfig("mpdiou")))


if __name__ == "__main__":
    tf.test.main()
