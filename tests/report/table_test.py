"""Text tables, compared with what they should look like."""

import tensorflow as tf

from kyolo.report.table import format_metrics, format_table


class TableTest(tf.test.TestCase):
    def test_columns(self):
        table = format_table([["cells", 0.5, 12], ["platelets", None, 3]], header=["class", "AP", "boxes"])
        self.assertEqual(
            table.split("\n"),
            [
                "class         AP  boxes",
                "---------  -----  -----",
                "cells      0.500     12",
                "platelets      -      3",
            ],
        )

    def test_no_rows(self):
        self.assertEqual(format_table([], header=["class"]), "class\n-----")
        self.assertEqual(format_table([]), "")

    def test_metrics(self):
        names = ("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large")
        metrics = dict(zip(names, (0.51, 0.8, 0.6, None, 0.4, 0.55), strict=True)) | {"per_class": {"RBC": 0.6}}
        lines = format_metrics(metrics | {"protocol": {"confidence": 0.001, "iou": 0.7}}).split("\n")
        self.assertEqual(lines[0], "AP         0.510")
        self.assertEqual(lines[3], "AP small       -")
        self.assertEqual(lines[6:], ["AP of RBC  0.600", "confidence 0.001, iou 0.7"])


if __name__ == "__main__":
    tf.test.main()
