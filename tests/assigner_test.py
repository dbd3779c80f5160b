import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from kyolo.assigner import TaskAlignedAssigner
from tests import oracles, scenes


def inputs(scene):
    """Arguments of the assigner from a scene's logits, decoded by the oracle."""
    y_true, y_pred, points, strides = scene
    distances = oracles.expected_distances(y_pred["box_logits"]) * strides[:, None]
    pred_boxes = oracles.distances_to_boxes(distances, points).astype("float32")
    scores = oracles.sigmoid(y_pred["class_logits"]).astype("float32")
    return scores, pred_boxes, points, y_true["labels"], y_true["boxes"], y_true["mask"]


def scene(pred_boxes, scores, points, gt_boxes, gt_labels=None, gt_mask=None):
    """One image written by hand: scores are those of one class unless they have two dimensions."""
    scores = np.float32(scores)
    labels = np.zeros(len(gt_boxes), "int32") if gt_labels is None else np.int32(gt_labels)
    mask = np.ones(len(gt_boxes), bool) if gt_mask is None else np.array(gt_mask)
    batch = (scores if scores.ndim == 2 else scores[:, None], np.float32(pred_boxes))
    truth = (labels, np.float32(gt_boxes), mask)
    return (*(x[None] for x in batch), np.float32(points), *(x[None] for x in truth))


class AssignerCase(tf.test.TestCase, parameterized.TestCase):
    def check(self, arguments, strides=None, **settings):
        """Compares with the oracle image by image and returns the assignment as NumPy."""
        scores, pred_boxes, points, labels, boxes, mask = arguments
        found = TaskAlignedAssigner(scores.shape[-1], **settings)(*map(tf.constant, arguments), strides=strides)
        found = type(found)(*(x.numpy() for x in found))
        for b in range(len(scores)):
            expected_labels, expected_boxes, expected_scores, owner = oracles.assign(
                scores[b], pred_boxes[b], points, labels[b], boxes[b], mask[b], strides=strides, **settings
            )
            fg = owner >= 0
            self.assertAllEqual(found.fg_mask[b], fg)
            self.assertAllEqual(found.target_labels[b][fg], expected_labels[fg])
            self.assertAllClose(found.target_boxes[b][fg], expected_boxes[fg])
            self.assertAllClose(found.target_scores[b], expected_scores, rtol=0, atol=1e-5)
        return found


class RandomScenesTest(AssignerCase):
    @parameterized.parameters(*range(10))
    def test_equals_oracle_on_random_scenes(self, tens):
        positives = 0
        for seed in range(10 * tens, 10 * tens + 10):
            found = self.check(inputs(scenes.random_scene(seed)))
            positives += found.fg_mask.sum()
            self.assertAllLessEqual(found.target_scores.sum(axis=-1), 1 + 1e-6)
            self.assertAllEqual(found.target_scores[~found.fg_mask], 0 * found.target_scores[~found.fg_mask])
        self.assertGreater(positives, 50)

    @parameterized.parameters(0, 1, 30, 100, 300)
    def test_equals_oracle_in_a_crowd(self, count):
        arguments = list(inputs(scenes.random_scene(count, image_size=(96, 128), batch=2, padded=max(count, 1))))
        arguments[-1] = np.broadcast_to(np.arange(max(count, 1)) < count, arguments[-1].shape)
        found = self.check(arguments)
        self.assertEqual(found.fg_mask.any(), count > 0)

    @parameterized.parameters(*range(4))
    def test_equals_oracle_where_much_is_equal(self, seed):
        # Predictions are truths and scores one of two, so that alignments and overlaps tie in dozens.
        scores, boxes, points, labels, gt_boxes, mask = inputs(scenes.random_scene(seed, batch=2, padded=24))
        random = np.random.default_rng(seed)
        boxes = np.take_along_axis(gt_boxes, random.integers(0, 24, (*boxes.shape[:2], 1)), axis=1)
        scores = random.choice(np.float32([0.25, 0.5]), scores.shape)
        self.check((scores, boxes, points, labels, gt_boxes, mask))

    def test_no_slot_for_truths(self):
        scores, boxes, points, *truth = inputs(scenes.random_scene(0, batch=2))
        found = self.check((scores, boxes, points, *(x[:, :0] for x in truth)))
        self.assertFalse(found.fg_mask.any())

    @parameterized.parameters({"top_k": 1}, {"top_k": 13, "alpha": 1.0}, {"beta": 2.0, "alpha": 0.25})
    def test_settings(self, **settings):
        for seed in range(3):
            self.check(inputs(scenes.random_scene(seed)), **settings)

    @parameterized.parameters(1, 80)
    def test_number_of_classes(self, num_classes):
        found = self.check(inputs(scenes.random_scene(1, num_classes=num_classes, batch=3)))
        self.assertEqual(found.target_scores.shape[-1], num_classes)
        self.assertDTypeEqual(found.target_scores, "float32")

    def test_graph_and_xla_equal_eager(self):
        arguments = [tf.constant(x) for x in inputs(scenes.random_scene(3, batch=4))]
        assigner = TaskAlignedAssigner(3)
        for jit_compile in (False, True):
            found = tf.function(lambda *args: tuple(assigner(*args)), jit_compile=jit_compile)(*arguments)
            for ours, eager in zip(found, assigner(*arguments), strict=True):
                self.assertAllClose(ours, eager, atol=1e-6)

    def test_unknown_batch_and_truths_in_a_graph(self):
        arguments = [tf.constant(x) for x in inputs(scenes.random_scene(3, batch=2))]
        assigner = TaskAlignedAssigner(3)
        free = [(None, *x.shape[1:]) for x in arguments[:2]] + [arguments[2].shape]
        free += [(None, None), (None, None, 4), (None, None)]
        signature = [tf.TensorSpec(shape, x.dtype) for shape, x in zip(free, arguments, strict=True)]
        found = tf.function(lambda *args: tuple(assigner(*args)), input_signature=signature)(*arguments)
        for ours, eager in zip(found, assigner(*arguments), strict=True):
            self.assertAllClose(ours, eager, atol=1e-6)

    def test_no_gradient(self):
        scores, boxes, *rest = (tf.constant(x) for x in inputs(scenes.random_scene(3)))
        with tf.GradientTape() as tape:
            tape.watch((scores, boxes))
            total = tf.reduce_sum(TaskAlignedAssigner(3)(scores, boxes, *rest).target_scores)
        self.assertEqual(tape.gradient(total, (scores, boxes)), (None, None))

    def test_padding_changes_nothing(self):
        scores, boxes, points, labels, gt_boxes, mask = inputs(scenes.random_scene(5, batch=3))
        wider = [np.concatenate([x, np.zeros_like(x)], axis=1) for x in (labels, gt_boxes, mask)]
        narrow = TaskAlignedAssigner(3)(scores, boxes, points, labels, gt_boxes, mask)
        for ours, expected in zip(TaskAlignedAssigner(3)(scores, boxes, points, *wider), narrow, strict=True):
            self.assertAllEqual(ours, expected)

    def test_an_image_does_not_see_the_others(self):
        arguments = inputs(scenes.random_scene(7, batch=3))
        together = TaskAlignedAssigner(3)(*arguments)
        for b in range(3):
            alone = TaskAlignedAssigner(3)(*(x if i == 2 else x[b : b + 1] for i, x in enumerate(arguments)))
            for ours, expected in zip(together, alone, strict=True):
                self.assertAllClose(ours[b : b + 1], expected)

    def test_no_truth(self):
        arguments = list(inputs(scenes.random_scene(2)))
        arguments[-1] = np.zeros_like(arguments[-1])
        found = self.check(arguments)
        self.assertFalse(found.fg_mask.any())
        self.assertEqual(found.target_scores.sum(), 0)


class TinyTruthsTest(AssignerCase):
    """enlarge_tiny: truths with a side of at most the smallest stride have the points of a larger box."""

    @parameterized.parameters(*range(8))
    def test_equals_oracle(self, seed):
        crowd = scenes.random_scene(seed, batch=3, padded=16)
        self.check(inputs(crowd), strides=crowd[-1], enlarge_tiny=True)

    def test_no_truth_goes_without_a_point(self):
        # Truths of 1 to 8 pixels by 1 to 8 anywhere, one an image: on and between the points, at the edges.
        places = np.float32([(x, y) for x in np.linspace(0, 24, 13) for y in (0, 3.5, 4, 12, 24)])
        sizes = np.float32([(w, h) for w in (1, 4, 8) for h in (1, 8)])
        truths = np.concatenate([np.concatenate([places, places + size], axis=-1) for size in sizes])[:, None]
        points, strides = (x.astype("float32") for x in oracles.anchor_points((32, 32), (8, 16)))
        count = len(truths)
        scores, boxes = np.full((count, len(points), 1), 0.5, "float32"), np.zeros((count, len(points), 4), "float32")
        arguments = (scores, boxes, points, np.zeros((count, 1), "int32"), truths, np.ones((count, 1), bool))
        assigned = TaskAlignedAssigner(1)(*arguments).fg_mask.numpy().any(axis=-1)
        self.assertBetween(assigned.sum(), 1, count // 2)
        enlarged = TaskAlignedAssigner(1, enlarge_tiny=True)(*arguments, strides=strides)
        self.assertTrue(enlarged.fg_mask.numpy().any(axis=-1).all())

    def test_larger_truths_change_nothing(self):
        box = (0, 0, 9, 9)
        arguments = scene([box] * 4, [0.5] * 4, HandMadeTest.points, [box])
        found = self.check(arguments, strides=np.full(4, 8.0, "float32"), enlarge_tiny=True)
        self.assertAllEqual(found.fg_mask, [[True, False, False, False]])

    def test_needs_the_strides(self):
        box = (0, 0, 9, 9)
        with self.assertRaisesRegex(ValueError, "strides: .*enlarge_tiny"):
            TaskAlignedAssigner(1, enlarge_tiny=True)(*scene([box] * 4, [0.5] * 4, HandMadeTest.points, [box]))


class HandMadeTest(AssignerCase):
    """Scenes of which each line can be followed by hand; each catches one known mistake."""

    points = ((4, 4), (12, 4), (20, 4), (28, 4))

    def test_strictly_inside(self):
        # Points on the border, at x = 4 and x = 20, do not count.
        box = (4, 0, 20, 8)
        found = self.check(scene([box] * 4, [0.9] * 4, self.points, [box]))
        self.assertAllEqual(found.fg_mask, [[False, True, False, False]])
        # u = 1, so the score wanted of the best point is 1.
        self.assertAllClose(found.target_scores[0, :, 0], [0, 1, 0, 0])

    def test_truth_between_the_points_is_missed(self):
        found = self.check(scene([(5, 3, 9, 6)] * 4, [0.9] * 4, self.points, [(5, 3, 9, 6)]))
        self.assertFalse(found.fg_mask.any())

    def test_negative_coordinates_are_no_padding(self):
        box = (-30, -30, 6, 6)
        found = self.check(scene([box] * 4, [0.5] * 4, self.points, [box]))
        self.assertAllEqual(found.fg_mask, [[True, False, False, False]])

    def test_mask_and_not_the_box_says_what_is_padding(self):
        box = (0, 0, 32, 8)
        found = self.check(scene([box] * 4, [0.5] * 4, self.points, [box], gt_mask=[False]))
        self.assertFalse(found.fg_mask.any())

    def test_of_equals_the_lowest_index(self):
        box = (0, 0, 32, 8)
        found = self.check(scene([box] * 4, [0.5] * 4, self.points, [box]), top_k=2)
        self.assertAllEqual(found.fg_mask, [[True, True, False, False]])

    def test_more_slots_than_points(self):
        box = (0, 0, 32, 8)
        found = self.check(scene([box] * 4, [0.5] * 4, self.points, [box]), top_k=10)
        self.assertTrue(found.fg_mask.all())

    def test_points_outside_take_no_slot(self):
        # The two points outside predict the truth exactly, those inside only roughly; with two slots both go inside.
        pred = [(0, 0, 16, 8), (0, 0, 16, 8), (8, 0, 32, 8), (16, 0, 40, 8)]
        found = self.check(scene(pred, [0.9, 0.9, 0.3, 0.3], self.points, [(0, 0, 16, 8)]), top_k=2)
        self.assertAllEqual(found.fg_mask, [[True, True, False, False]])
        swapped = [(8, 0, 32, 8), (0, 0, 24, 8), (0, 0, 16, 8), (0, 0, 16, 8)]
        found = self.check(scene(swapped, [0.3, 0.3, 0.9, 0.9], self.points, [(0, 0, 16, 8)]), top_k=2)
        self.assertAllEqual(found.fg_mask, [[True, True, False, False]])

    def test_negative_overlap_is_no_overlap(self):
        # The first point is sure and predicts a box far away: CIoU is near -1, whose 6th power would be near 1. The
        # second is unsure and overlaps by half: t = 0.1 * 0.5^6. One slot.
        pred = [(300, 0, 332, 8), (0, 0, 16, 8), (300, 0, 332, 8), (300, 0, 332, 8)]
        found = self.check(scene(pred, [1.0, 0.01, 1.0, 1.0], self.points, [(0, 0, 32, 8)]), top_k=1)
        self.assertAllEqual(found.fg_mask, [[False, True, False, False]])

    def test_all_metrics_zero(self):
        # No prediction overlaps: the lowest indices fill the slots, those inside are positive and want the score 0.
        pred = [(300, 0, 332, 8)] * 4
        found = self.check(scene(pred, [0.5] * 4, self.points, [(8, 0, 32, 8)]), top_k=3)
        self.assertAllEqual(found.fg_mask, [[False, True, True, False]])
        self.assertEqual(found.target_scores.sum(), 0)

    def test_conflict_goes_to_the_larger_overlap_and_not_to_the_larger_metric(self):
        # One point predicts the second truth exactly (u = 1) but is sure of the class of the first (u = 0.5 or so).
        truths = [(0, 0, 8, 16), (0, 0, 8, 8)]
        one_point = scene([(0, 0, 8, 8)], [[1.0, 1e-8]], [(4, 4)], truths, gt_labels=[0, 1])
        found = self.check(one_point)
        self.assertAllEqual(found.target_labels, [[1]])
        # t = sqrt(1e-8) * 1, the largest t of its truth, whose largest u is 1: 1e-4 * 1 / (1e-4 + 1e-9) on class 1.
        self.assertAllClose(found.target_scores, [[[0.0, 1.0]]], atol=1e-4)

    def test_conflict_may_go_to_a_third_truth(self):
        # One slot each. The first two truths choose point 0; the third contains it and fits its box best, but chose
        # point 1, where its class scores more. Point 0 goes to the third all the same.
        pred = [(0, 0, 16, 8), (0, 0, 17, 8)]
        truths = [(0, 0, 10, 8), (0, 0, 11, 8), (0, 0, 16, 8)]
        scores = [[0.9, 1e-4], [0.9, 0.9]]
        arguments = scene(pred, scores, [(4, 4), (12, 4)], truths, gt_labels=[0, 0, 1])
        found = self.check(arguments, top_k=1)
        self.assertAllEqual(found.target_labels, [[1, 1]])
        self.assertAllClose(found.target_boxes[0], [truths[2]] * 2)

    def test_the_loser_of_a_conflict_leaves_the_normaliser(self):
        # Point 0 fits both truths and goes to the first, u = 1. The second is left with point 1, which is now its best
        # point and wants its own u, not less.
        truths = [(0, 0, 16, 8), (0, 0, 20, 8)]
        pred = [(0, 0, 16, 8), (4, 0, 20, 8)]
        arguments = scene(pred, [0.9, 0.5], [(4, 4), (18, 4)], truths)
        found = self.check(arguments)
        self.assertAllClose(found.target_boxes[0], truths)
        u = float(oracles.ciou(pred[1], truths[1]))
        self.assertAllClose(found.target_scores[0, :, 0], [1.0, u], atol=1e-5)

    def test_equal_truths(self):
        # Both truths choose the point and fit equally: the first has it, the second has nothing.
        box = (0, 0, 8, 8)
        found = self.check(scene([box], [[0.5, 0.5]], [(4, 4)], [box, box], gt_labels=[1, 0]))
        self.assertAllEqual(found.target_labels, [[1]])

    def test_scaled_score(self):
        # Two points of one truth, one with u = 1. It wants max u = 1; the other t / t_max, with the roots of the scores
        # 0.5 and 0.8, and u by the oracle.
        box, half = (0, 0, 16, 8), (0, 0, 16, 4)
        found = self.check(scene([box, half], [0.25, 0.64], [(4, 4), (12, 2)], [box]))
        u = float(oracles.ciou(half, box))
        self.assertAllClose(found.target_scores[0, :, 0], [1.0, 0.8 * u**6 / 0.5], atol=1e-5)


if __name__ == "__main__":
    tf.test.main()
