import functools

import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from kyolo import boxes
from tests import box_pairs, oracles

FUNCTIONS = [f for f in vars(boxes).values() if getattr(f, "__module__", None) == "kyolo.boxes.iou"]
REQUIRED = {"mpdiou": {"image_size": (480, 640)}}
OTHER_SETTINGS = {
    "siou": [{"theta": 1.0}, {"theta": 2.5}],
    "alpha_iou": [{"base": "iou"}, {"base": "giou"}, {"base": "diou"}, {"alpha": 1.0}, {"alpha": 2.0}],
    "inner_iou": [{"ratio": 0.5}, {"ratio": 1.25}],
    "shape_iou": [{"scale": 1.0}, {"scale": 0.5}],
}


def case(function, settings):
    """The function with settings beside the oracle of its name: without an oracle none of these tests runs."""
    name = function.__name__
    both = (functools.partial(f, **settings) for f in (function, getattr(oracles, name)))
    return box_pairs.Case(box_pairs.label(name, settings), *both)


DEFAULTS = [case(f, REQUIRED.get(f.__name__, {})) for f in FUNCTIONS]
CASES = DEFAULTS + [case(f, settings) for f in FUNCTIONS for settings in OTHER_SETTINGS.get(f.__name__, [])]
each_default = parameterized.named_parameters((case.name, case) for case in DEFAULTS)
each_case = parameterized.named_parameters((case.name, case) for case in CASES)

# No 1 - similarity is larger.
SIOU_SHAPE = (1 - np.exp(-1)) ** 4
UPPER = {
    "iou": 1,
    "giou": 2,
    "diou": 2,
    "ciou": 2.5,  # alpha v is at most v^2 / (1 + v), a half at v = 1
    "eiou": 4,
    "siou": 1 + (2 * (1 - np.exp(-2)) + 2 * SIOU_SHAPE) / 2,
    "alpha_iou": 3,
    "wiou": np.e,
    "mpdiou": np.inf,  # 3 for boxes inside the image
    "inner_iou": 1,
    "shape_iou": 2 + SIOU_SHAPE,
}


class ValueTest(box_pairs.BoxPairTestCase):
    @each_case
    def test_equals_oracle(self, case):
        self.check_values(case, "float64", 1e-12)
        self.check_values(case, "float32", 1e-6)

    def test_siou_equals_its_printed_arcsine_form(self):
        p, g, kinds = box_pairs.all_pairs()
        self.check_near(boxes.siou(p, g), oracles.siou_asin(p, g), 1e-12, kinds)

    @each_default
    def test_shorter_types_are_computed_in_float32(self, case):
        p, g = np.float64([(10, 10, 410, 410), (3, 8, 64, 80)]), np.float64([(20, 10, 420, 410), (4, 8, 60, 90)])
        for dtype in ("float16", "bfloat16", "int32", "int64"):
            found = case.call(tf.cast(p, dtype), tf.cast(g, dtype))
            exact = tf.cast(tf.cast(p, dtype), "float64"), tf.cast(tf.cast(g, dtype), "float64")
            self.assertDTypeEqual(found, "float32")
            self.check_near(found, case.oracle(*(x.numpy() for x in exact)), 1e-6, [dtype] * 2)

    @each_default
    def test_broadcasts(self, case):
        p, g, _ = (x[:60:20] for x in box_pairs.all_pairs())
        self.assertAllClose(case.call(p[:, None], g[None, :2]), [[case.oracle(a, b) for b in g[:2]] for a in p])

    @each_case
    def test_identical_boxes_of_any_size(self, case):
        # An absolute epsilon of 1e-7 in the union gives the box of side 1e-4 a loss of 0.909.
        box = box_pairs.boxes_of_any_size()
        self.assertAllClose(case.call(box, box), np.ones(len(box)), rtol=0, atol=1e-6)


class PropertyTest(box_pairs.BoxPairTestCase):
    def test_every_function_has_a_bound(self):
        self.assertEqual({f.__name__ for f in FUNCTIONS}, set(UPPER))

    @parameterized.named_parameters((f.__name__, f.__name__, case) for f, case in zip(FUNCTIONS, DEFAULTS, strict=True))
    def test_range(self, name, case):
        p, g, _ = box_pairs.all_pairs()
        self.assertAllInRange(1 - case.call(p, g), -1e-12, UPPER[name] + 1e-12)

    @each_case
    def test_symmetric_and_invariant(self, case):
        p, g, kinds = box_pairs.all_pairs()
        expected = case.call(p, g)
        if "scale" not in case.name:  # the shape that weighs is the target's
            self.check_near(case.call(g, p), expected, 1e-12, kinds)
        far = kinds != "tiny"  # which would not be the same boxes after it
        self.check_near(case.call(p + 37, g + 37)[far], expected[far], 1e-9, kinds[far])
        turned = case.call(p[:, [1, 0, 3, 2]], g[:, [1, 0, 3, 2]])
        lines = box_pairs.longest_side(p, g) > 0  # lines or boxes: the aspect angle of a point is 0, transposed too
        self.check_near(turned[lines], expected[lines], 1e-12, kinds[lines])
        if "image_size" not in case.name:
            self.check_near(case.call(p * 8, g * 8), expected, 1e-12, kinds)

    @each_case
    def test_distance_never_pays(self, case):
        # A 10 x 10 box moved right, down, and along the diagonal: the sign mistake in SIoU makes it -1.57 at 200.
        box, moves = np.float64([0, 0, 10, 10]), np.float64([0, 2, 5, 10, 20, 50, 200])[:, None]
        for direction in ([1, 0, 1, 0], [0, 1, 0, 1], [1, 1, 1, 1]):
            loss = 1 - case.call(box + moves * np.float64(direction), box).numpy()
            self.assertNear(loss[0], 0, 1e-12)
            self.assertAllGreaterEqual(np.diff(loss), -1e-12)

    def test_limits(self):
        p, g, kinds = box_pairs.all_pairs()
        of = {case.name: case.call(p, g).numpy() for case in DEFAULTS}
        apart = np.isin(kinds, ("disjoint", "touching"))
        self.assertAllEqual(of["iou"][apart], np.zeros(apart.sum()))
        for kind, name in (("nested", "giou"), ("concentric", "diou"), ("concentric", "wiou")):
            self.assertAllClose(of[name][kinds == kind], of["iou"][kinds == kind], rtol=0, atol=1e-12)
        # The same ratio of the sides: no aspect term, which is EIoU's reason to exist.
        double = np.concatenate([p[:, :2] - 3, p[:, :2] - 3 + 2 * (p[:, 2:] - p[:, :2])], axis=-1)
        self.check_near(boxes.ciou(p, double), boxes.diou(p, double), 1e-12, kinds)
        # Touching along a whole edge: the two fill the enclosing box.
        self.assertAllClose(boxes.giou((0.0, 0.0, 10.0, 10.0), (10.0, 0.0, 25.0, 10.0)), 0.0)

    def test_mpdiou_goes_by_the_image(self):
        p, g, kinds = box_pairs.all_pairs()
        expected = boxes.mpdiou(p, g, image_size=(480, 640))
        self.check_near(boxes.mpdiou(p * 8, g * 8, image_size=(3840, 5120)), expected, 1e-12, kinds)
        # Points in opposite corners: no overlap, and both corners as far apart as the image has room.
        corners = (0.0, 0.0, 0.0, 0.0), (640.0, 480.0, 640.0, 480.0)
        self.assertAllClose(boxes.mpdiou(*corners, image_size=(480, 640)), -2.0)

    def test_shape_iou_goes_by_the_target(self):
        # Target 10 wide, 40 high, scale 1: hh = 2 * 40 / 50 = 1.6, ww = 0.4. Moved right by 2: IoU 320 / 480, c^2 =
        # 12^2 + 40^2, so that the distance costs 1.6 * 4 / 1744.
        found = boxes.shape_iou(np.float64([2, 0, 12, 40]), np.float64([0, 0, 10, 40]), scale=1.0)
        self.assertAllClose(found, 320 / 480 - 1.6 * 4 / 1744, atol=1e-12)


class GradientTest(box_pairs.BoxPairTestCase):
    @each_case
    def test_equals_differences(self, case):
        self.check_gradients(case)

    def test_no_gradient_without_overlap(self):
        p, g, kinds = box_pairs.all_pairs()
        p, g = (tf.constant(x[kinds == "disjoint"]) for x in (p, g))
        _, by_p, by_g = box_pairs.evaluate([DEFAULTS[FUNCTIONS.index(boxes.iou)]], p, g)["iou"]
        self.assertAllEqual(by_p, tf.zeros_like(p))
        self.assertAllEqual(by_g, tf.zeros_like(g))

    @parameterized.parameters("ciou", "alpha_iou", "wiou", "shape_iou")
    def test_differences_tell_what_is_held(self, name):
        self.check_tells_what_is_held([case for case in CASES if case.name.startswith(name)])


if __name__ == "__main__":
    tf.test.main()
