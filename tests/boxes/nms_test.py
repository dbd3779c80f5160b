"""Class-aware NMS against a per-class greedy NMS in NumPy, and its TFLite conversion."""

import numpy as np
import tensorflow as tf
from absl.testing import parameterized
from ai_edge_litert.interpreter import Interpreter

from kyolo.boxes.nms import MAX_CANDIDATES, batched_nms, nms


def overlap(box, others):
    """IoU of one box (4,) with others (n, 4), in float64."""
    box, others = box.astype(np.float64), others.astype(np.float64)
    size = np.maximum(np.minimum(box[2:], others[:, 2:]) - np.maximum(box[:2], others[:, :2]), 0)
    intersection = size[:, 0] * size[:, 1]
    areas = np.prod(others[:, 2:] - others[:, :2], axis=1)
    return intersection / (np.prod(box[2:] - box[:2]) + areas - intersection)


def oracle(boxes, scores, *, confidence, iou, max_detections, multi_label):
    """Greedy NMS, one class after the other; then all classes by falling score."""
    boxes = np.clip(boxes, 0, 1)
    candidates = scores > confidence
    if not multi_label:
        candidates &= np.eye(scores.shape[1], dtype=bool)[scores.argmax(axis=1)]
    kept = []
    for label in range(scores.shape[1]):
        rest = np.flatnonzero(candidates[:, label])
        rest = rest[np.argsort(-scores[rest, label], kind="stable")]
        while rest.size:
            best, rest = rest[0], rest[1:]
            kept.append((-scores[best, label], best, label))
            rest = rest[overlap(boxes[best], boxes[rest]) <= iou]
    kept = sorted(kept)[:max_detections]
    points, labels = [point for _, point, _ in kept], [label for _, _, label in kept]
    return boxes[points], scores[points, labels], np.array(labels, dtype=np.int32)


def random_scene(seed, num_points, num_classes):
    """Clusters of boxes, so that many overlap; some reach over the image's edge."""
    rng = np.random.default_rng(seed)
    centres = rng.uniform(0, 1, (12, 2))[rng.integers(0, 12, num_points)] + rng.normal(0, 0.02, (num_points, 2))
    sizes = rng.uniform(0.1, 0.3, (num_points, 2))
    boxes = np.concatenate([centres - sizes / 2, centres + sizes / 2], axis=1).astype(np.float32)
    return boxes, rng.uniform(0, 1, (num_points, num_classes)).astype(np.float32)


SETTINGS = {"confidence": 0.2, "iou": 0.5, "max_detections": 50, "multi_label": True}


class NMSTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.product(num_classes=[1, 2, 3, 80], multi_label=[False, True], iou=[0.3, 0.7], seed=[0, 1])
    def test_equals_greedy_nms_of_each_class(self, num_classes, multi_label, iou, seed):
        boxes, scores = random_scene(seed, 300, num_classes)
        settings = {"confidence": 0.25, "iou": iou, "max_detections": 100, "multi_label": multi_label}
        expected_boxes, expected_scores, expected_labels = oracle(boxes, scores, **settings)
        found_boxes, found_scores, found_labels, num_detections = nms(boxes, scores, **settings)
        n = len(expected_labels)
        self.assertEqual(num_detections, n)
        self.assertEqual(found_labels.dtype, tf.int32)
        self.assertAllEqual(found_boxes[:n], expected_boxes)
        self.assertAllEqual(found_scores[:n], expected_scores)
        self.assertAllEqual(found_labels[:n], expected_labels)
        for padding in (found_boxes[n:], found_scores[n:], found_labels[n:]):
            self.assertAllEqual(padding, np.zeros_like(padding))

    def test_classes_do_not_suppress_each_other(self):
        # One box, three classes above the threshold: three detections with multi_label, the best one without.
        boxes, scores = [[0.1, 0.1, 0.9, 0.9]], [[0.6, 0.9, 0.7, 0.1]]
        _, found_scores, labels, num_detections = nms(boxes, scores, **SETTINGS)
        self.assertEqual(num_detections, 3)
        self.assertAllEqual(labels[:3], [1, 2, 0])
        self.assertAllClose(found_scores[:3], [0.9, 0.7, 0.6])
        _, _, labels, num_detections = nms(boxes, scores, **{**SETTINGS, "multi_label": False})
        self.assertEqual(num_detections, 1)
        self.assertEqual(labels[0], 1)

    def test_thresholds_are_strict(self):
        # The second box is the left half of the first: IoU exactly 0.5, which is not more than 0.5; and a score of
        # exactly 0.25 is not above 0.25.
        boxes = [[0.0, 0.0, 1.0, 0.5], [0.0, 0.0, 0.5, 0.5], [0.5, 0.5, 1.0, 1.0]]
        found = nms(boxes, [[0.9], [0.8], [0.25]], **{**SETTINGS, "confidence": 0.25})
        self.assertEqual(found[3], 2)

    def test_of_equal_scores_the_lower_point_comes_first(self):
        boxes = [[0.0, 0.0, 0.4, 0.4], [0.5, 0.5, 0.9, 0.9], [0.0, 0.0, 0.4, 0.39]]
        found_boxes, _, _, num_detections = nms(boxes, [[0.5], [0.5], [0.5]], **SETTINGS)
        self.assertEqual(num_detections, 2)
        self.assertAllClose(found_boxes[:2], boxes[:2])

    @parameterized.parameters(False, True)
    def test_nothing_found(self, multi_label):
        settings = {**SETTINGS, "multi_label": multi_label}
        for points in (0, 5):
            boxes, scores, labels, num_detections = nms(
                np.zeros([points, 4], "f"), np.zeros([points, 3], "f"), **settings
            )
            self.assertEqual(num_detections, 0)
            self.assertAllEqual(boxes, np.zeros([50, 4]))
            self.assertAllEqual(scores, np.zeros([50]))
            self.assertAllEqual(labels, np.zeros([50]))

    def test_boxes_are_clipped_before_they_are_compared(self):
        # Outside the image they differ widely; inside they are the same box: one goes.
        boxes = [[-3.0, -3.0, 0.5, 0.5], [0.0, 0.0, 0.5, 0.5]]
        found_boxes, _, _, num_detections = nms(boxes, [[0.9], [0.8]], **SETTINGS)
        self.assertEqual(num_detections, 1)
        self.assertAllEqual(found_boxes[0], [0.0, 0.0, 0.5, 0.5])

    @parameterized.parameters(False, True)
    def test_boxes_outside_the_window_are_not_counted(self, multi_label):
        # The image is the middle of the input, from y = 0.25 to 0.75. Of the four best boxes the first lies in the
        # padding above, the second touches the image's edge, the third is outside the input; two may be listed.
        boxes = [
            [
                [0.1, 0.0, 0.5, 0.2],
                [0.1, 0.75, 0.5, 0.9],
                [1.2, 0.3, 1.5, 0.5],
                [0.1, 0.1, 0.5, 0.5],
                [0.6, 0.3, 0.9, 0.6],
            ]
        ]
        scores = [[[0.9], [0.8], [0.7], [0.6], [0.5]]]
        settings = {**SETTINGS, "multi_label": multi_label, "max_detections": 2}
        found, _, _, count = batched_nms(boxes, scores, window=[[0.0, 0.25, 1.0, 0.75]], **settings)
        self.assertAllEqual(count, [2])
        self.assertAllClose(found[0], [boxes[0][3], boxes[0][4]])
        _, found_scores, _, count = batched_nms(boxes, scores, **{**settings, "max_detections": 9, "confidence": 0.0})
        self.assertAllEqual(count, [4])  # without a window only the box outside the input is dropped
        self.assertAllClose(found_scores[0, :4], [0.9, 0.8, 0.6, 0.5])

    def test_the_best_candidates_compete(self):
        # 400 points x 80 classes = 32,000 pairs: 2,000 more than compete. All points share one box, so a class keeps
        # its best point, if that is among the 30,000 best: here the scores of class 0 are the lowest of all.
        scores = np.random.default_rng(0).uniform(0.5, 1, (400, 80)).astype(np.float32)
        scores[:, 0] = 0.3
        settings = {**SETTINGS, "max_detections": 100}
        self.assertGreater(scores.size - 400, MAX_CANDIDATES)
        _, _, labels, num_detections = nms(np.tile(np.float32([[0, 0, 1, 1]]), (400, 1)), scores, **settings)
        self.assertEqual(num_detections, 79)
        self.assertSetEqual(set(labels.numpy()[:79]), set(range(1, 80)))

    @parameterized.parameters(None, 3)
    def test_batch(self, batch_size):
        scenes = [random_scene(seed, 60, 3) for seed in range(3)]
        boxes, scores = (np.stack(arrays) for arrays in zip(*scenes, strict=True))
        signature = [tf.TensorSpec([batch_size, 60, 4]), tf.TensorSpec([batch_size, 60, 3])]
        graph = tf.function(lambda b, s: batched_nms(b, s, **SETTINGS), input_signature=signature)
        found = graph(boxes, scores)
        for i, scene in enumerate(scenes):
            for ours, single in zip(found, nms(*scene, **SETTINGS), strict=True):
                self.assertAllEqual(ours[i], single)

    @parameterized.parameters(False, True)
    def test_converts_to_built_in_tflite_ops(self, multi_label):
        settings = {**SETTINGS, "multi_label": multi_label}
        module = tf.Module()
        module.run = tf.function(
            lambda boxes, scores: batched_nms(boxes, scores, **settings),
            input_signature=[tf.TensorSpec([1, 300, 4], name="boxes"), tf.TensorSpec([1, 300, 3], name="scores")],
        )
        converter = tf.lite.TFLiteConverter.from_concrete_functions([module.run.get_concrete_function()], module)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
        interpreter = Interpreter(model_content=converter.convert())
        names = {op["op_name"] for op in interpreter._get_ops_details()}
        self.assertIn("NON_MAX_SUPPRESSION_V4", names)
        self.assertEmpty([name for name in names if "Flex" in name or "CUSTOM" in name])

        boxes, scores = random_scene(0, 300, 3)
        runner = interpreter.get_signature_runner()
        found = list(runner(boxes=boxes[None], scores=scores[None]).values())
        for expected in batched_nms(boxes[None], scores[None], **settings):
            self.assertTrue(any(a.shape == expected.shape and np.array_equal(a, expected) for a in found))


if __name__ == "__main__":
    tf.test.main()
