"""`kyolo describe`: parts and their costs, by hand."""

import json

from absl.testing import absltest

from tests.test_case import ROOT, TestCase

CONFIG = ROOT / "configs" / "yolov8_n.yaml"
SET = ("--set", "data.image_size=320", "--set", "model.num_classes=3")
# Weights, and multiply-adds in units of 10^6. YOLOv8-n has 64, 128, 256 channels at 320 px on 40, 20, 10 cells a side.
# SPPF: 1x1 256 -> 128, 1x1 512 -> 256, two weights a channel for the norms: 32768 + 256 + 131072 + 512; on 100 cells.
SPPF = 164608, 16.384
# Head, of a level of C channels: twice 3x3 C -> 64 and 3x3 64 -> 64 with their norms, 1x1 64 -> 64 and 64 -> 3 with
# biases: 2 x (576 C + 128 + 36864 + 128) + 4160 + 195, for 64 + 128 + 256; multiply-adds 2 x (576 C + 36864) + 4096 +
# 192 on 1600, 400, 100 cells: 242.7904 + 90.1888 + 37.2928.
HEAD = 751881, 370.272
# GAM: 1x1 256 -> 64 -> 256, 7x7 the same, four biases, two norms: 1638400 + 4 x 320; on 100 cells.
GAM = 1639680, 163.84
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
        self.assert_costs(plain["top"], *SPPF)
        self.assert_costs(plain["head"], *HEAD)
        self.assertEqual(plain["head"]["outputs"], [[2100, 4, 16], [2100, 3]])
        self.assertEqual(plain["neck"]["outputs"], [[40, 40, 64], [20, 20, 128], [10, 10, 256]])
        self.assert_costs(attended["  sppf_in attention_0_gam"], *GAM)
        self.assert_costs(attended["  N4 attention_1_se"], *SE)
        self.assert_costs(attended["top"], SPPF[0] + GAM[0], SPPF[1] + GAM[1])
        added = document["configs"][1]["weights"] - document["configs"][0]["weights"]
        self.assertEqual(added, GAM[0] + SE[0])
        # Published: 3,157,184 weights with 80 classes.
        self.assertEqual(json.loads(self.describe("--json", "--set", "model.num_classes=80"))["weights"], 3157184)

    def test_table(self):
        other = self.write("model: {attention: [{kind: simam, at: P3}]}\n")
        lines = self.describe("--against", other).splitlines()
        self.assertEqual(lines[0].split(), ["part", *["output", "weights", "GFLOP"] * 2])
        names = [line.split()[0] for line in lines[2:8]]
        self.assertEqual(names, ["backbone", "top", "P3", "neck", "head", "all"])
        self.assertIn("751,881  0.741", lines[6])
        self.assertEqual(lines[8], f"{CONFIG}: 3 classes, one image of 320 x 320 pixels")

    def test_latency(self):
        document = json.loads(
            self.describe("--latency", "--threads", "1", "--json", "--set", "model.backbone.size=p",
                          "--set", "data.image_size=64")
        )  # fmt: skip
        self.assertEqual((list(document["median_ms"]), document["threads"]), (["keras", "float32", "int8"], 1))
        for milliseconds in document["median_ms"].values():
            self.assertGreater(milliseconds, 0.0)

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
