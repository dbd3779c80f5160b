import keras
import numpy as np
import pytest
import tensorflow as tf
from absl.testing import parameterized

import kyolo
from kyolo.config import AttentionConfig, BackboneConfig, ModelConfig
from kyolo.weights import transfer_weights


def build(seed=0, init=None, **settings):
    attention = () if init is None else (AttentionConfig(kind="gam", arguments={"init": init}),)
    config = ModelConfig(num_classes=3, backbone=BackboneConfig(size="p"), attention=attention, **settings)
    return kyolo.build_detector(config, seed=seed)


def trained(seed=5):
    """A detector whose weights are nowhere at their start, the batch norms' statistics included."""
    detector, random = build(seed=seed), np.random.default_rng(seed)
    for variable in detector.variables:
        variable.assign(variable.numpy() + random.normal(0, 0.02, variable.shape))
    return detector


class TransferTest(tf.test.TestCase, parameterized.TestCase):
    images = np.random.default_rng(1).integers(0, 256, (2, 64, 64, 3)).astype("uint8")

    def test_inserted_identity_attention_keeps_the_baselines_outputs(self):
        baseline, attended = trained(), build(init="identity")
        report = transfer_weights(attended, baseline)
        # Every weight of the baseline has found its place; only the attention's own are new.
        self.assertCountEqual(report.placed, [variable.path for variable in baseline.variables])
        self.assertEqual((report.unused, report.mismatched), ((), ()))
        self.assertNotEmpty(report.new)
        for path in report.new:
            self.assertIn("gam", path)
        for training in (False, True):
            found, expected = (model(self.images, training=training) for model in (attended, baseline))
            for name, output in expected.items():
                self.assertAllInRange(output, -100, 100)  # not NaN, which would equal itself
                self.assertAllClose(found[name], output, rtol=1e-5, atol=1e-5, msg=name)

    def test_paper_attention_does_not(self):
        baseline, attended = trained(), build(init="paper")
        transfer_weights(attended, baseline)
        found, expected = (model(self.images, training=True)["class_logits"] for model in (attended, baseline))
        self.assertNotAllClose(found, expected, atol=1e-2)

    def test_back_to_the_baseline(self):
        report = transfer_weights(build(), build(init="identity"))
        self.assertEqual((report.new, report.mismatched), ((), ()))
        for path in report.unused:
            self.assertIn("gam", path)

    @pytest.mark.slow
    def test_another_level_and_another_number_of_classes(self):
        # P2 changes what the finest level is and with it the head's widths; what keeps its shape is placed, what does
        # not is named, and nothing is lost on the way.
        baseline = trained()
        detector = build(levels=("P2", "P3", "P4", "P5"))
        report = transfer_weights(detector, baseline)
        mismatched = [path for path, _, _ in report.mismatched]
        self.assertLen(detector.variables, len(report.placed) + len(report.new) + len(mismatched))
        source = {variable.path: variable.numpy() for variable in baseline.variables}
        self.assertCountEqual([*report.placed, *mismatched, *report.unused], source)
        for variable in detector.variables:
            if variable.path in report.placed:
                self.assertAllEqual(variable, source[variable.path], msg=variable.path)

    def test_report_by_hand(self):
        model = keras.layers.Dense(3, name="kept")
        model.build((None, 2))
        kept = {variable.path: variable.numpy() for variable in model.variables}
        source = {"kept/kernel": np.ones((2, 4)), "kept/bias": np.full(3, 7.0), "gone/bias": np.zeros(1)}
        report = transfer_weights(model, source)
        self.assertEqual(report.placed, ("kept/bias",))
        self.assertEqual(report.new, ())
        self.assertEqual(report.unused, ("gone/bias",))
        self.assertEqual(report.mismatched, (("kept/kernel", (2, 3), (2, 4)),))
        self.assertAllEqual(model.bias, [7.0] * 3)
        self.assertAllEqual(model.kernel, kept["kept/kernel"])
        for text in ("1 placed", "1 unused", "1 mismatched", "gone/bias", "kept/kernel"):
            self.assertIn(text, report.summary())

    def test_a_source_with_nothing_in_common_places_nothing(self):
        model = keras.layers.Dense(3, name="kept")
        model.build((None, 2))
        report = transfer_weights(model, {})
        self.assertEqual(report.new, ("kept/kernel", "kept/bias"))


if __name__ == "__main__":
    tf.test.main()
