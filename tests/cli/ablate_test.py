"""`kyolo ablate`: what it trains, what it refuses, and what it says."""

import contextlib
import json
import signal
import subprocess
import sys
from unittest import mock

import pytest
from absl.testing import absltest

from kyolo import ablation
from kyolo.data.shapes import write_shapes
from tests.ablation.studies import PLAN, write_plan, write_run
from tests.test_case import ROOT, TestCase


class AblateTest(TestCase):
    def setUp(self):
        super().setUp()
        self.shapes = self.folder / "shapes"
        write_shapes(self.shapes, train=4, val=2, image_size=64)
        self.plan = write_plan(self.folder)
        self.output = self.folder / "study"
        self.started = []

    def ablate(self, *arguments, fail=()):
        """Run the command; in place of a training, write its result, or fail."""

        def train_runs(runs, _, on_end):
            for run in runs:
                self.started.append(run.name)
                if run.name not in fail:
                    write_run(run.path, 0.5 + 0.05 * (run.variant == "gam") + 0.001 * run.seed)
                on_end(run, int(run.name in fail))

        base = ("ablate", "--plan", self.plan, "--data", self.shapes, "--no-latency")
        with mock.patch.object(ablation, "train_runs", train_runs):
            return self.run_kyolo(*base, *arguments)

    def test_every_variant_with_every_seed(self):
        code, stdout, stderr = self.ablate("--output", self.output, "--json")
        self.assertEqual(code, 0, stderr)
        self.assertEqual(self.started[:4], ["baseline:0", "gam:0", "small:0", "baseline:1"])
        self.assertLen(self.started, 18)
        self.assertIn("18/18  small:5  AP 0.5050  0 min left", stderr)
        document = json.loads(stdout)
        self.assertEqual(document["variants"][1]["comparison"]["pairs"], 6)
        plan = json.loads((self.output / "plan.json").read_text())
        self.assertEqual(plan["plan_sha256"], document["plan_sha256"])
        self.assertLen(plan["runs"], 18)
        self.assertTrue((self.output / "report.html").is_file())

    def test_failed_runs_are_named_and_run_again_or_left_out(self):
        code, stdout, stderr = self.ablate("--output", self.output, fail=("gam:2", "small:4"))
        self.assertEqual((code, stdout), (1, ""))
        self.assertIn("2 of 18 runs cannot be compared: gam:2: missing; small:4: missing", stderr)
        self.assertFalse((self.output / "report.md").exists())
        self.started.clear()
        excluded = ("--exclude", "gam:2", "--exclude", "small:4")
        code, _, stderr = self.ablate("--output", self.output, "--resume", *excluded)
        self.assertEqual((code, self.started), (0, []), stderr)
        self.assertIn("Excluded by request: gam:2, small:4.", (self.output / "report.md").read_text())
        code, _, stderr = self.ablate("--output", self.output, "--resume")
        self.assertEqual((code, self.started), (0, ["gam:2", "small:4"]), stderr)

    def test_equal_configurations_are_trained_once(self):
        self.plan = write_plan(
            self.folder, "question: Same?\nbase: base.yaml\nseeds: 2\nvariants: {a: {}, b: {model.backbone.size: n}}\n"
        )
        code, _, stderr = self.ablate("--output", self.output)
        self.assertEqual((code, self.started), (0, ["a:0", "a:1"]), stderr)
        self.assertIn("b equals a within 0.005 AP", (self.output / "report.md").read_text())

    def test_resume_continues_the_same_study_only(self):
        self.ablate("--output", self.output)
        started = list(self.started)
        code, _, stderr = self.ablate("--output", self.output, "--resume")
        self.assertEqual((code, self.started), (0, started), stderr)
        self.plan.write_text(self.plan.read_text().replace("seeds: 6", "seeds: 7"))
        code, _, stderr = self.ablate("--output", self.output, "--resume")
        self.assertEqual(code, 2)
        self.assertIn("expected plan_sha256", stderr)
        write_plan(self.folder)
        annotations = self.shapes / "annotations" / "instances_val.json"
        document = json.loads(annotations.read_text())
        document["annotations"].pop()
        annotations.write_text(json.dumps(document))
        code, _, stderr = self.ablate("--output", self.output, "--resume")
        self.assertEqual(code, 2)
        self.assertIn("got other data", stderr)

    def test_a_setting_that_only_the_model_knows_is_checked_before_the_first_run(self):
        for settings, message in (
            ("{model.backbone.sise: p}", "variants.small.model.backbone.sise"),
            ("{model.attention: [{kind: gam, reduction: 5}]}", "variants.small.model.attention.0"),
            ("{model.weights: nowhere.npz}", "nowhere.npz"),
        ):
            with self.subTest(settings):
                self.plan = write_plan(self.folder, PLAN.replace("{model.backbone.size: p}", settings))
                code, stdout, stderr = self.ablate("--output", self.output)
                self.assertEqual((code, stdout, stderr.count("\n")), (2, "", 1), stderr)
                self.assertIn(message, stderr)
        self.assertEmpty(self.started)
        self.assertFalse(self.output.exists())

    def test_bad_input(self):
        for arguments, message in (
            ((), "--output: expected the directory"),
            (("--output", self.shapes), "--output: expected a new directory"),
            (("--output", self.output, "--resume"), "expected the plan of a study that was begun"),
            (("--output", self.output, "--jobs", "0"), "--jobs: expected 1 or more, got 0"),
            (("--output", self.output, "--jobs", "999"), "--jobs: expected at most"),
            (("--output", self.output, "--exclude", "gam:77"), "--exclude: expected runs such as baseline:0"),
            (("--dry-run", "--spread", "-1"), "--spread: expected"),
            (("--dry-run", "--pilot", self.folder), "Check --pilot"),
        ):
            with self.subTest(message):
                code, stdout, stderr = self.ablate(*arguments)
                self.assertEqual((code, stdout, stderr.count("\n")), (2, "", 1), stderr)
                self.assertIn(message, stderr)
        self.assertFalse(self.output.exists())

    def test_dry_run(self):
        with mock.patch.object(ablation, "run_seconds", return_value=600.0):
            code, stdout, stderr = self.ablate("--dry-run", "--spread", "0.004")
        self.assertEqual(code, 0, stderr)
        for line in (
            "18 runs: 3 variants, 6 seeds",
            "3.0 hours with 1 jobs",
            "Nothing can be significant at 5 %: 2 comparisons need 7 seeds, the plan has 6.",
            "Smallest detectable effect: 0.0057 AP",  # 1.435 spreads, from a table of power for n = 6
        ):
            self.assertIn(line, stdout)
        self.assertFalse(self.output.exists())

    def test_pilot(self):
        self.ablate("--output", self.output)
        with mock.patch.object(ablation, "run_seconds", return_value=600.0):
            code, stdout, stderr = self.ablate("--dry-run", "--pilot", self.output)
        self.assertEqual(code, 0, stderr)
        self.assertIn("Smallest detectable effect: 0.0000 AP", stdout)


@pytest.mark.slow
class RealStudyTest(TestCase):
    PLAN = """question: Does the learning rate matter?
base: base.yaml
seeds: 2
variants:
  baseline: {}
  slow: {train.optimizer.learning_rate: 0.0005}
"""
    BASE = f"""base: {ROOT / "configs" / "quickstart.yaml"}
model: {{levels: [P4, P5], backbone: {{size: p}}}}
data: {{image_size: 64}}
train: {{epochs: 2, batch_size: 4}}
"""

    def setUp(self):
        super().setUp()
        write_shapes(self.folder / "shapes", train=8, val=4, image_size=64)
        (self.folder / "base.yaml").write_text(self.BASE)
        (self.folder / "plan.yaml").write_text(self.PLAN)

    def command(self, output, *more):
        paths = ["--plan", self.folder / "plan.yaml", "--data", self.folder / "shapes", "--output", output]
        return [sys.executable, "-m", "kyolo", "ablate", *map(str, paths), "--jobs", "2", "--no-latency", *more]

    def results(self, output):
        document = json.loads((output / "report.json").read_text())
        for variant in document["variants"]:
            del variant["train_seconds"]
        return document

    def test_interrupted_and_resumed_it_gives_the_same_report(self):
        whole, parts = self.folder / "whole", self.folder / "parts"
        subprocess.run(self.command(whole), cwd=ROOT, check=True, capture_output=True)
        more = []
        for seconds in (15, 30):
            process = subprocess.Popen(
                self.command(parts, *more), cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(seconds)
            process.send_signal(signal.SIGTERM)
            process.wait()
            more = ["--resume"] * (parts / "plan.json").is_file()
        done = subprocess.run(self.command(parts, *more), cwd=ROOT, check=False, capture_output=True, text=True)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(self.results(parts), self.results(whole))


if __name__ == "__main__":
    absltest.main()
