"""Plan files: what they mean, and what is refused."""

from absl.testing import absltest, parameterized

from kyolo.ablation import list_runs, load_plan
from kyolo.config import ConfigError
from kyolo.data.shapes import write_shapes
from tests.ablation.studies import PLAN, write_plan
from tests.test_case import ROOT, TestCase


class PlanTest(TestCase):
    def load(self, text=PLAN):
        return load_plan(write_plan(self.folder, text))

    def test_configurations(self):
        plan = self.load()
        self.assertEqual((plan.baseline, plan.seeds, plan.smallest_effect), ("baseline", (0, 1, 2, 3, 4, 5), 0.005))
        config = plan.config("gam", 3, self.folder)
        self.assertEqual((config.train.seed, config.train.epochs, config.data.path), (3, 2, str(self.folder)))
        self.assertEqual([each.kind for each in config.model.attention], ["gam"])
        self.assertEqual(config.model.backbone.size, "n")
        self.assertEqual(plan.config("small", 0, self.folder).model.backbone.size, "p")
        self.assertEqual(self.load(PLAN.replace("seeds: 6", "seeds: [4, 2]")).seeds, (4, 2))

    def test_paths_are_relative_to_the_plan(self):
        plan = self.load(PLAN.replace("{model.backbone.size: p}", "{model.weights: {path: runs/first, skip: [head]}}"))
        self.assertEqual(plan.config("small", 0, "/").model.weights.path, str(self.folder / "runs" / "first"))

    @parameterized.parameters(
        ("seeds: 6", "seeds: 7"),
        ("smallest_effect: 0.005", "smallest_effect: 0.01"),
        ("size: p", "size: s"),
        ("Does it matter", "Does this matter"),
    )
    def test_every_change_gives_another_hash(self, old, new):
        self.assertIn(old, PLAN)
        self.assertNotEqual(self.load(PLAN.replace(old, new)).digest(), self.load().digest())

    def test_the_base_counts_by_its_settings(self):
        plan = self.load()
        before = plan.digest()
        (self.folder / "base.yaml").write_text("model: {backbone: {size: n}}\ntrain: {epochs: 2, seed: 9}\n# more\n")
        self.assertEqual(plan.digest(), before)
        (self.folder / "base.yaml").write_text("train: {epochs: 3}\n")
        self.assertNotEqual(plan.digest(), before)

    @parameterized.parameters(
        ("seeds: 6", "seeds: 1", "seeds: expected a number of seeds from 2"),
        ("seeds: 6", "seeds: [1, 1]", "seeds: expected"),
        ("seeds: 6", "seeds: [1, -1]", "seeds: expected"),
        ("seeds: 6", "seeds: 99999999", "seeds: expected"),
        ("seeds: 6", "seeds: true", "seeds: expected"),
        ("smallest_effect: 0.005", "smallest_effect: 0", "smallest_effect: expected"),
        ("smallest_effect: 0.005", "smallest_effekt: 1", "smallest_effekt: unknown key; .*smallest_effect"),
        ("question: Does it matter?", "question: 5", "question: expected text"),
        ("base: base.yaml\n", "", "base: missing"),
        ("base: base.yaml", "base: none.yaml", "none.yaml"),
        ("{model.backbone.size: p}", "5", "variants.small: expected settings"),
        ("{model.backbone.size: p}", "{model.backbone.size: huge}", "variants.small.model.backbone.size: expected"),
        ("{model.backbone.size: p}", "{model.backbon.size: p}", "variants.small.model.backbon: unknown key"),
        ("{model.backbone.size: p}", "{train.seed: 3}", "variants.small.train.seed: expected other settings"),
        ("  small:", "  ../small:", "variants: expected names of letters"),
        ("  gam: {model.attention: [{kind: gam}]}\n  small: {model.backbone.size: p}\n", "", "variants: expected"),
    )
    def test_what_is_refused(self, old, new, message):
        self.assertIn(old, PLAN)
        with self.assertRaisesRegex(ConfigError, f"plan.yaml: {message}" if "none" not in message else message):
            self.load(PLAN.replace(old, new))

    @parameterized.named_parameters((path.stem, path) for path in sorted((ROOT / "configs/ablation").glob("*.yaml")))
    def test_the_plans_of_the_project(self, path):
        self.assertGreaterEqual(len(load_plan(path).seeds), 6)


class RunsTest(TestCase):
    def keys(self, threads=1):
        plan = load_plan(write_plan(self.folder))
        runs = list_runs(plan, self.folder / "shapes", self.folder / "study", threads)
        return {run.name: run.path.name for run in runs}

    def test_the_key_is_all_that_a_result_depends_on(self):
        write_shapes(self.folder / "shapes", train=4, val=2, image_size=64)
        keys = self.keys()
        self.assertLen(set(keys.values()), 18)
        self.assertEqual(list(keys)[:4], ["baseline:0", "gam:0", "small:0", "baseline:1"])
        self.assertEqual(self.keys(), keys)
        self.assertNotEqual(self.keys(threads=2)["gam:0"], keys["gam:0"])
        (self.folder / "shapes").rename(self.folder / "moved")
        (self.folder / "shapes").symlink_to("moved")
        self.assertEqual(self.keys(), keys)


if __name__ == "__main__":
    absltest.main()
