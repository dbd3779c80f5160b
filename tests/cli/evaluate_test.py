"""`kyolo evaluate`: the document it prints, other data, bad input."""

import json
from unittest import mock

from absl.testing import absltest

from kyolo.data.shapes import CLASS_NAMES, write_shapes
from kyolo.training import Run
from tests.cli.run_case import RunTestCase

LOAD_DETECTOR = Run.load_detector


class EvaluateTest(RunTestCase):
    def test_json_is_the_metrics_also_of_tfrecords(self):
        arguments = ("evaluate", "--run", self.folder / "run", "--set", "evaluation.iou=0.6", "--json")
        code, stdout, stderr = self.run_kyolo(*arguments)
        self.assertEqual(code, 0, stderr)
        document = json.loads(stdout)
        records = self.folder / "records"
        self.assertEqual(self.run_kyolo("convert", self.shapes, "--to", "tfrecord", "--output", records)[0], 0)
        self.assertEqual(json.loads(self.run_kyolo(*arguments, "--data", records)[1]), document)
        self.assertEqual(document["protocol"]["iou"], 0.6)
        self.assertEqual(document["protocol"]["confidence"], 0.001)
        self.assertCountEqual(document["per_class"], CLASS_NAMES)
        self.assertEqual(document["epoch"], 7)

    def test_data_of_other_classes_are_refused(self):
        other = self.folder / "other"
        write_shapes(other, train=1, val=1, image_size=64)
        truth = other / "annotations" / "instances_val.json"
        truth.write_text(truth.read_text().replace('"circle"', '"disc"'))
        self.assert_bad_input(["evaluate", "--run", self.folder / "run", "--data", other], other, "circle", "disc")

    def test_folder_that_is_no_run_and_run_without_weights_are_named(self):
        self.assert_bad_input(["evaluate", "--run", self.shapes], self.shapes, "config.yaml")
        self.assert_bad_input(["evaluate", "--run", "/no/run"], "/no/run")
        self.enterContext(mock.patch.object(Run, "load_detector", LOAD_DETECTOR))
        self.assert_bad_input(["evaluate", "--run", self.folder / "run", "--weights", "last"], "last.npz")

    def test_missing_data_are_named(self):
        self.assert_bad_input(["evaluate", "--run", self.folder / "run", "--data", "/no/set"], "/no/set")


if __name__ == "__main__":
    absltest.main()
