"""Attention at its places in a detector: nothing changes at the start, and only what lies behind it later."""

import keras
import numpy as np
import tensorflow as tf
from absl.testing import parameterized

import kyolo
from kyolo.config import AttentionConfig, ConfigError
from kyolo.layers import ControlConv
from kyolo.models.cost import count_weights
from kyolo.weights import transfer_weights
from tests.models.build_test import LEVELS, build, plain

KINDS = ("gam", "cbam", "se", "eca", "coord_attention", "simam")
PLACES = ("sppf_in", "P3", "P5", "N3", "N5")
IMAGES = np.random.default_rng(1).integers(0, 256, (2, 64, 64, 3)).astype("uint8")


class AttentionTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.parameters(*((kind, PLACES[i % 5]) for i, kind in enumerate(KINDS)))
    def test_identity_changes_no_output(self, kind, place):
        expected = plain()(IMAGES)
        attended = build(attention=(AttentionConfig(kind=kind, at=place),))(IMAGES)
        for name, output in expected.items():
            self.assertAllClose(attended[name], output, rtol=0, atol=1e-6)

    @parameterized.parameters(*KINDS)
    def test_every_kind_keeps_a_baseline_that_was_trained(self, kind):
        """Weights carried over by name; one module at every place of the detector at once."""
        baseline, random = build(levels=LEVELS), np.random.default_rng(5)
        for variable in baseline.variables:
            variable.assign(variable.numpy() + random.normal(0, 0.02, variable.shape))
        places = ("sppf_in", *LEVELS, *(level.replace("P", "N") for level in LEVELS))
        attended = build(levels=LEVELS, attention=tuple(AttentionConfig(kind=kind, at=place) for place in places))
        report = transfer_weights(attended, baseline)
        self.assertEqual((report.unused, report.mismatched), ((), ()))
        self.assertEqual({path.split("/")[1] for path in report.new}, {f"attention_{place}_{kind}" for place in places})
        for training in (False, True):
            found = attended(IMAGES, training=training)
            for name, output in baseline(IMAGES, training=training).items():
                self.assertAllInRange(output, -100, 100)
                self.assertAllClose(found[name], output, rtol=1e-5, atol=1e-5)

    def test_weights_find_their_module_whatever_else_the_list_holds(self):
        gam, se = AttentionConfig(kind="gam"), AttentionConfig(kind="se", at="P3")
        report = transfer_weights(build(attention=(se, gam)), build(attention=(gam,)))
        self.assertEqual(report.unused, ())
        self.assertEqual({path.split("/")[1] for path in report.new}, {"attention_P3_se"})
        report = transfer_weights(build(attention=(se,)), build(attention=(AttentionConfig(kind="se", at="P5"),)))
        self.assertEqual({path.split("/")[1] for path in report.unused}, {"attention_P5_se"})
        twice = build(attention=(gam, gam)).top.attention["sppf_in"]
        self.assertEqual([layer.name for layer in twice], ["attention_sppf_in_gam", "attention_sppf_in_gam_2"])

    @parameterized.parameters(*PLACES, "P4", "N4")
    def test_place(self, place):
        """A module that doubles its map doubles there and nowhere else: the maps before it stay."""
        detector = build(attention=(AttentionConfig(kind="se", at=place),))
        part = detector.neck if place.startswith("N") else detector.top
        (layer,) = part.attention[place]
        maps = plain().backbone(IMAGES)
        before = plain().top(maps)
        layer.expand.bias.assign(np.full(layer.expand.bias.shape, 100.0))  # 2 sigmoid(100) = 2
        found = detector.top(maps)
        if place.startswith("N"):
            expected, found = plain().neck(before), detector.neck(found)
        else:
            expected = before
        number = {"3": 0, "4": 1, "5": 2}.get(place[1:])
        for i, (one, other) in enumerate(zip(found, expected, strict=True)):
            if place == "sppf_in":
                self.assertEqual(np.array_equal(one, other), i < 2)
            else:
                self.assertAllClose(one, other * (2.0 if i == number else 1.0), atol=1e-5, msg=f"{i}")

    def test_several_at_one_place_run_in_order(self):
        detector = build(attention=[AttentionConfig(kind="eca", at="P4"), AttentionConfig(kind="se", at="P4")])
        names = [layer.name for layer in detector.top.attention["P4"]]
        self.assertEqual(names, ["attention_P4_eca", "attention_P4_se"])

    def test_of_every_level(self):
        places = ("P2", "P6", "N2", "N6")
        detector = build(levels=LEVELS, attention=tuple(AttentionConfig(kind="simam", at=place) for place in places))
        self.assertLen([v for v in detector.variables if v.path.endswith("strength")], 4)

    @parameterized.parameters("identity", "paper")
    def test_control_has_as_many_weights(self, init):
        """As GAM on p's 128 channels at P5, to half of what a hidden channel costs."""
        block = {"kind": "gam", "arguments": {"init": init}}
        gam, control = (
            count_weights(build(attention=(AttentionConfig(**block, control=control),))) - count_weights(plain())
            for control in (None, "conv")
        )
        # 2 x 128 x 32 + 2 x 49 x 128 x 32 + 4 x (32 + 128) = 410,240; a hidden channel of 3x3 costs 2 x 9 x 128 + 2.
        self.assertEqual(gam, 410240)
        self.assertLessEqual(abs(control - gam), (2 * 9 * 128 + 2) / 2)
        detector = build(attention=(AttentionConfig(**block, control="conv"),))
        (layer,) = detector.top.attention["sppf_in"]
        self.assertEqual((type(layer), layer.init, layer.name), (ControlConv, init, "attention_sppf_in_conv"))

    @parameterized.parameters(
        ({"reduction": 5}, None, "model.attention.0: gam cannot be built: channels must be divisible"),
        ({"init": "zeros"}, None, "model.attention.0.init: expected one of identity, paper"),
        ({"reductions": 5}, None, "model.attention.0.reductions: unknown key for gam; .*reduction"),
        ({"reduction": "x"}, None, "model.attention.0.reduction: expected an integer >= 1, got 'x'"),
        ({"reduction": 0}, None, "model.attention.0.reduction: expected an integer >= 1, got 0"),
        ({"groups": True}, None, "model.attention.0.groups: expected an integer >= 1, got True"),
    )
    def test_settings_that_cannot_be(self, arguments, control, message):
        with self.assertRaisesRegex(ConfigError, message):
            build(attention=(AttentionConfig(kind="gam", control=control, arguments=arguments),))

    @parameterized.parameters(
        ("se", {"reduction": -4}, "reduction: expected an integer >= 1, got -4"),
        ("coord_attention", {"reduction": [4]}, r"reduction: expected an integer >= 1, got \[4\]"),
        ("cbam", {"kernel_size": "7"}, "kernel_size: expected an odd integer >= 1, got '7'"),
        ("eca", {"kernel_size": 4}, "kernel_size: expected an odd integer >= 1, got 4"),
        ("simam", {"regularization": -1}, "regularization: expected a number > 0, got -1"),
        ("simam", {"regularization": "x"}, "regularization: expected a number > 0, got 'x'"),
    )
    def test_arguments_that_cannot_be(self, kind, arguments, message):
        with self.assertRaisesRegex(ConfigError, f"^model.attention.0.{message}"):
            build(attention=(AttentionConfig(kind=kind, arguments=arguments),))

    def test_control_of_a_module_of_few_weights(self):
        with self.assertRaisesRegex(
            ConfigError, "^model.attention.0.control: conv cannot be built: num_weights: expected at least"
        ):
            build(attention=(AttentionConfig(kind="eca", control="conv"),))

    def test_own_module(self):
        @kyolo.register("attention", "halve")
        class Halve(keras.layers.Layer):
            def __init__(self, factor=0.5, **kwargs):
                super().__init__(**kwargs)
                self.factor = factor

            def call(self, inputs):
                return inputs * self.factor

            def get_config(self):
                return {**super().get_config(), "factor": self.factor}

        self.addCleanup(kyolo.registry._registered["attention"].pop, "halve")
        detector = build(attention=(AttentionConfig(kind="halve", at="N4", arguments={"factor": 0.25}),))
        maps = [np.ones((1, 8 >> i, 8 >> i, 32 << i), "float32") for i in range(3)]
        self.assertAllClose(detector.neck(maps)[1], 0.25 * plain().neck(maps)[1])


if __name__ == "__main__":
    tf.test.main()
