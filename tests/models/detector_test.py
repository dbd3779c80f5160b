import os
from unittest import mock

import keras
import numpy as np
import pytest
import tensorflow as tf
from absl.testing import parameterized

import kyolo
from kyolo.config import AttentionConfig, BackboneConfig, ModelConfig
from kyolo.losses import DetectionLoss, SIoULoss, WIoULoss
from kyolo.models import Detector
from tests import oracles, scenes

SIZE = (64, 96)


def build(levels=("P3", "P4", "P5"), attention=()):
    backbone = BackboneConfig(size="p")
    return kyolo.build_detector(ModelConfig(num_classes=3, levels=levels, backbone=backbone, attention=attention))


def images(count=2, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, *SIZE, 3)).astype("uint8")


def batch(seed=0, count=2):
    y_true = scenes.random_scene(seed, image_size=SIZE, batch=count)[0]
    return images(count, seed), y_true


class DetectorTest(tf.test.TestCase, parameterized.TestCase):
    def test_uint8_and_float_images_are_the_same(self):
        detector = build()
        for name, output in detector(images()).items():
            self.assertAllClose(detector(images().astype("float32"))[name], output, atol=1e-5)

    def test_graph_of_any_size_equals_eager(self):
        detector = build()
        signature = [tf.TensorSpec((None, None, None, 3), tf.uint8)]
        run = tf.function(lambda x: detector(x, training=False), input_signature=signature)
        for shape in ((2, 64, 96, 3), (1, 96, 32, 3)):
            x = np.random.default_rng(0).integers(0, 256, shape).astype("uint8")
            for name, output in detector(x).items():
                self.assertAllClose(run(x)[name], output, atol=1e-4)

    @parameterized.parameters("mixed_float16", "mixed_bfloat16")
    def test_logits_are_float32_under_mixed_precision(self, policy):
        before = keras.config.dtype_policy()
        self.addCleanup(keras.config.set_dtype_policy, before)
        keras.config.set_dtype_policy(policy)
        detector = build(attention=(AttentionConfig(kind="gam"),))
        self.assertEqual(detector.neck.compute_dtype, policy.removeprefix("mixed_"))
        for variable in detector.variables:
            self.assertEqual(variable.dtype, "float32", msg=variable.path)
        for output in detector(images()).values():
            self.assertDTypeEqual(output, "float32")
            self.assertTrue(np.isfinite(output).all())

    def test_decode_equals_oracle(self):
        _, outputs, points, strides = scenes.random_scene(3, image_size=SIZE, batch=2)
        boxes, scores = build().decode(outputs, SIZE)
        distances = oracles.expected_distances(outputs["box_logits"]) * strides[:, None]
        self.assertAllClose(boxes, oracles.distances_to_boxes(distances, points), atol=1e-3)
        self.assertAllClose(scores, oracles.sigmoid(outputs["class_logits"]), atol=1e-6)
        self.assertDTypeEqual(boxes, "float32")

    @parameterized.parameters("ciou", "siou")
    def test_loss_is_that_of_the_oracle_on_its_own_outputs(self, box):
        detector, (x, y_true) = build(), batch(1)
        # Sharper and surer than at the start, so that the assigner has something to choose.
        for branch in (*detector.head.box_branches, *detector.head.class_branches):
            branch[-1].kernel.assign(branch[-1].kernel * 8)
        outputs = detector(x)
        detector.compile(loss=DetectionLoss(box=box))
        found = detector.compute_loss(tf.constant(x), tf.nest.map_structure(tf.constant, y_true), outputs)
        outputs = {name: output.numpy() for name, output in outputs.items()}
        points, strides = oracles.anchor_points(SIZE, detector.strides)
        expected = oracles.detection_loss(y_true, outputs, points, strides, getattr(oracles, box))
        self.assertAllClose(found, expected / len(x), rtol=1e-4)  # the oracle sums over images

    def test_loss_in_a_graph_of_any_size(self):
        detector = build(levels=("P4", "P5"))
        detector.compile()
        scene = {}
        for size in ((64, 96), (32, 32)):  # the second has 4 + 1 points, fewer than an object may choose
            y_true, outputs, _, _ = scenes.random_scene(4, image_size=size, strides=(16, 32), batch=2)
            scene[size] = tf.nest.map_structure(tf.constant, (np.zeros((2, *size, 3), "uint8"), y_true, outputs))
        some = tf.nest.map_structure(tf.TensorSpec.from_tensor, scene[32, 32])
        x, y_true, outputs = some
        x = tf.TensorSpec((2, None, None, 3), x.dtype)
        outputs = {name: tf.TensorSpec((2, None, *spec.shape[2:])) for name, spec in outputs.items()}
        traced = tf.function(detector.compute_loss, input_signature=(x, y_true, outputs))
        for given in scene.values():
            self.assertAllClose(traced(*given), detector.compute_loss(*given), rtol=1e-6)

    @pytest.mark.slow
    def test_batches_of_many_sizes_are_traced_once(self):
        detector, sizes = build(levels=("P4", "P5")), [(64, 96), (32, 32), (96, 64), (64, 64)]
        detector.compile(keras.optimizers.SGD(0.01), ema_decay=0.9)
        truth = scenes.random_scene(0, image_size=(32, 32), batch=2)[0]
        data = tf.data.Dataset.from_generator(
            lambda: ((np.full((2, *size, 3), 9, "uint8"), truth) for size in sizes),
            output_signature=(
                tf.TensorSpec((2, None, None, 3), tf.uint8),
                {name: tf.TensorSpec(value.shape, value.dtype) for name, value in truth.items()},
            ),
        ).apply(tf.data.experimental.assert_cardinality(len(sizes)))
        with mock.patch.object(
            type(detector), "compute_loss", autospec=True, side_effect=Detector.compute_loss
        ) as loss:
            history = detector.fit(data, verbose=0).history
        self.assertEqual(loss.call_count, 1)
        self.assertTrue(np.isfinite(history["loss"]).all())

    def test_saved_and_loaded_without_custom_objects(self):
        detector = build(
            levels=("P3", "P4", "P5", "P6"), attention=(AttentionConfig(kind="gam", arguments={"groups": 2}),)
        )
        detector.compile(keras.optimizers.SGD(0.1), loss=DetectionLoss(box=SIoULoss(theta=2.0), dfl_weight=3.0))
        random = np.random.default_rng(0)
        for variable in detector.variables:
            variable.assign(variable.numpy() + random.uniform(0, 0.1, variable.shape))
        x = np.random.default_rng(0).integers(0, 256, (1, 64, 128, 3)).astype("uint8")
        expected = detector(x)
        path = os.path.join(self.get_temp_dir(), "detector.keras")
        detector.save(path)
        loaded = keras.models.load_model(path)
        self.assertIs(type(loaded), type(detector))
        for name, output in expected.items():
            self.assertAllEqual(loaded(x)[name], output)
        self.assertEqual([v.path for v in loaded.variables], [v.path for v in detector.variables])
        self.assertEqual(loaded.strides, (8, 16, 32, 64))
        self.assertEqual(loaded.loss.weights["dfl"], 3.0)
        self.assertEqual(loaded.loss.box.theta, 2.0)

    def test_fit_reports_the_parts_and_moves_every_kernel(self):
        detector = build(levels=("P3", "P4"))
        before = {v.path: v.numpy() for v in detector.variables}
        detector.compile(keras.optimizers.SGD(0.01), ema_decay=0.9)
        data = tf.data.Dataset.from_tensors(batch(2))
        history = detector.fit(data.repeat(2), verbose=0).history
        self.assertContainsSubset({"loss", "box", "classification", "dfl"}, history)
        for name, (value,) in history.items():
            self.assertTrue(np.isfinite(value), msg=name)
        for variable in detector.variables:
            if "_box_" not in variable.path:  # which level's boxes learn is the assigner's choice
                self.assertNotAllEqual(variable, before[variable.path], msg=variable.path)
        self.assertNotAllEqual(detector.head.box_branches[0][-1].kernel, before["head/P3_box_logits/kernel"])
        averaged = {v.path: v.numpy() for v in detector.variables}
        trained = detector.ema.trained_values()
        path = "head/P3_class_logits/kernel"
        self.assertNotAllEqual(averaged[path], trained[path])
        self.assertNotAllEqual(averaged[path], before[path])
        self.assertNotAllEqual(trained[path], before[path])

    @pytest.mark.slow
    def test_state_of_the_loss_moves_in_training_only(self):
        detector = build(levels=("P3", "P4"))
        count, data = len(detector.variables), tf.data.Dataset.from_tensors(batch(2))
        detector.compile(keras.optimizers.SGD(0.0), DetectionLoss(box=WIoULoss(momentum=0.5)), ema_decay=0.9)
        (mean,) = detector.loss_variables
        self.assertIn(mean, detector.non_trainable_variables)
        self.assertLen(detector.ema.averages, count)
        detector.evaluate(data, verbose=0)
        self.assertEqual(float(mean), 1.0)
        detector.fit(data, verbose=0)
        moved = float(mean)
        self.assertBetween(moved, 0.5, 0.9999)
        x, y_true = batch(2)
        nothing = {**y_true, "mask": np.zeros_like(y_true["mask"])}
        detector.fit(tf.data.Dataset.from_tensors((x, nothing)), verbose=0)
        self.assertEqual(float(mean), moved)
        path = os.path.join(self.get_temp_dir(), "detector.keras")
        detector.save(path)
        self.assertEqual(float(keras.models.load_model(path).loss_variables[0]), moved)

    def test_files_load_whatever_the_loss(self):
        detector, other = build(levels=("P3", "P4")), build(levels=("P3", "P4"))
        detector.compile("sgd", DetectionLoss(box=WIoULoss(initial_mean=0.5)))
        path = os.path.join(self.get_temp_dir(), "detector")
        detector.save(f"{path}.keras")
        self.assertEmpty(keras.models.load_model(f"{path}.keras", compile=False).loss_variables)
        detector.save_weights(f"{path}.weights.h5")
        other.load_weights(f"{path}.weights.h5")
        other.save_weights(f"{path}.weights.h5")
        with self.assertWarnsRegex(UserWarning, "Skipping variable loading for optimizer"):  # other was not compiled
            detector.load_weights(f"{path}.weights.h5")
        self.assertEqual(float(detector.loss_variables[0]), 0.5)

    def test_a_part_alone_is_no_loss(self):
        for loss in (SIoULoss(), "siou"):
            with self.assertRaisesRegex(ValueError, "loss: expected a DetectionLoss.*got"):
                build(levels=("P3", "P4")).compile(loss=loss)

    def test_detectors_share_no_state_of_a_loss(self):
        loss = DetectionLoss(box=WIoULoss())
        means = []
        for _ in range(2):
            detector = build(levels=("P3", "P4"))
            detector.compile(loss=loss)
            means.append(detector.loss_variables[0])
        means[0].assign(0.25)
        self.assertEqual([float(mean) for mean in means], [0.25, 1.0])
        self.assertEqual(loss.box.mean, 1.0)

    def test_compiled_anew_nothing_is_left_of_the_old_loss(self):
        detector = build(levels=("P3", "P4"))
        count = len(detector.variables)
        for loss, more in ((WIoULoss(), 1), (WIoULoss(initial_mean=0.5), 1), (SIoULoss(), 0)):
            detector.compile(loss=DetectionLoss(box=loss))
            self.assertLen(detector.variables, count + more)
        self.assertEmpty(detector.loss_variables)

    def test_a_variable_of_the_loss_may_have_any_name(self):
        class Counting(SIoULoss):
            def build(self, add_weight):
                self.counts = [add_weight(name=name, shape=(), initializer="zeros") for name in ("neck", "of all")]

        detector = build(levels=("P3", "P4"))
        neck, count = detector.neck, len(detector.variables)
        detector.compile(loss=DetectionLoss(box=Counting()))
        self.assertIs(detector.neck, neck)
        self.assertEqual([variable.name for variable in detector.loss_variables], ["neck", "of all"])
        detector.compile()
        self.assertLen(detector.variables, count)

    def test_without_an_average_the_block_changes_nothing(self):
        detector = build(levels=("P3", "P4"))
        before = [v.numpy() for v in detector.variables]
        with detector.ema_weights():
            for variable, value in zip(detector.variables, before, strict=True):
                self.assertAllEqual(variable, value)


if __name__ == "__main__":
    tf.test.main()
