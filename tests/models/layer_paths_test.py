"""Layers by name, and what freezing them does."""

import dataclasses
import os

import keras
import numpy as np
import tensorflow as tf
from absl.testing import parameterized

import kyolo
from kyolo.config import AttentionConfig, BackboneConfig, ModelConfig
from kyolo.models.cost import count_weights
from kyolo.models.layer_paths import layers_by_path, select_layers, values_by_variable

MODEL = ModelConfig(
    num_classes=3, levels=("P4", "P5"), backbone=BackboneConfig(size="p"), attention=(AttentionConfig(kind="gam"),)
)


def paths(variables):
    return {variable.path for variable in variables}


class LayerPathsTest(tf.test.TestCase, parameterized.TestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.detector = kyolo.build_detector(MODEL)

    def test_every_variable_is_of_one_layer(self):
        found = [v.path for layer in layers_by_path(self.detector).values() for v in layer.variables]
        self.assertCountEqual(found, [variable.path for variable in self.detector.variables])

    @parameterized.parameters(
        ("head/P4_box_1/norm", {"head/P4_box_1/norm"}),
        ("head/P4_box_1", {"head/P4_box_1/conv", "head/P4_box_1/norm"}),
        ("backbone/stem_1", {"backbone/stem_1_conv", "backbone/stem_1_bn"}),
        ("backbone/stem", {f"backbone/stem_{number}_{kind}" for number in (1, 2) for kind in ("conv", "bn")}),
    )
    def test_a_name_means_what_it_begins_up_to_a_border(self, name, expected):
        self.assertEqual(set(select_layers(self.detector, name)), expected)

    def test_a_layer_by_its_name_alone(self):
        expected = set(select_layers(self.detector, "top/sppf"))
        self.assertEqual(expected, {f"top/sppf/{conv}/{kind}" for conv in ("pre", "post") for kind in ("conv", "norm")})
        self.assertEqual(set(select_layers(self.detector, "sppf")), expected)
        self.assertEqual(set(select_layers(self.detector, "P4_class_logits")), {"head/P4_class_logits"})
        self.assertEqual(set(select_layers(self.detector, "stem_1_conv")), {"backbone/stem_1_conv"})

    def test_a_whole_name_is_no_beginning(self):
        blocks = tuple(AttentionConfig(kind="simam", at="P4") for _ in range(2))
        detector = kyolo.build_detector(dataclasses.replace(MODEL, attention=blocks))
        self.assertEqual(set(select_layers(detector, "top/attention_P4_simam")), {"top/attention_P4_simam"})
        self.assertLen(select_layers(detector, "top/attention_P4"), 2)

    def test_parts_have_their_variables(self):
        for part in ("backbone", "top", "neck", "head"):
            variables = [v for layer in select_layers(self.detector, part).values() for v in layer.variables]
            self.assertEqual(paths(variables), paths(getattr(self.detector, part).variables))

    @parameterized.parameters("tail", "back", "", "head/P3", "head/P4_box_1/norm/gamma", "backbone/stem_1_convolution")
    def test_a_name_that_means_nothing(self, name):
        with self.assertRaisesRegex(ValueError, "expected a part .backbone, top, neck, head.*received"):
            select_layers(self.detector, name)

    def test_the_error_says_what_lies_below_the_part(self):
        with self.assertRaisesRegex(ValueError, "such as head/P4, head/P5, received 'head/P3'"):
            select_layers(self.detector, "head/P3")

    @parameterized.parameters(("bone", "backbone"), ("head/P4_bx_1/norm", "head/P4_box_1/norm"))
    def test_the_error_asks_for_what_is_near(self, name, meant):
        with self.assertRaisesRegex(ValueError, f"did you mean {meant}"):
            select_layers(self.detector, name)

    def test_the_longest_name_counts(self):
        factors = {"top/attention_sppf_in_gam": 10.0, "top": 0.5, "top/attention_sppf_in_gam/squeeze_norm": 2.0}
        for order in (sorted(factors), sorted(factors, reverse=True)):
            found = values_by_variable(self.detector, {name: factors[name] for name in order})
            self.assertEqual(set(found), paths(self.detector.top.trainable_variables))
            self.assertEqual(found["top/sppf/pre/conv/kernel"], 0.5)
            self.assertEqual(found["top/attention_sppf_in_gam/spatial_expand/kernel"], 10.0)
            self.assertEqual(found["top/attention_sppf_in_gam/squeeze_norm/gamma"], 2.0)


class FreezeTest(tf.test.TestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.detector = kyolo.build_detector(MODEL)
        cls.weights = count_weights(cls.detector)
        for name in ("backbone", "top/attention_sppf_in_gam", "head/P4"):
            cls.detector.freeze(name)

    def test_what_learns(self):
        learns = paths(self.detector.trainable_variables)
        expected = paths(self.detector.neck.trainable_variables) | {
            path for path in learns if "sppf" in path or "P5" in path
        }
        self.assertEqual(learns, expected)
        self.assertTrue(any(path.startswith("head/P5") for path in learns))
        frozen = sum(
            np.prod(v.shape) for v in self.detector.variables if v.path not in learns and "moving" not in v.path
        )
        self.assertEqual(count_weights(self.detector), self.weights - frozen)

    def test_batch_norms_keep_their_statistics(self):
        before = {variable.path: variable.numpy() for variable in self.detector.variables}
        images = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3)).astype("uint8")
        self.detector(images, training=True)
        learns = {path.rpartition("/")[0] for path in paths(self.detector.trainable_variables)}
        for variable in self.detector.variables:
            moves = "moving" in variable.name and variable.path.rpartition("/")[0] in learns
            self.assertEqual(np.array_equal(variable.numpy(), before[variable.path]), not moves, msg=variable.path)

    def test_a_detector_that_was_compiled_asks_for_it_again(self):
        detector = kyolo.build_detector(MODEL)
        detector.compile("sgd")
        detector.freeze("neck")
        with self.assertRaisesRegex(ValueError, "call `compile\\(\\)`"):
            detector.fit(np.zeros((1, 32, 32, 3)), verbose=0)
        detector.compile("sgd")
        self.assertTrue(detector.compiled)

    def test_a_file_keeps_it(self):
        path = os.path.join(self.get_temp_dir(), "detector.keras")
        self.detector.compile(keras.optimizers.SGD(0.1, momentum=0.9))
        self.detector.save(path)
        loaded = keras.models.load_model(path)
        self.assertEqual(paths(loaded.trainable_variables), paths(self.detector.trainable_variables))
        self.assertLen(loaded.optimizer.variables, len(self.detector.optimizer.variables))

    def test_factors_are_for_layers_that_learn(self):
        with self.assertRaisesRegex(ValueError, "^backbone: expected trainable layers, got frozen ones"):
            values_by_variable(self.detector, {"backbone": 0.1})
        found = values_by_variable(self.detector, {"head": 0.1})
        self.assertEqual(set(found), {path for path in paths(self.detector.trainable_variables) if "head" in path})


if __name__ == "__main__":
    tf.test.main()
