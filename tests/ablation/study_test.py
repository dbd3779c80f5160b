"""Runs become results, and results a report."""

import json
import re
import shutil

from absl.testing import absltest, parameterized

from kyolo.ablation import find_problems, summarize, write_report
from kyolo.ablation.report import to_html
from kyolo.errors import InputError
from tests.ablation.studies import write_run, write_study
from tests.test_case import TestCase

LATENCY = {name: {"float32": 10.0 + i, "int8": 5.0 + i} for i, name in enumerate(("baseline", "gam", "small"))}


class SummaryTest(TestCase):
    def test_by_hand(self):
        plan, runs = write_study(self.folder, {"gam": 0.03, "small": -0.02})
        document = summarize(plan, runs, latency=LATENCY)
        baseline, gam, small = document["variants"]
        self.assertIsNone(baseline["comparison"])
        self.assertEqual((gam["comparison"]["verdict"], small["comparison"]["verdict"]), ("undecided", "undecided"))
        self.assertEqual(document["least_pairs"], 7)  # two comparisons, and the plan has six seeds
        ap = gam["ap_by_seed"], baseline["ap_by_seed"]
        for seed, difference in gam["comparison"]["differences"].items():
            self.assertAlmostEqual(difference, ap[0][seed] - ap[1][seed])
        self.assertAlmostEqual(gam["comparison"]["mean"], 0.03, delta=0.003)
        self.assertAlmostEqual(gam["ap"], sum(ap[0].values()) / 6)
        self.assertEqual((gam["parameters"], gam["gflop"], gam["latency_ms"]), (1000, 0.5, LATENCY["gam"]))
        self.assertEqual(gam["train_seconds"], 60.0)
        self.assertIsNone(gam["ap_large"])
        self.assertEqual(list(gam["curve"]), ["1", "2"])
        # The detections of all runs are the same here: other images change nothing.
        self.assertEqual(gam["comparison"]["image_interval"], (0.0, 0.0))

    def test_the_same_runs_give_the_same_results(self):
        plan, runs = write_study(self.folder, {"gam": 0.01})
        self.assertEqual(summarize(plan, runs), summarize(plan, list(reversed(runs))))

    def test_an_excluded_run_takes_its_pair_along(self):
        plan, runs = write_study(self.folder, {})
        document = summarize(plan, runs, {"gam:3", "baseline:5"})
        _, gam, small = document["variants"]
        self.assertEqual(list(gam["comparison"]["differences"]), ["0", "1", "2", "4"])
        self.assertEqual(list(small["comparison"]["differences"]), ["0", "1", "2", "3", "4"])
        self.assertEqual(document["excluded"], ["baseline:5", "gam:3"])
        with self.assertRaisesRegex(InputError, "gam: expected at least 2 pairs with baseline, got 1"):
            summarize(plan, runs, {f"gam:{seed}" for seed in range(5)})


class ProblemsTest(TestCase):
    def test_whatever_is_wrong_is_named(self):
        _, runs = write_study(self.folder, {})
        self.assertEqual(find_problems(runs), {})
        shutil.rmtree(runs[1].path)
        (runs[2].path / "metrics.json").unlink()
        (runs[3].path / "last_matches.npz").unlink()
        for number, change in ((4, {"commit": "other"}), (5, {"processor": "another"}), (6, {"threads": 2})):
            shutil.rmtree(runs[number].path)
            write_run(runs[number].path, 0.5, **change)
        scores = runs[7].path / "last_scores.json"
        scores.write_text(json.dumps(runs[7].scores() | {"ap": None}))
        scores = runs[8].path / "last_scores.json"
        scores.write_text(json.dumps(runs[8].scores() | {"epochs": 1}))
        problems = list(find_problems(runs).values())
        self.assertLen(problems, 8)
        for problem, expected in zip(
            problems,
            (
                "missing",
                "not finished",
                "not evaluated",
                "commit: expected 0123abc, as in the first run, got other",
                "processor: expected a CPU",
                "threads: expected 1",
                "AP is undefined",
                "stopped after epoch 1 of 2",
            ),
            strict=True,
        ):
            self.assertStartsWith(problem, expected)


class ReportTest(TestCase):
    def report(self, effects, latency=None):
        plan, runs = write_study(self.folder, effects)
        document = summarize(plan, runs, latency=latency)
        return document, {path.name: path.read_text() for path in write_report(document, self.folder)}

    def test_three_formats_of_one_document(self):
        document, texts = self.report({"gam": 0.03}, LATENCY)
        self.assertEqual(json.loads(texts["report.json"])["variants"][1]["ap"], document["variants"][1]["ap"])
        for text in (texts["report.md"], texts["report.html"]):
            self.assertIn("Does it matter?", text)
            self.assertIn(f"{document['variants'][1]['comparison']['mean']:+.4f}", text)
            self.assertIn("10.00 ms", text)
            self.assertIn("nothing can be significant at 5 %: 7 pairs are the minimum", text)
        self.assertEqual(texts["report.html"].count("<svg"), 3)
        self.assertNotRegex(texts["report.html"], r"(?:src|href)=['\"]?http")

    def test_nothing_undecided_is_bold(self):
        document, texts = self.report({"gam": 0.004})
        self.assertIn("is undecided", document["answer"])
        self.assertNotRegex(texts["report.html"], "<strong>|<b>")
        self.assertNotIn("**", texts["report.md"])

    @parameterized.parameters(
        ("better", 0.031, "gam is better than baseline by 0.031 AP"),
        ("worse", -0.031, "gam is worse than baseline by 0.031 AP"),
        ("equal", 0.001, "gam equals baseline within 0.005 AP"),
        ("undecided", 0.001, "gam against baseline is undecided"),
    )
    def test_the_answer(self, verdict, mean, expected):
        document, _ = self.report({})
        document["variants"][1]["comparison"] |= {"verdict": verdict, "mean": mean}
        document["variants"] = document["variants"][:2]
        from kyolo.ablation.study import answer

        self.assertStartsWith(answer(document), expected)

    def test_names_are_escaped(self):
        document, _ = self.report({})
        page = to_html(document | {"question": "<script>alert(1)</script> & more"})
        self.assertNotIn("<script", page)
        self.assertEqual(len(re.findall("&lt;script&gt;", page)), 2)

    def test_detectors_that_learned_nothing(self):
        plan, runs = write_study(self.folder, {})
        for run in runs:
            (run.path / "last_scores.json").write_text(json.dumps(run.scores() | {"ap": 0.0}))
        texts = [path.read_text() for path in write_report(summarize(plan, runs), self.folder)]
        for text in texts[1:]:
            self.assertIn("AP is 0 in every run of baseline, gam, small: nothing was learned.", text)


if __name__ == "__main__":
    absltest.main()
