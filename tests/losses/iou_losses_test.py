import functools
import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf
from absl.testing import parameterized

from tests import box_pairs, oracles
from tests.losses import public

CLASSES = {cls.__name__: cls for cls in public.CLASSES if cls.__name__ in oracles.BOX_LOSSES}


def case(name, **settings):
    """A loss as a function of predicted boxes and targets that computes in float64 for float64, beside its oracle."""

    def call(p, g):
        dtype = "float64" if p.dtype == tf.float64 else None
        return CLASSES[name](reduction=None, dtype=dtype, **settings)(g, p)

    # Outside a detector nothing moves WIoU's mean.
    of_oracle = {key: value for key, value in settings.items() if key != "momentum"}
    oracle = functools.partial(oracles.BOX_LOSSES[name], **of_oracle)
    return box_pairs.Case(box_pairs.label(name, settings), call, oracle)


CASES = {name: [case(name, **settings) for settings in public.all_settings(cls)] for name, cls in CLASSES.items()}
DEFAULTS = [cases[0] for cases in CASES.values()]
# The others are 1 - a function of kyolo.boxes, which is tried with every setting there.
OWN = [name for name in CLASSES if not hasattr(oracles.BOX_LOSSES[name], "__wrapped__")]


def each(cases):
    return parameterized.named_parameters((case.name, case) for case in cases)


IMAGE = {"image_size": (640, 640)}
# Predicted and target box of A to F.
PAIRS = (
    ((0, 0, 10, 10), (5, 5, 15, 15)),
    ((0, 0, 40, 10), (0, 0, 10, 40)),
    ((0, 0, 10, 10), (20, 0, 30, 10)),
    ((4, 4, 8, 8), (0, 0, 10, 10)),
    ((0, 0, 20, 10), (0, 0, 40, 20)),
    ((102, 98, 205, 301), (100, 100, 200, 300)),
)
# Computed in float64 by an implementation outside this project. By hand, in the order A to F:
# IoU: 25 / 175, 100 / 700, 0, 16 / 100, 200 / 800.
# CIoU: A adds rho^2 / c^2 = 50 / 450; B 450 / 3200 and alpha v = 0.168467; C 400 / 1000; D 2 / 200; E 125 / 2000, and
# no aspect term, for the ratio is the same.
GOLDEN = (
    ("IoULoss", {}, (0.85714286, 0.85714286, 1.00000000, 0.84000000, 0.75000000, 0.08020085)),
    ("GIoULoss", {}, (1.07936508, 1.41964286, 1.33333333, 0.84000000, 0.75000000, 0.08048235)),
    ("DIoULoss", {}, (0.96825397, 0.99776786, 1.40000000, 0.85000000, 0.81250000, 0.08044016)),
    ("CIoULoss", {}, (0.96825397, 1.16623548, 1.40000000, 0.85000000, 0.81250000, 0.08044016)),
    ("EIoULoss", {}, (0.96825397, 2.12276786, 1.40000000, 1.57000000, 1.31250000, 0.08147489)),
    ("FocalEIoULoss", {}, (0.36596560, 0.80233083, 0.00000000, 0.62800000, 0.65625000, 0.07813944)),
    ("SIoULoss", {}, (0.96230354, 1.06583272, 1.29444385, 0.89139129, 0.84622516, 0.08116108)),
    ("AlphaIoULoss", {}, (0.99845629, 1.00464680, 1.06400000, 0.99590500, 0.98461914, 0.22182190)),
    ("WIoULoss", {"version": 1}, (0.95787349, 0.98656538, 1.49182470, 0.84844214, 0.79837084, 0.08022005)),
    ("WIoULoss", {"initial_mean": 0.4}, (1.18607397, 1.22160132, 1.71361536, 1.05827494, 1.02726499, 0.03233336)),
    ("MPDIoULoss", IMAGE, (0.85726493, 0.85934012, 1.00097656, 0.84004883, 0.75061035, 0.08024236)),
    ("InnerIoULoss", {}, (1.05228758, 1.27683455, 1.40000000, 0.85000000, 0.90120968, 0.10123425)),
    ("ShapeIoULoss", {}, (0.96825397, 1.07527278, 1.40000000, 0.89144113, 0.83646865, 0.08044052)),
)


class GoldenTest(box_pairs.BoxPairTestCase):
    def test_every_loss_has_golden_values(self):
        self.assertEqual({name for name, _, _ in GOLDEN}, set(CLASSES))

    @parameterized.parameters(*GOLDEN)
    def test_values(self, name, settings, expected):
        p, g = np.swapaxes(np.float64(PAIRS), 0, 1)
        loss = case(name, **settings)
        self.assertAllClose(loss.oracle(p, g), expected, rtol=0, atol=1e-8)
        for dtype, tolerance in (("float64", 1e-8), ("float32", 1e-6)):
            found = loss.call(tf.constant(p, dtype), tf.constant(g, dtype))
            self.assertAllClose(found, expected, rtol=0, atol=tolerance)

    @parameterized.parameters(
        # The gradient by p at F, from outside this project too.
        ("CIoULoss", (0.00932321, -0.00445369, 0.00882851, 0.00443454)),
        ("SIoULoss", (0.00954968, -0.00430653, 0.00903863, 0.00458538)),
    )
    def test_gradients(self, name, expected):
        p, g = (tf.constant(box, "float64") for box in PAIRS[5])
        _, by_p, _ = box_pairs.evaluate([case(name)], p, g)[name]
        self.assertAllClose(by_p, expected, rtol=0, atol=1e-8)


class ValueTest(box_pairs.BoxPairTestCase):
    @each(itertools.chain(*CASES.values()))
    def test_equals_oracle_and_is_never_negative(self, case):
        self.assertAllGreaterEqual(self.check_values(case, "float64", 1e-12), -1e-12)
        self.assertAllGreaterEqual(self.check_values(case, "float32", 1e-6), -1e-6)

    @each(itertools.chain(*CASES.values()))
    def test_identical_boxes_of_any_size(self, case):
        box = tf.constant(box_pairs.boxes_of_any_size())
        self.assertAllClose(case.call(box, box), tf.zeros(len(box)), rtol=0, atol=1e-6)

    @each(DEFAULTS)
    def test_float16_in_mixed_precision(self, case):
        # The area of a 400 x 400 box, 160000, is infinite in float16, whose largest number is 65504.
        before = keras.config.dtype_policy()
        self.addCleanup(keras.config.set_dtype_policy, before)
        keras.config.set_dtype_policy("mixed_float16")
        p, g, kinds = box_pairs.all_pairs()
        fits = np.maximum(p, g).max(axis=-1) < 65504
        p, g = tf.constant(p[fits], "float16"), tf.constant(g[fits], "float16")
        value, *gradients = box_pairs.evaluate([case], p, g)[case.name]
        self.assertDTypeEqual(value, "float32")
        self.check_near(value, case.oracle(*(tf.cast(x, "float64").numpy() for x in (p, g))), 1e-6, kinds[fits])
        self.assertTrue(np.isfinite(gradients).all())


class GradientTest(box_pairs.BoxPairTestCase):
    @each(DEFAULTS + [case for name in OWN for case in CASES[name][1:]])
    def test_equals_differences(self, case):
        self.check_gradients(case)

    @parameterized.parameters(*(name for name in CLASSES if box_pairs.has_stopped_parts(oracles.BOX_LOSSES[name])))
    def test_differences_tell_what_is_held(self, name):
        self.check_tells_what_is_held(CASES[name])

    @pytest.mark.slow
    def test_values_and_finite_gradients_in_every_mode(self):
        self.check_modes(list(itertools.chain(*CASES.values())))


class WIoUTest(tf.test.TestCase):
    def test_outside_a_detector_the_mean_stays(self):
        p, g = np.swapaxes(np.float32(PAIRS), 0, 1)
        loss = CLASSES["WIoULoss"](initial_mean=0.4, reduction=None)
        first = loss(g, p)
        self.assertAllClose(first, oracles.BOX_LOSSES["WIoULoss"](p, g, initial_mean=0.4), atol=1e-6)
        self.assertAllEqual(loss(g, p), first)


if __name__ == "__main__":
    tf.test.main()
