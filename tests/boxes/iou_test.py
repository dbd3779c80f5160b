import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from kyolo import boxes
from tests import oracles, scenes

# Predicted and target box.
A = ((0, 0, 10, 10), (5, 5, 15, 15))
B = ((0, 0, 40, 10), (0, 0, 10, 40))
C = ((0, 0, 10, 10), (20, 0, 30, 10))
D = ((4, 4, 8, 8), (0, 0, 10, 10))
E = ((0, 0, 20, 10), (0, 0, 40, 20))
F = ((102, 98, 205, 301), (100, 100, 200, 300))

# 1 - similarity, computed in float64 by an implementation outside this project. By hand, in the order A to F:
# IoU: 25 / 175, 100 / 700, 0, 16 / 100, 200 / 800.
# CIoU: A adds rho^2 / c^2 = 50 / 450; B 450 / 3200 and alpha v = 0.168467; C 400 / 1000; D 2 / 200; E 125 / 2000, and
# no aspect term, for the ratio is the same.
LOSSES = {
    "iou": (0.85714286, 0.85714286, 1.00000000, 0.84000000, 0.75000000, 0.08020085),
    "ciou": (0.96825397, 1.16623548, 1.40000000, 0.85000000, 0.81250000, 0.08044016),
    "siou": (0.96230354, 1.06583272, 1.29444385, 0.89139129, 0.84622516, 0.08116108),
}
KINDS = tuple((name, getattr(boxes, name), getattr(oracles, name)) for name in LOSSES)


def random_pairs(seed, count=300):
    """Boxes anywhere, boxes close to each other and boxes inside each other."""
    random = np.random.default_rng(seed)
    low = random.uniform(0, 300, (count, 2))
    g = np.concatenate([low, low + random.uniform(4, 200, (count, 2))], axis=-1)
    low = random.uniform(0, 300, (count, 2))
    anywhere = np.concatenate([low, low + random.uniform(4, 200, (count, 2))], axis=-1)
    close = g + random.uniform(-2, 2, g.shape)
    inside = g + (g[:, [2, 3, 0, 1]] - g) * random.uniform(0.1, 0.4, g.shape)
    return np.concatenate([anywhere, close, inside]), np.concatenate([g, g, g])


def gradients(similarity, p, g):
    """Gradients of the summed similarity, eager, in a graph and compiled by XLA."""

    def differentiate(p, g):
        with tf.GradientTape() as tape:
            tape.watch((p, g))
            total = tf.reduce_sum(similarity(p, g))
        return tape.gradient(total, (p, g))

    p, g = tf.constant(p, tf.float32), tf.constant(g, tf.float32)
    compiled = tf.function(differentiate, jit_compile=True)
    return {"eager": differentiate(p, g), "graph": tf.function(differentiate)(p, g), "xla": compiled(p, g)}


class IoUTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.named_parameters(*KINDS)
    def test_golden_values(self, similarity, oracle):
        expected = LOSSES[oracle.__name__]
        p, g = (np.float64([pair[side] for pair in (A, B, C, D, E, F)]) for side in (0, 1))
        self.assertAllClose(1 - similarity(p, g), expected, rtol=0, atol=1e-8)
        self.assertAllClose(1 - similarity(np.float32(p), np.float32(g)), expected, rtol=0, atol=1e-6)
        self.assertAllClose(1 - oracle(p, g), expected, rtol=0, atol=1e-8)

    def test_fingerprints_of_the_known_mistakes(self):
        # 4 / pi^2 inside the square makes B 1.032867; 2 - exp(+gamma rho) makes C 0.283787; the centre offsets in place
        # of the enclosing box make F 0.901135.
        self.assertGreater(abs(1 - float(boxes.ciou(*np.float64(B))) - 1.032867), 0.1)
        self.assertGreater(abs(1 - float(boxes.siou(*np.float64(C))) - 0.283787), 0.1)
        self.assertGreater(abs(1 - float(boxes.siou(*np.float64(F))) - 0.901135), 0.1)

    @parameterized.named_parameters(*KINDS)
    def test_equals_oracle_on_random_boxes(self, similarity, oracle):
        p, g = random_pairs(0)
        self.assertAllClose(similarity(np.float32(p), np.float32(g)), oracle(np.float32(p), np.float32(g)), atol=2e-6)

    def test_siou_equals_its_printed_arcsine_form(self):
        p, g = random_pairs(1)
        self.assertAllClose(boxes.siou(p, g), oracles.siou_asin(p, g), rtol=0, atol=1e-10)

    @parameterized.named_parameters(*KINDS)
    def test_symmetric_and_invariant(self, similarity, _):
        p, g = random_pairs(2)
        expected = similarity(p, g)
        turned = [1, 0, 3, 2]
        self.assertAllClose(similarity(g, p), expected, atol=1e-9)
        self.assertAllClose(similarity(p + 37.0, g + 37.0), expected, atol=1e-9)
        self.assertAllClose(similarity(p * 8.0, g * 8.0), expected, atol=1e-9)
        self.assertAllClose(similarity(p[:, turned], g[:, turned]), expected, atol=1e-9)

    @parameterized.named_parameters(*KINDS)
    def test_distance_never_pays(self, similarity, oracle):
        # A 10 x 10 box moved to the right: the loss may not fall. The sign mistake in SIoU makes it -1.57 at 200.
        moves = np.float64([0, 2, 5, 10, 20, 50, 200])
        moved = np.float64([[d, 0, 10 + d, 10] for d in moves])
        loss = 1 - similarity(moved, np.float64([0, 0, 10, 10])).numpy()
        self.assertAllInRange(np.diff(loss), -1e-12, 10)
        self.assertNear(loss[0], 0, 1e-12)
        if oracle is oracles.siou:
            self.assertAllClose(loss[[3, 4, 5, 6]], [1.20, 1.29, 1.38, 1.42], rtol=0, atol=0.006)

    @parameterized.named_parameters(*KINDS)
    def test_broadcasts(self, similarity, oracle):
        p, g = random_pairs(3, count=2)
        table = similarity(p[:, None], g[None])
        self.assertAllClose(table, [[oracle(one, other) for other in g] for one in p])

    @parameterized.named_parameters(*KINDS)
    def test_identical_boxes_of_any_size(self, similarity, _):
        # An absolute epsilon of 1e-7 in the union gives the box of side 1e-4 a loss of 0.909.
        for side in (1e-4, 0.01, 1.0, 400.0, 1e5):
            box = np.float32([side, 2 * side, 2 * side, 5 * side])
            self.assertLess(abs(1 - float(similarity(box, box))), 1e-5, msg=side)

    @parameterized.named_parameters(*KINDS)
    def test_degenerate_values(self, similarity, oracle):
        for name, pair in scenes.DEGENERATE_PAIRS.items():
            p, g = np.float64(pair)
            value = float(similarity(np.float32(p), np.float32(g)))
            self.assertTrue(np.isfinite(value), msg=name)
            self.assertBetween(value, -1.5, 1 + 1e-6, msg=name)
            if name != "inverted":  # no formula says anything about a box turned inside out
                self.assertNear(float(similarity(p, g)), float(oracle(p, g)), 1e-6, msg=name)

    def test_limits(self):
        # Disjoint and touching: 0. Concentric: no distance term. Same ratio: no aspect term.
        pairs = scenes.DEGENERATE_PAIRS
        for name in ("disjoint", "touching", "corner"):
            self.assertEqual(float(boxes.iou(*np.float32(pairs[name]))), 0, msg=name)
        self.assertNear(float(boxes.ciou(*np.float32(pairs["concentric"]))), 400 / 1600, 1e-6)
        self.assertNear(float(boxes.ciou(*np.float64(E))), 0.25 - 125 / 2000, 1e-12)


class GradientTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.named_parameters(*KINDS)
    def test_finite_on_degenerate_boxes(self, similarity, _):
        p, g = np.swapaxes(np.float64(list(scenes.DEGENERATE_PAIRS.values())), 0, 1)
        for mode, both in gradients(similarity, p, g).items():
            for gradient in both:
                for name, row in zip(scenes.DEGENERATE_PAIRS, gradient.numpy(), strict=True):
                    self.assertTrue(np.isfinite(row).all(), msg=f"{mode}, {name}: {row}")

    @parameterized.named_parameters(*KINDS)
    def test_graph_and_xla_equal_eager(self, similarity, _):
        found = gradients(similarity, *random_pairs(4, count=30))
        for mode in ("graph", "xla"):
            self.assertAllClose(found[mode][0], found["eager"][0], atol=1e-6, msg=mode)

    @parameterized.named_parameters(
        # The gradient of the loss with respect to p at F, from outside this project.
        ("ciou", boxes.ciou, (0.00932321, -0.00445369, 0.00882851, 0.00443454)),
        ("siou", boxes.siou, (0.00954968, -0.00430653, 0.00903863, 0.00458538)),
    )
    def test_golden_gradient(self, similarity, expected):
        gradient = gradients(lambda p, g: 1 - similarity(p, g), *F)["eager"][0]
        self.assertAllClose(gradient, expected, rtol=0, atol=1e-6)

    def test_no_gradient_flows_through_ciou_alpha(self):
        p, g = random_pairs(5, count=100)
        _, alpha = oracles.ciou_alpha(p, g)
        fixed = self.differences(lambda p: oracles.ciou(p, g, alpha), p)
        free = self.differences(lambda p: oracles.ciou(p, g), p)
        found = gradients(boxes.ciou, p, g)["eager"][0].numpy()
        scale = np.linalg.norm(fixed, axis=-1)
        self.assertAllLess(np.linalg.norm(found - fixed, axis=-1) / scale, 1e-3)
        # The test can tell the two apart: with alpha let free the gradient is another.
        self.assertGreater(np.max(np.linalg.norm(found - free, axis=-1) / scale), 0.05)

    def test_siou_equals_differences(self):
        p, g = random_pairs(6, count=100)
        expected = self.differences(lambda p: oracles.siou(p, g), p)
        found = gradients(boxes.siou, p, g)["eager"][0].numpy()
        self.assertAllLess(np.linalg.norm(found - expected, axis=-1) / np.linalg.norm(expected, axis=-1), 1e-3)

    def differences(self, similarity, p, step=1e-5):
        columns = [(similarity(p + move) - similarity(p - move)) / (2 * step) for move in step * np.eye(4)]
        return np.stack(columns, axis=-1)


if __name__ == "__main__":
    tf.test.main()
