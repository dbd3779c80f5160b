import functools
import json

import keras
import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from kyolo import losses
from kyolo.losses import DetectionLoss, SIoULoss
from tests import oracles, scenes
from tests.losses import public

SCENE = scenes.random_scene(2, batch=2)
PARTS = ("box", "classification", "dfl")


def as_tensors(scene):
    return tf.nest.map_structure(tf.constant, scene)


def without_truths(scene, images):
    y_true, *rest = scene
    mask = y_true["mask"].copy()
    mask[images] = False
    return ({**y_true, "mask": mask}, *rest)


def differentiate(loss):
    """A function from the tensors of a scene to the loss and its gradients by the logits."""

    def run(y_true, y_pred, points, strides):
        with tf.GradientTape() as tape:
            tape.watch(y_pred)
            value = loss(y_true, y_pred, points, strides)
        return value, tape.gradient(value, y_pred)

    return run


def loss_and_gradients(loss, scene):
    return differentiate(loss)(*as_tensors(scene))


class DetectionLossTest(tf.test.TestCase, parameterized.TestCase):
    def check(self, scene, loss=None, **of_oracle):
        loss = loss or DetectionLoss()
        parts = loss.parts(*as_tensors(scene))
        expected = oracles.detection_parts(*scene, **of_oracle)
        self.assertEqual(set(parts), set(PARTS))
        for name in PARTS:
            self.assertAllClose(parts[name], expected[name], rtol=1e-4, atol=1e-5, msg=name)
            self.assertDTypeEqual(parts[name], "float32")
        self.assertAllClose(loss(*as_tensors(scene)), oracles.detection_loss(*scene, **of_oracle), rtol=1e-4)
        return parts

    @parameterized.product(seed=(0, 1, 2, 3), box=("ciou", "siou"))
    def test_equals_oracle(self, seed, box):
        # Not square, so that an exchange of x and y shows.
        scene = scenes.random_scene(seed, batch=3)
        parts = self.check(scene, DetectionLoss(box=box), similarity=getattr(oracles, box))
        self.assertGreater(float(parts["box"]), 0)

    @parameterized.parameters(*oracles.BOX_LOSSES)
    def test_takes_every_box_loss(self, name):
        cls = getattr(losses, name)
        oracle = functools.partial(oracles.BOX_LOSSES[name], **public.required(cls))
        self.check(SCENE, DetectionLoss(box=public.build(cls)), similarity=lambda p, g: 1 - oracle(p, g))

    @parameterized.parameters(*oracles.CLASSIFICATION_LOSSES)
    def test_takes_every_classification_loss(self, name):
        oracle = oracles.CLASSIFICATION_LOSSES[name]
        self.check(SCENE, DetectionLoss(classification=getattr(losses, name)()), classification=oracle)

    def test_tiny_truths_enlarged(self):
        found = self.check(SCENE, DetectionLoss(assigner={"enlarge_tiny": True}), enlarge_tiny=True)
        self.assertNotAllClose(found["classification"], self.check(SCENE)["classification"], rtol=0.01)

    @parameterized.parameters(1, 80)
    def test_number_of_classes(self, num_classes):
        self.check(scenes.random_scene(11, batch=2, num_classes=num_classes))

    def test_total_by_hand(self):
        # 7.5 box + 0.5 classification + 1.5 dfl, times 2 images.
        scene = as_tensors(scenes.random_scene(1, batch=2))
        parts = DetectionLoss().parts(*scene)
        expected = 2 * (7.5 * parts["box"] + 0.5 * parts["classification"] + 1.5 * parts["dfl"])
        self.assertAllClose(DetectionLoss()(*scene), expected, rtol=1e-6)
        only_dfl = DetectionLoss(box_weight=0.0, classification_weight=0.0, dfl_weight=3.0)
        self.assertAllClose(only_dfl(*scene), 2 * 3 * parts["dfl"], rtol=1e-6)

    def test_doubled_padding_changes_nothing(self):
        y_true, *rest = scenes.random_scene(2, batch=3)
        wider = {name: np.concatenate([x, np.zeros_like(x)], axis=1) for name, x in y_true.items()}
        loss = DetectionLoss()
        self.assertAllEqual(loss(*as_tensors((wider, *rest))), loss(*as_tensors((y_true, *rest))))

    def test_twice_the_same_images_is_twice_the_loss(self):
        scene = scenes.random_scene(3, batch=3)
        y_true, y_pred, points, strides = scene
        self.assertGreater(sum(sums_of_scores(scene)), 1)  # else the floor of the normaliser is at work
        twice = tf.nest.map_structure(lambda x: np.concatenate([x, x]), (y_true, y_pred))
        loss = DetectionLoss()
        doubled = loss(*as_tensors((*twice, points, strides)))
        self.assertAllClose(doubled, 2 * loss(*as_tensors(scene)), rtol=1e-5)

    def test_no_truth_at_all(self):
        # Only the background counts, by a normaliser of 1: the sum of log(1 + exp(logit)).
        scene = without_truths(scenes.random_scene(4, batch=2), slice(None))
        parts = self.check(scene)
        self.assertEqual(float(parts["box"]), 0)
        self.assertEqual(float(parts["dfl"]), 0)
        logits = np.float64(scene[1]["class_logits"])
        self.assertAllClose(parts["classification"], np.log1p(np.exp(logits)).sum(), rtol=1e-5)
        _, gradients = loss_and_gradients(DetectionLoss(), scene)
        self.assertAllEqual(gradients["box_logits"], tf.zeros_like(gradients["box_logits"]))
        # weight 0.5 x batch 2 x score
        self.assertAllClose(gradients["class_logits"], oracles.sigmoid(logits), atol=1e-5)

    def test_one_empty_image_among_others(self):
        self.check(without_truths(scenes.random_scene(5, batch=3), [1]))

    def test_gradient_by_the_class_logits(self):
        # d BCE / d logit = score - target; the targets themselves carry no gradient.
        scene = scenes.random_scene(6, batch=2)
        y_pred = scene[1]
        targets = np.stack([assigned(scene, b)[2] for b in range(2)])
        expected = 0.5 * 2 * (oracles.sigmoid(y_pred["class_logits"]) - targets) / max(targets.sum(), 1)
        _, gradients = loss_and_gradients(DetectionLoss(), scene)
        self.assertAllClose(gradients["class_logits"], expected, rtol=0, atol=1e-5)

    def test_gradient_by_the_box_logits_with_the_assignment_held(self):
        # Differences of box and DFL terms of one point, with assignment, weight and CIoU's alpha held fixed.
        scene = scenes.random_scene(7)
        _, y_pred, points, strides = scene
        _, target_boxes, targets, owner = assigned(scene, 0)
        _, gradients = loss_and_gradients(DetectionLoss(), scene)
        found = gradients["box_logits"].numpy()[0]
        background = owner < 0
        self.assertAllEqual(found[background], np.zeros_like(found[background]))
        point = int(np.argmax(targets.sum(axis=-1)))
        logits, step = np.float64(y_pred["box_logits"][0, point]), 1e-4
        start = decode(logits, points[point], strides[point])

        def term(logits):
            box = decode(logits, points[point], strides[point])
            distances = oracles.boxes_to_distances(target_boxes[point], points[point]) / strides[point]
            similarity = oracles.ciou(box, target_boxes[point], at=(start, target_boxes[point]))
            value = 7.5 * (1 - similarity) + 1.5 * oracles.dfl(distances, logits)
            return value * targets[point].sum() / max(targets.sum(), 1)

        for side, chosen in np.ndindex(4, 16):
            move = np.zeros_like(logits)
            move[side, chosen] = step
            expected = (term(logits + move) - term(logits - move)) / (2 * step)
            self.assertNear(found[point, side, chosen], expected, 1e-4)

    @parameterized.named_parameters(("eager", None), ("graph", False), ("xla", True))
    def test_modes_agree_and_gradients_are_finite(self, jit_compile):
        run = differentiate(DetectionLoss())
        if jit_compile is not None:
            run = tf.function(run, jit_compile=jit_compile)
        scene = scenes.random_scene(8, batch=3)
        for each in (scene, without_truths(scene, slice(None))):
            value, gradients = run(*as_tensors(each))
            self.assertAllClose(value, oracles.detection_loss(*each), rtol=1e-4)
            for name, gradient in gradients.items():
                self.assertTrue(np.isfinite(gradient).all(), msg=name)

    @parameterized.parameters("ciou", "siou")
    def test_degenerate_truths_have_finite_gradients(self, box):
        y_true, y_pred, points, strides = scenes.random_scene(9, padded=len(scenes.DEGENERATE_PAIRS))
        boxes = np.float32([pair[1] for pair in scenes.DEGENERATE_PAIRS.values()])[None]
        y_true = {**y_true, "boxes": boxes, "mask": np.ones_like(y_true["mask"])}
        value, gradients = loss_and_gradients(DetectionLoss(box=box), (y_true, y_pred, points, strides))
        self.assertTrue(np.isfinite(value))
        for name, gradient in gradients.items():
            self.assertTrue(np.isfinite(gradient).all(), msg=name)

    @parameterized.parameters("float16", "bfloat16")
    def test_computes_in_float32(self, dtype):
        # Pixels of a 640 px image squared overflow float16. Logits rounded to 8 or 11 bits are given to the oracle too.
        y_true, y_pred, points, strides = scenes.random_scene(10, image_size=(640, 320), strides=(32, 64), batch=2)
        rounded = {name: tf.cast(x, dtype) for name, x in y_pred.items()}
        parts = DetectionLoss().parts(*as_tensors((y_true, rounded, points, strides)))
        exact = {name: tf.cast(x, "float32").numpy() for name, x in rounded.items()}
        expected = oracles.detection_parts(y_true, exact, points, strides)
        for name in PARTS:
            self.assertDTypeEqual(parts[name], "float32")
            self.assertAllClose(parts[name], expected[name], rtol=1e-4, msg=name)

    @parameterized.parameters("mixed_float16", "mixed_bfloat16")
    def test_policy_changes_nothing(self, policy):
        before = keras.config.dtype_policy()
        self.addCleanup(keras.config.set_dtype_policy, before)
        scene = scenes.random_scene(1, batch=2)
        expected = oracles.detection_loss(*scene)
        keras.config.set_dtype_policy(policy)
        found = DetectionLoss()(*as_tensors(scene))
        self.assertDTypeEqual(found, "float32")
        self.assertAllClose(found, expected, rtol=1e-4)

    def test_assigner_settings(self):
        scene = scenes.random_scene(12)
        found = DetectionLoss(assigner={"top_k": 1}).parts(*as_tensors(scene))
        default = DetectionLoss().parts(*as_tensors(scene))
        self.assertNotAllClose(found["classification"], default["classification"])

    def test_config_survives_json(self):
        loss = DetectionLoss(box=SIoULoss(theta=2.0), box_weight=5.0, dfl_weight=2.0, assigner={"top_k": 5})
        text = json.dumps(keras.saving.serialize_keras_object(loss))
        again = keras.saving.deserialize_keras_object(json.loads(text))
        scene = as_tensors(scenes.random_scene(13, batch=2))
        self.assertAllEqual(again(*scene), loss(*scene))
        self.assertEqual(json.dumps(keras.saving.serialize_keras_object(again)), text)

    @parameterized.parameters(
        ({"box_weight": "a"}, "box_weight: expected a number >= 0, got 'a'"),
        ({"dfl_weight": -1}, "dfl_weight: expected a number >= 0, got -1"),
        ({"assigner": {"topk": 3}}, "assigner: expected arguments of TaskAlignedAssigner, got .*topk"),
        ({"assigner": 3}, "assigner: expected arguments of TaskAlignedAssigner, got 3"),
    )
    def test_settings_are_checked(self, settings, message):
        with self.assertRaisesRegex(ValueError, message):
            DetectionLoss(**settings)

    def test_unknown_name_is_refused(self):
        with self.assertRaisesRegex(ValueError, "ciou.*siou.*diuo"):
            DetectionLoss(box="diuo")

    @parameterized.parameters(SIoULoss, None, 3)
    def test_what_is_no_loss_is_refused(self, thing):
        with self.assertRaisesRegex(ValueError, "^box: expected .*keras.losses.Loss, got"):
            DetectionLoss(box=thing)


def decode(logits, point, stride):
    return oracles.distances_to_boxes(oracles.expected_distances(logits) * stride, point)


def assigned(scene, b):
    """The oracle's assignment of image b."""
    y_true, y_pred, points, strides = scene
    boxes = decode(y_pred["box_logits"][b], points, np.float64(strides)[:, None])
    scores = oracles.sigmoid(y_pred["class_logits"][b])
    return oracles.assign(scores, boxes, points, y_true["labels"][b], y_true["boxes"][b], y_true["mask"][b])


def sums_of_scores(scene):
    return [assigned(scene, b)[2].sum() for b in range(len(scene[0]["mask"]))]


if __name__ == "__main__":
    tf.test.main()
