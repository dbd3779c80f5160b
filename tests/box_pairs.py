"""Pairs of boxes of many kinds, and the checks that hold for everything that compares two boxes."""

import functools
import inspect
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from tests import oracles, scenes

STEP = 1e-4  # of the differences, in smallest sides of a pair


class Case(NamedTuple):
    """What compares predicted boxes p with targets g, and its oracle, which may take `at` too."""

    name: str
    call: Any
    oracle: Any


def label(name, settings):
    """A name for a case: inner_iou_ratio_1.25."""
    return "_".join([name, *(f"{key}_{value}" for key, value in settings.items())])


@functools.cache
def all_pairs(count=200, seed=0):
    """Arrays p and g, (N, 4) each, in float64 of numbers that float32 holds exactly, and the kind of each pair."""
    random = np.random.default_rng(seed)

    def around(centres, halves):
        return np.concatenate([centres - halves, centres + halves], axis=-1)

    def somewhere():
        return around(random.uniform(100, 400, (count, 2)), random.uniform(2, 100, (count, 2)))

    p, g = somewhere(), somewhere()
    even = around(*(2 * random.integers(1, 50, (2, count, 2))))
    half = random.integers(1, 50, (count, 2))
    beside = np.array([[1, 0], [0, 1], [1, 1]])[random.integers(0, 3, count)]
    formulas_say = [pair for name, pair in scenes.DEGENERATE_PAIRS.items() if name != "inverted"]
    kinds = {
        "random": (p, g),
        "close": (g + random.uniform(-2, 2, g.shape), g),
        "near": (g + np.tile(g[:, 2:] - g[:, :2], 2) * random.uniform(-0.1, 0.1, g.shape), g),
        "nested": (g + (g[:, [2, 3, 0, 1]] - g) * random.uniform(0.05, 0.45, g.shape), g),
        "disjoint": (p + 700, g),
        "identical": (g, g),
        "touching": (even, even + np.tile((even[:, 2:] - even[:, :2]) * beside, 2)),
        "concentric": (even, around((even[:, :2] + even[:, 2:]) / 2, half)),
        # On a small grid boxes touch, coincide, share edges and corners, and are lines and points, all at once.
        "grid": np.sort(random.integers(0, 5, (2, count, 2, 2)), axis=2).reshape(2, count, 4),
        "thin": around(random.uniform(0, 50, (2, count, 2)), 10 ** random.uniform(-1, 2, (2, count, 2))),
        "huge": (250 * p, 250 * g),  # to 1e5
        "tiny": (0.5 + 1e-6 * p, 0.5 + 1e-6 * g),  # sides near 1e-4
        "degenerate": np.swapaxes(formulas_say, 0, 1),
    }
    p, g = np.concatenate([np.float64(np.float32(pair)) for pair in kinds.values()], axis=1)
    return p, g, np.repeat(list(kinds), [len(pair[0]) for pair in kinds.values()])


@functools.cache
def smooth_pairs():
    """Those pairs at which nothing has a kink: edges, centres and sides of the two boxes differ, inner boxes' too."""
    p, g, kinds = all_pairs(count=100, seed=1)
    apart = [np.abs((p[:, 2:] - p[:, :2]) - (g[:, 2:] - g[:, :2])).min(axis=-1)]
    for ratio in (0, 0.5, 0.75, 1, 1.25):  # with 0 both edges are the centre
        # By pair, low or high, x or y.
        mine, theirs = (oracles.scaled(boxes, ratio).reshape(-1, 2, 2) for boxes in (p, g))
        apart.append(np.abs(mine[:, :, None] - theirs[:, None]).min(axis=(1, 2, 3)))
    side = smallest_side(p, g)
    keep = (side > 0) & (np.min(apart, axis=0) > 100 * STEP * side)
    return p[keep], g[keep], kinds[keep]


def boxes_of_any_size():
    """Boxes of sides from 1e-4 to 1e5, near the origin and about (0.5, 0.5)."""
    sizes = np.float32([1e-4, 0.01, 1, 400, 1e5])[:, None]
    return np.concatenate([sizes * np.float32([1, 2, 2, 5]), np.float32(0.5) + sizes * np.float32([0, 0, 1, 1])])


def smallest_side(p, g):
    """The smallest of the four sides of each pair."""
    return np.minimum(p[:, 2:] - p[:, :2], g[:, 2:] - g[:, :2]).min(axis=-1)


def longest_side(p, g):
    """The longer side of the smaller box of each pair, 0 if that is a point."""
    return np.minimum((p[:, 2:] - p[:, :2]).max(axis=-1), (g[:, 2:] - g[:, :2]).max(axis=-1))


def reach(p, g):
    """The longer side of the box that encloses each pair."""
    return (np.maximum(p, g)[:, 2:] - np.minimum(p, g)[:, :2]).max(axis=-1)


def has_stopped_parts(oracle):
    return "at" in inspect.signature(oracle).parameters


def differences(oracle, p, g, *, hold=True):
    """Gradients by p and by g; what the paper holds without gradient stays at (p, g), or is let free.

    Differences over one and two steps to both sides, which are exact for polynomials up to the fourth degree.
    """
    if hold and has_stopped_parts(oracle):
        oracle = functools.partial(oracle, at=(p, g))
    step = STEP * smallest_side(p, g)

    def slopes(moved):
        over_one, over_two = (
            np.stack([moved(n * move) - moved(-n * move) for move in step[:, None] * np.eye(4)[:, None]], axis=-1)
            for n in (1, 2)
        )
        return (8 * over_one - over_two) / (12 * step[:, None])

    return slopes(lambda move: oracle(p + move, g)), slopes(lambda move: oracle(p, g + move))


def distance(found, expected, floor=0.0):
    """How far gradients (N, 4) are from the expected, by the norm of the expected or by a floor under it."""
    apart = np.linalg.norm(found - expected, axis=-1)
    norm = np.maximum(np.linalg.norm(expected, axis=-1), floor)
    return np.divide(apart, norm, out=np.where(apart > 0, np.inf, 0.0), where=norm > 0)


def evaluate(cases, p, g):
    """Value, gradient by p and gradient by g of every case, by its name."""
    found = {}
    for case in cases:
        with tf.GradientTape() as tape:
            tape.watch((p, g))
            value = case.call(p, g)
        found[case.name] = (value, *tape.gradient(value, (p, g)))
    return found


class BoxPairTestCase(tf.test.TestCase, parameterized.TestCase):
    """Checks of cases on all pairs."""

    def check_values(self, case, dtype, tolerance):
        """On all pairs: values within tolerance x max(1, |value|) of the oracle's, and finite gradients."""
        p, g, kinds = all_pairs()
        value, *gradients = evaluate([case], tf.constant(p, dtype), tf.constant(g, dtype))[case.name]
        self.assertDTypeEqual(value, dtype)
        self.check_near(value, case.oracle(p, g), tolerance, kinds)
        self.assertTrue(np.isfinite(gradients).all())
        return value

    def check_near(self, found, expected, tolerance, kinds):
        self.check_small(np.abs(found - expected) / np.maximum(1, np.abs(expected)), tolerance, kinds)

    def check_small(self, errors, tolerance, kinds):
        worst = np.argmax(np.where(np.isnan(errors), np.inf, errors))
        self.assertLessEqual(errors[worst], tolerance, f"number {worst}, {kinds[worst]}")

    def check_gradients(self, case):
        """In float64 the differences of the oracle with the stopped parts held; in float32 nearly the same."""
        p, g, kinds = smooth_pairs()
        expected = differences(case.oracle, p, g)
        # What rounding leaves: of a value in its differences; in float32 of terms near 1 / side that cancel.
        rounding = 1e-15 * np.abs(case.oracle(p, g)) / (STEP * smallest_side(p, g))
        for dtype, tolerance, floor in (("float64", 1e-6, rounding / 1e-6), ("float32", 5e-6, 1 / reach(p, g))):
            _, *found = evaluate([case], tf.constant(p, dtype), tf.constant(g, dtype))[case.name]
            for ours, theirs in zip(found, expected, strict=True):
                self.check_small(distance(ours, theirs, floor), tolerance, kinds)

    def check_tells_what_is_held(self, cases):
        """The gradient of one of the cases at least would be another if what its paper holds were let free."""
        p, g, _ = smooth_pairs()
        held = np.stack([differences(case.oracle, p, g) for case in cases])
        free = np.stack([differences(case.oracle, p, g, hold=False) for case in cases])
        self.assertGreater(distance(free, held, 1 / reach(p, g)).max(), 0.3)

    def check_modes(self, cases):
        """Values that equal the oracle's and finite gradients: eager, in a graph and compiled by XLA, in float32."""
        p, g, kinds = all_pairs()
        both = tf.constant(p, tf.float32), tf.constant(g, tf.float32)
        graph = tf.function(functools.partial(evaluate, cases))
        compiled = tf.function(graph, jit_compile=True)
        for mode, found in (("eager", evaluate(cases, *both)), ("graph", graph(*both)), ("XLA", compiled(*both))):
            for case in cases:
                value, *gradients = found[case.name]
                with self.subTest(f"{case.name}, {mode}"):
                    self.check_near(value, case.oracle(p, g), 1e-6, kinds)
                    self.assertTrue(np.isfinite(gradients).all())
