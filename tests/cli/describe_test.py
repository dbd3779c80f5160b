"""`kyolo describe`: parts and their costs, by hand."""

import functools
import json
from unittest import mock

import keras
import pytest
from absl.testing import absltest

from tests.test_case import ROOT, TestCase

CONFIG = ROOT / "configs" / "yolov8_n.yaml"
SET = ("--set", "data.image_size=320", "--set", "model.num_classes=3")
# Weights, and multiply-adds in units of 10^6. YOLOv8-n has 64, 128, 256 channels at 320 px on 40, 20, 10 cells a side.
# Backbone: 3x3 3 -> 16 on 160^2 cells, 3x3 16 -> 32 on 80^2; on 80^2, 40^2, 20^2, 10^2 cells C2f of C channels, halves
# h and 1, 2, 2, 1 pairs of 3x3 h -> h: 1x1 C -> C, pairs, 1x1 (2 + pairs) h -> C; before the last three 3x3 C/2 -> C.
# 464 + 4672 + 7360 + (18560 + 49664) + (73984 + 197632) + (295424 + 460288); multiply-adds 11.0592 + 29.4912 + 45.8752
# + (29.4912 + 78.6432) + (29.4912 + 78.6432) + (29.4912 + 45.8752).
BACKBONE = 1108048, 378.0608
# Neck: C2f of one pair each, 384 -> 128 on 20^2, 192 -> 64 on 40^2, 192 -> 128 on 20^2, 384 -> 256 on 10^2 cells; 3x3
# 64 -> 64 and 128 -> 128 between the last three: 148224 + 37248 + 36992 + 123648 + 147712 + 493056; multiply-adds
# 58.9824 + 58.9824 + 14.7456 + 49.152 + 14.7456 + 49.152.
NECK = 986880, 245.76
# SPPF: 1x1 256 -> 128, 1x1 512 -> 256, two weights a channel for the norms: 32768 + 256 + 131072 + 512; on 100 cells.
SPPF = 164608, 16.384
# Head, of a level of C channels: twice 3x3 C -> 64 and 3x3 64 -> 64 with their norms, 1x1 64 -> 64 and 64 -> 3 with
# biases: 2 x (576 C + 128 + 36864 + 128) + 4160 + 195, for 64 + 128 + 256; multiply-adds 2 x (576 C + 36864) + 4096 +
# 192 on 1600, 400, 100 cells: 242.7904 + 90.1888 + 37.2928.
HEAD = 751881, 370.272
# GAM: 1x1 256 -> 64 -> 256, 7x7 the same, four biases, two norms: 1638400 + 4 x 320; on 100 cells.
GAM = 1639680, 163.84
# With 4 groups the 7x7 kernels look at a quarter: 2 x 256 x 64 + 2 x 49 x 64 x 64 + 4 x (64 + 256).
GROUPED = 435456, 43.4176
# SE behind the neck at P4: 128 -> 8 -> 128 with biases, on one cell.
SE = 2184, 0.002048


class DescribeTest(TestCase):
    def describe(self, *arguments):
        code, stdout, stderr = self.run_kyolo("describe", "--config", CONFIG, *SET, *arguments)
        self.assertEqual(code, 0, stderr)
        return stdout

    def write(self, text):
        path = self.folder / "other.yaml"
        path.write_text(f"base: {CONFIG}\n{text}")
        return path

    def assert_costs(self, part, weights, millions):
        self.assertEqual(part["weights"], weights)
        self.assertAlmostEqual(part["gflop"], 2 * millions / 1e3, places=9)

    def test_costs_by_hand(self):
        other = self.write("model: {attention: [{kind: gam}, {kind: se, at: N4}]}\n")
        document = json.loads(self.describe("--against", other, "--json"))
        plain, attended = ({part["name"]: part for part in each["parts"]} for each in document["configs"])
        self.assertEqual(list(plain), ["backbone", "top", "neck", "head"])
        self.assert_costs(plain["backbone"], *BACKBONE)
        self.assert_costs(plain["top"], *SPPF)
        self.assert_costs(plain["neck"], *NECK)
        self.assert_costs(plain["head"], *HEAD)
        self.assertEqual(plain["head"]["outputs"], [[2100, 4, 16], [2100, 3]])
        self.assertEqual(plain["neck"]["outputs"], [[40, 40, 64], [20, 20, 128], [10, 10, 256]])
        (gam,), (se,) = attended["top"]["pieces"], attended["neck"]["pieces"]
        self.assertEqual((gam["name"], se["name"]), ("attention_sppf_in_gam", "attention_N4_se"))
        self.assert_costs(gam, *GAM)
        self.assert_costs(se, *SE)
        self.assert_costs(attended["top"], SPPF[0] + GAM[0], SPPF[1] + GAM[1])
        added = document["configs"][1]["weights"] - document["configs"][0]["weights"]
        self.assertEqual(added, GAM[0] + SE[0])
        # Published: 3,157,184 weights with 80 classes.
        self.assertEqual(json.loads(self.describe("--json", "--set", "model.num_classes=80"))["weights"], 3157184)

    def test_grouped_convolutions_count(self):
        document = json.loads(self.describe("--json", "--set", "model.attention=[{kind: gam, groups: 4}]"))
        (gam,) = document["parts"][1]["pieces"]
        self.assert_costs(gam, *GROUPED)

    def test_without_the_weights_of_a_backbone(self):
        """Costs need no weights, and so nothing is fetched."""
        make, asked = keras.applications.MobileNetV3Small, []

        @functools.wraps(make)
        def noted(*args, **kwargs):
            asked.append(kwargs["weights"])
            return make(*args, **{**kwargs, "weights": None})

        with mock.patch.object(keras.applications, "MobileNetV3Small", noted):
            self.describe("--set", "model.backbone={kind: mobilenet_v3, size: small, weights: imagenet}")
        self.assertEqual(asked, [None])

    def test_table(self):
        other = self.write("model: {attention: [{kind: simam, at: P3}]}\n")
        lines = self.describe("--against", other).splitlines()
        self.assertEqual(lines[0].split(), ["part", *["output", "weights", "GFLOP"] * 2])
        names = [line.split()[0] for line in lines[2:8]]
        self.assertEqual(names, ["backbone", "top", "attention_P3_simam", "neck", "head", "all"])
        self.assertIn("751,881  0.741", lines[6])
        self.assertEqual(lines[8], f"{CONFIG}: 3 classes, one image of 320 x 320 pixels")

    @pytest.mark.slow
    def test_latency(self):
        latency = ("--latency", "--threads", "1", "--against", self.write("model: {backbone: {size: s}}\n"), "--json")
        small = ("--set", "data.image_size=128", "--set", "model.levels=[P4, P5]")  # fewer operations to convert
        first, second = json.loads(self.describe(*latency, *small))["configs"]
        for document in (first, second):
            self.assertEqual((list(document["median_ms"]), document["threads"]), (["keras", "float32", "int8"], 1))
        # s has 3.6 times the weights and 3.3 times the arithmetic of n.
        self.assertGreater(second["median_ms"]["float32"], 1.2 * first["median_ms"]["float32"])

    def test_bad_input(self):
        for arguments, text in (
            (("--config", "none.yaml"), "none.yaml"),
            (("--config", CONFIG, "--threads", "0"), "--threads: expected 1 or more"),
            (
                ("--config", CONFIG, "--set", "data.image_size=100"),
                "data.image_size: expected multiples of 32",
            ),
            (("--config", CONFIG, "--set", "model.attention=[{kind: gams}]"), "did you mean gam?"),
        ):
            code, stdout, stderr = self.run_kyolo("describe", *arguments)
            self.assertEqual((code, stdout, stderr.count("\n")), (2, "", 1), stderr)
            self.assertIn(text, stderr)


if __name__ == "__main__":
    absltest.main()
