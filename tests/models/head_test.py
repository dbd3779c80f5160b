import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from kyolo.models.head import DetectionHead
from kyolo.models.pyramid import LevelSpec
from tests import oracles

LEVELS = (LevelSpec("P3", 8, 6), LevelSpec("P4", 16, 10))
IMAGE = (64, 96)


def features(seed=0):
    random = np.random.default_rng(seed)
    return [random.normal(size=(1, IMAGE[0] // s, IMAGE[1] // s, c)).astype("float32") for _, s, c in LEVELS]


class HeadTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.parameters((0, 2, 7), (0, 5, 1), (1, 3, 4))
    def test_a_cell_moves_the_points_around_it(self, level, row, column):
        # Two 3x3 convolutions reach two cells to every side. This fixes the order of the points: levels as given, row
        # by row, x before y.
        head = DetectionHead(3, LEVELS)
        before = head(features())
        changed = features()
        changed[level][0, row, column] += 5
        after = head(changed)
        points, strides = oracles.anchor_points(IMAGE, [8, 16])
        stride = LEVELS[level].stride
        centre = (np.float64([column, row]) + 0.5) * stride
        expected = (strides == stride) & (np.abs(points - centre).max(axis=-1) < 2.5 * stride)
        for name in ("box_logits", "class_logits"):
            moved = np.abs(after[name] - before[name]).reshape(1, len(points), -1).max(axis=(0, 2)) > 0
            self.assertAllEqual(moved, expected, msg=name)

    def test_four_sides_of_sixteen_bins(self):
        # Channel 16 * side + bin of the last convolution is bin `bin` of side `side`.
        head = DetectionHead(1, LEVELS)
        head(features())
        for branch in head.box_branches:
            branch[-1].kernel.assign(np.zeros(branch[-1].kernel.shape))
            branch[-1].bias.assign(np.arange(64))
        box_logits = head(features())["box_logits"]
        self.assertAllEqual(box_logits[0, 5], np.arange(64).reshape(4, 16))

    @parameterized.parameters((3, 16, 64, 64), (80, 16, 64, 80), (300, 16, 64, 100), (3, 2, 16, 16), (3, 16, 200, 200))
    def test_widths(self, num_classes, reg_max, finest, class_width):
        # max(16, C / 4, 4 R) for the boxes, max(C, min(K, 100)) for the classes.
        head = DetectionHead(num_classes, [LevelSpec("P3", 8, finest), LevelSpec("P4", 16, 2 * finest)], reg_max)
        for box, classes in zip(head.box_branches, head.class_branches, strict=True):
            self.assertEqual(box[0].filters, max(16, finest // 4, 4 * reg_max))
            self.assertEqual(box[1].filters, max(16, finest // 4, 4 * reg_max))
            self.assertEqual((classes[0].filters, classes[1].filters), (class_width, class_width))

    def test_narrow_and_depthwise(self):
        """Of 64 channels and 3 classes half is 32; a separable convolution C -> F has 9 C + 2 C + C F + 2 F weights."""
        head = DetectionHead(3, [LevelSpec("P3", 8, 64)], width=0.5, conv="depthwise")
        head.build([(None, None, None, 64)])
        first, second = 9 * 64 + 2 * 64 + 64 * 32 + 2 * 32, 9 * 32 + 2 * 32 + 32 * 32 + 2 * 32
        last = (32 * 64 + 64) + (32 * 3 + 3)
        self.assertEqual(sum(np.prod(v.shape) for v in head.trainable_variables), 2 * (first + second) + last)
        self.assertEqual(head([np.zeros((1, 4, 4, 64), "float32")])["class_logits"].shape, (1, 16, 3))

    @parameterized.parameters("mixed_float16", "mixed_bfloat16")
    def test_logits_are_float32(self, policy):
        head = DetectionHead(3, LEVELS, dtype=policy)
        for name, output in head([tf.constant(x) for x in features()]).items():
            self.assertDTypeEqual(output, "float32")
            # Computed in float32 too, not cast at the end: a bfloat16 number has its last 16 bits at 0.
            bits = output.numpy().view("uint32")
            self.assertGreater(np.mean(bits & 0xFFFF != 0), 0.5, msg=name)


if __name__ == "__main__":
    tf.test.main()
