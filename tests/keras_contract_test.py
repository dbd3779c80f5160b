"""What Keras promises of a model, one test per promise, on the smallest detector."""

import inspect
import os
import pathlib
import subprocess
import sys
import tempfile
import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf
from absl.testing import parameterized
from PIL import Image

import kyolo
from kyolo.boxes.nms import batched_nms
from kyolo.callbacks import CocoAP
from kyolo.config import ModelConfig
from kyolo.losses import DetectionLoss
from kyolo.models import Detector
from tests.data.sets import annotation, write_set

SIZE, CLASSES = 32, ("cell", "other")
LEVELS = ("P3", "P4")


def tiny_backbone():
    """A few convolutions with batch norm, so that training and inference differ."""
    x = images = keras.Input((None, None, 3))
    x = keras.layers.Rescaling(1 / 255, name="scale")(x)
    maps = {}
    for level, filters in (("P1", 4), ("P2", 4), ("P3", 8), ("P4", 8)):
        kernel = keras.initializers.GlorotUniform(seed=filters)  # equal in every detector
        x = keras.layers.Conv2D(filters, 3, 2, "same", kernel_initializer=kernel, name=f"{level}_conv")(x)
        x = keras.layers.Activation("relu")(keras.layers.BatchNormalization(name=f"{level}_norm")(x))
        maps[level] = x
    return keras.Model(images, {level: maps[level] for level in LEVELS})


def build(**options):
    config = ModelConfig(num_classes=2, levels=LEVELS, head={"reg_max": 4, "width": 0.25})
    options = {"image_size": SIZE, "class_names": CLASSES, **options}
    return kyolo.build_detector(config, backbone=tiny_backbone(), **options)


def compiled(optimizer=None, ema_decay=None, **options):
    detector = build()
    loss = options.pop("loss", None)
    detector.compile(optimizer or keras.optimizers.SGD(0.01), loss, ema_decay=ema_decay, **options)
    return detector


def data(count=4, seed=0):
    """Images of noise, each with two objects and a padded slot."""
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (count, SIZE, SIZE, 3)).astype("uint8")
    corner = rng.uniform(0, SIZE - 20, (count, 3, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(8, 20, (count, 3, 2))], axis=-1).astype("float32")
    labels = rng.integers(0, 2, (count, 3)).astype("int32")
    return images, {"boxes": boxes, "labels": labels, "mask": np.tile([True, True, False], (count, 1))}


def rows(batch, which):
    x, y = batch
    return x[which], {name: value[which] for name, value in y.items()}


def dataset(count=4, batch_size=2, weights=None):
    arrays = data(count) if weights is None else (*data(count), np.float32(weights))
    return tf.data.Dataset.from_tensor_slices(arrays).batch(batch_size)


def weights_of(detector):
    return {variable.path: variable.numpy() for variable in detector.variables}


class Recorder(keras.callbacks.Callback):
    """Keeps the names of the hooks that Keras calls, in order."""

    HOOKS = (
        "on_train_begin", "on_train_end", "on_epoch_begin", "on_epoch_end", "on_train_batch_begin",
        "on_train_batch_end", "on_test_begin", "on_test_end",
    )  # fmt: skip

    def __init__(self):
        super().__init__()
        self.calls = []
        for name in self.HOOKS:
            setattr(self, name, lambda *_, name=name, **__: self.calls.append(name))


class AtEpochEnd(keras.callbacks.Callback):
    def __init__(self, call):
        super().__init__()
        self.call, self.found = call, []

    def on_epoch_end(self, epoch, logs=None):  # noqa: ARG002
        self.found.append(self.call(self.model, dict(logs or {})))


class ContractCase(tf.test.TestCase, parameterized.TestCase):
    def setUp(self):
        super().setUp()
        self.folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))

    def assert_weights(self, found, expected, paths=None):
        for path in paths or expected:
            self.assertAllEqual(found[path], expected[path], msg=path)

    def reload(self, detector, **options):
        detector.save(self.folder / "detector.keras")
        return keras.saving.load_model(self.folder / "detector.keras", **options)


class SampleWeightTest(ContractCase):
    """An image's weight scales its terms, the divisor, and its share of the number of images."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.detector = compiled(run_eagerly=True)

    def loss_and_gradient(self, batch, weight=None):
        x, y = batch
        weight = None if weight is None else tf.constant(weight, tf.float32)
        with tf.GradientTape() as tape:
            outputs = self.detector(x, training=False)  # batch norm does not couple the images then
            loss = self.detector.compute_loss(tf.constant(x), y, outputs, sample_weight=weight)
        return loss, tape.gradient(loss, self.detector.head.trainable_variables[-1])

    def assert_same(self, left, right):
        for one, other in zip(left, right, strict=True):
            self.assertAllClose(one, other, rtol=1e-5)

    def test_ones_change_nothing(self):
        self.assert_same(self.loss_and_gradient(data()), self.loss_and_gradient(data(), [1, 1, 1, 1]))

    def test_zero_is_an_image_less(self):
        left = self.loss_and_gradient(data(), [1, 1, 0, 1])
        self.assert_same(left, self.loss_and_gradient(rows(data(), [0, 1, 3])))
        self.assertGreater(np.abs(left[0] - self.loss_and_gradient(data())[0]), 1e-4)

    def test_two_is_the_image_twice(self):
        left = self.loss_and_gradient(data(), [1, 2, 1, 1])
        self.assert_same(left, self.loss_and_gradient(rows(data(), [0, 1, 1, 2, 3])))

    def test_zeros_are_no_loss(self):
        loss, gradient = self.loss_and_gradient(data(), [0, 0, 0, 0])
        self.assertAllEqual(loss, 0.0)
        self.assertAllEqual(gradient, tf.zeros_like(gradient))

    def test_train_on_batch(self):
        before = weights_of(self.detector)
        x, y = data()
        logs = self.detector.train_on_batch(x, y, sample_weight=np.zeros(4), return_dict=True)
        self.assertEqual(logs["loss"], 0.0)
        self.assert_weights(weights_of(self.detector), before, [v.path for v in self.detector.trainable_variables])

    def test_test_on_batch(self):
        x, y = data()
        weighted = self.detector.test_on_batch(x, y, sample_weight=np.float32([1, 0, 0, 0]), return_dict=True)
        alone = self.detector.test_on_batch(*rows(data(), [0]), return_dict=True)
        self.assertAllClose(weighted, alone, rtol=1e-5)

    def test_evaluate(self):
        x, y = data()
        weighted = self.detector.evaluate(
            x, y, sample_weight=np.float32([1, 1, 0, 0]), batch_size=4, verbose=0, return_dict=True
        )
        two = self.detector.evaluate(*rows(data(), [0, 1]), batch_size=4, verbose=0, return_dict=True)
        self.assertAllClose(weighted, two, rtol=1e-5)

    def test_dataset_of_triples(self):
        weighted = self.detector.evaluate(dataset(weights=[0, 1, 1, 0], batch_size=4), verbose=0, return_dict=True)
        two = self.detector.evaluate(*rows(data(), [1, 2]), verbose=0, return_dict=True)
        self.assertAllClose(weighted, two, rtol=1e-5)

    def test_fit(self):
        detector = compiled(run_eagerly=True)
        history = detector.fit(dataset(weights=[0, 0, 0, 0]), verbose=0).history
        self.assertEqual(history["loss"], [0.0])

    def test_a_column_of_weights(self):
        left = self.loss_and_gradient(data(), [[1], [1], [0], [1]])
        self.assert_same(left, self.loss_and_gradient(data(), [1, 1, 0, 1]))

    @parameterized.parameters(((4, 2),), ((4, 1, 1),), ((),))
    def test_other_shapes_are_refused(self, shape):
        with self.assertRaisesRegex(ValueError, "sample_weight: expected one weight per image"):
            self.loss_and_gradient(data(), np.ones(shape))

    def test_weights_per_target_are_refused(self):
        x, y = data()
        weights = {name: np.ones(4) for name in y}
        for call in (self.detector.fit, self.detector.train_on_batch):
            with self.assertRaisesRegex(
                ValueError, "sample_weight: expected one weight per image.*got a dict: .*boxes"
            ):
                call(x, y, sample_weight=weights)
        with self.assertRaisesRegex(ValueError, "sample_weight: expected one weight per image"):
            self.detector.compute_loss(x, y, self.detector(x), sample_weight={"boxes": np.ones(4)})


class CompileTest(ContractCase):
    def test_compiled_twice_it_has_the_metrics_of_one(self):
        detector = compiled()
        detector.compile("sgd")
        self.assertEqual(detector.metrics_names, ["loss", "box", "classification", "dfl"])
        self.assertLen(detector.evaluate(dataset(), verbose=0), 4)

    def test_losses_of_layers_count(self):
        """An L2 regularizer of a user's backbone adds to the loss, and its gradient to that of one image, twice."""
        losses, gradients = [], []
        for factor in (None, 0.5):
            detector = compiled()
            (conv,) = (layer for layer in detector.backbone.layers if layer.name == "P1_conv")
            conv.kernel.regularizer = factor and keras.regularizers.L2(factor)
            x, y = data(2)
            with tf.GradientTape() as tape:
                loss = detector.compute_loss(x, y, detector(x, training=True))
            losses.append(loss)
            gradients.append(tape.gradient(loss, conv.kernel.value))
        self.assertAllClose(losses[1] - losses[0], 0.5 * tf.reduce_sum(conv.kernel**2), rtol=1e-4)
        self.assertAllClose(gradients[1] - gradients[0], 2 * conv.kernel, rtol=1e-3, atol=1e-3)  # two images

    @parameterized.parameters("loss_weights", "metrics", "weighted_metrics")
    def test_what_cannot_be_honoured_is_refused_by_name(self, name):
        with self.assertRaisesRegex(ValueError, f"{name}: expected None.*(DetectionLoss|CocoAP)"):
            build().compile("sgd", **{name: ["accuracy"]})

    def test_loss_is_the_objective(self):
        loss = DetectionLoss(box="siou", dfl_weight=2.0)
        detector = compiled(loss=loss)
        self.assertIsInstance(detector.loss, DetectionLoss)
        self.assertEqual(detector.loss.get_config(), loss.get_config())

    def test_another_loss_is_refused(self):
        with self.assertRaisesRegex(ValueError, "loss: expected a DetectionLoss"):
            build().compile("sgd", keras.losses.MeanSquaredError())

    def test_optimizers_by_name(self):
        self.assertIsInstance(compiled("adam").optimizer, keras.optimizers.Adam)

    def test_settings_survive_a_file(self):
        settings = {"run_eagerly": False, "steps_per_execution": 3, "jit_compile": True, "auto_scale_loss": False}
        for change in ({}, {"run_eagerly": True, "jit_compile": False}):
            chosen = {**settings, **change}
            loaded = self.reload(compiled(ema_decay=0.5, **chosen))
            found = {name: loaded.get_compile_config()[name] for name in chosen}
            self.assertEqual(found, chosen)
            self.assertEqual((loaded.run_eagerly, loaded.steps_per_execution), (chosen["run_eagerly"], 3))
            self.assertEqual(loaded.jit_compile, chosen["jit_compile"])
            self.assertEqual(loaded.ema.decay, 0.5)

    def test_loss_is_scaled_under_float16(self):
        before = keras.config.dtype_policy()
        self.addCleanup(keras.config.set_dtype_policy, before)
        keras.config.set_dtype_policy("mixed_float16")
        self.assertIsInstance(compiled().optimizer, keras.optimizers.LossScaleOptimizer)
        self.assertIsInstance(compiled(auto_scale_loss=False).optimizer, keras.optimizers.SGD)

    def test_not_compiled(self):
        for call in (lambda d: d.fit(dataset()), lambda d: d.evaluate(dataset()), lambda d: d.train_on_batch(*data())):
            with self.assertRaisesRegex(ValueError, "compile"):
                call(build())

    def test_compiled_again_the_optimizer_starts_again(self):
        detector = compiled(run_eagerly=True, ema_decay=0.5)
        detector.train_on_batch(*data())
        detector.compile(keras.optimizers.SGD(0.1), ema_decay=0.5)
        self.assertEqual((int(detector.optimizer.iterations), int(detector.ema.step)), (0, 0))


class SignatureTest(ContractCase):
    @parameterized.parameters(
        "fit", "evaluate", "predict", "train_on_batch", "test_on_batch", "predict_on_batch", "summary", "export", "save"
    )
    def test_is_that_of_keras(self, name):
        self.assertEqual(inspect.signature(getattr(Detector, name)), inspect.signature(getattr(keras.Model, name)))

    def test_compile_takes_keras_arguments_in_their_order(self):
        ours, theirs = (list(inspect.signature(each.compile).parameters) for each in (Detector, keras.Model))
        self.assertEqual(ours[: len(theirs)], theirs)
        self.assertEqual(ours[len(theirs) :], ["ema_decay"])


class FitTest(ContractCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.detector = compiled(run_eagerly=True)

    def test_arrays_by_position(self):
        x, y = data()
        history = self.detector.fit(x, y, 2, 1, 0).history
        self.assertEqual(sorted(history), ["box", "classification", "dfl", "loss"])

    def test_validation_split(self):
        x, y = data()
        history = self.detector.fit(x, y, batch_size=2, validation_split=0.5, verbose=0, shuffle=False).history
        expected = self.detector.evaluate(*rows(data(), [2, 3]), verbose=0, return_dict=True)
        self.assertAllClose(history["val_loss"][0], expected["loss"], rtol=1e-5)

    def test_validation_data_and_freq(self):
        history = self.detector.fit(
            dataset(), epochs=2, validation_data=dataset(2), validation_freq=2, verbose=0
        ).history
        self.assertLen(history["loss"], 2)
        self.assertLen(history["val_dfl"], 1)

    def test_class_weight_is_refused_by_name(self):
        with self.assertRaisesRegex(ValueError, "class_weight: expected None.*repeat_threshold"):
            self.detector.fit(dataset(), class_weight={0: 2.0})
        with self.assertRaisesRegex(ValueError, "class_weight: expected None"):
            self.detector.train_on_batch(*data(), class_weight={0: 2.0})

    def test_initial_epoch(self):
        recorder = Recorder()
        history = self.detector.fit(dataset(2), initial_epoch=2, epochs=4, verbose=0, callbacks=[recorder])
        self.assertEqual((history.epoch, recorder.calls.count("on_epoch_begin")), ([2, 3], 2))

    def test_steps_per_epoch(self):
        recorder = Recorder()
        self.detector.fit(dataset(2).repeat(), steps_per_epoch=3, epochs=2, verbose=0, callbacks=recorder)
        self.assertEqual(recorder.calls.count("on_train_batch_end"), 6)

    def test_order_of_callbacks(self):
        recorder = Recorder()
        self.detector.fit(dataset(), validation_data=dataset(2), verbose=0, callbacks=[recorder])
        step = ["on_train_batch_begin", "on_train_batch_end"]
        expected = ["on_train_begin", "on_epoch_begin", *step, *step, "on_test_begin", "on_test_end"]
        self.assertEqual(recorder.calls, [*expected, "on_epoch_end", "on_train_end"])

    def test_a_callback_list(self):
        recorder = Recorder()
        callbacks = keras.callbacks.CallbackList([recorder], model=self.detector, epochs=1, steps=2)
        self.detector.fit(dataset(), verbose=0, callbacks=callbacks)
        self.assertEqual(recorder.calls.count("on_epoch_end"), 1)
        self.assertEqual(callbacks.callbacks, [recorder])

    def test_a_callback_can_stop(self):
        def stop(model, _):
            model.stop_training = True

        history = self.detector.fit(dataset(2), epochs=5, verbose=0, callbacks=[AtEpochEnd(stop)])
        self.assertEqual(history.epoch, [0])

    def test_no_warnings(self):
        with warnings.catch_warnings():
            warnings.filterwarnings("error", category=UserWarning)
            self.detector.fit(dataset(), validation_data=dataset(2), verbose=0)
            self.reload(self.detector)

    def test_the_logged_loss_does_not_grow_with_the_batch(self):
        x, y = rows(data(), [0, 1])
        twice = rows(data(), [0, 1, 0, 1])
        one = self.detector.test_on_batch(x, y, return_dict=True)
        two = self.detector.test_on_batch(*twice, return_dict=True)
        self.assertAllClose(one, two, rtol=1e-5)
        weights = self.detector.loss.weights
        self.assertAllClose(one["loss"], sum(weights[name] * one[name] for name in weights), rtol=1e-5)

    def test_the_gradient_sums_over_images(self):
        gradients = []
        for batch in (rows(data(), [0, 1]), rows(data(), [0, 1, 0, 1])):
            with tf.GradientTape() as tape:
                loss = self.detector.compute_loss(*batch, self.detector(batch[0], training=False))
            gradients.append(tape.gradient(loss, self.detector.head.trainable_variables[-1]))
        self.assertAllClose(2 * gradients[0], gradients[1], rtol=1e-4)

    def test_means_of_validation_are_weighted_by_images(self):
        batches = [rows(data(), [0, 1, 2]), rows(data(), [3])]
        each = [self.detector.test_on_batch(*batch, return_dict=True) for batch in batches]
        whole = self.detector.evaluate(dataset(batch_size=3), verbose=0, return_dict=True)
        for name in ("loss", "box", "classification", "dfl"):
            self.assertAllClose(whole[name], (3 * each[0][name] + each[1][name]) / 4, rtol=1e-5, msg=name)

    def test_evaluate_as_list_and_dict(self):
        found = self.detector.evaluate(dataset(), verbose=0, return_dict=True)
        names = self.detector.metrics_names
        self.assertEqual(names[0], "loss")
        self.assertAllClose(self.detector.evaluate(dataset(), verbose=0), [found[name] for name in names])

    def test_test_on_batch_changes_nothing(self):
        before = weights_of(self.detector)
        logs = self.detector.test_on_batch(*data())
        self.assertLen(logs, 4)
        self.assert_weights(weights_of(self.detector), before)

    def test_train_on_batch_trains(self):
        before = weights_of(self.detector)
        logs = self.detector.train_on_batch(*data(), return_dict=True)
        self.assertEqual(sorted(logs), ["box", "classification", "dfl", "loss"])
        self.assertNotAllEqual(weights_of(self.detector)["head/P3_box_logits/bias"], before["head/P3_box_logits/bias"])


@pytest.mark.slow
class GraphTest(ContractCase):
    def test_eager_graph_and_several_steps_per_execution_agree(self):
        found = []
        for settings in ({"run_eagerly": True}, {}, {"steps_per_execution": 2}):
            detector = compiled(ema_decay=0.9, **settings)
            history = detector.fit(dataset(), epochs=2, verbose=0).history
            found.append((history["loss"], detector.ema.trained_values()["head/P3_box_logits/bias"]))
        for losses, bias in found[1:]:
            self.assertAllClose(losses, found[0][0], rtol=1e-4)
            self.assertAllClose(bias, found[0][1], rtol=1e-4, atol=1e-6)


@pytest.mark.slow
class MovingAverageTest(ContractCase):
    """Outside the training steps the averaged weights are the detector's."""

    BIAS = "head/P3_box_logits/bias"

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.plain = compiled(run_eagerly=True)
        cls.plain.fit(dataset(), epochs=2, verbose=0)

    def trained(self, epochs=2, **options):
        detector = compiled(run_eagerly=True, ema_decay=0.9)
        detector.fit(dataset(), epochs=epochs, verbose=0, **options)
        return detector

    def test_training_is_the_same_with_and_without(self):
        detector = self.trained()
        trained = detector.ema.trained_values()
        for path, value in weights_of(self.plain).items():
            self.assertAllEqual(trained[path], value, msg=path)

    def test_weights_of_other_shapes_restart_the_average(self):
        """What `skip_mismatch` loads is still there after an evaluation."""
        path = str(self.folder / "two.weights.h5")
        self.trained().save_weights(path)
        config = ModelConfig(num_classes=3, levels=LEVELS, head={"reg_max": 4, "width": 0.25})
        detector = kyolo.build_detector(config, backbone=tiny_backbone(), image_size=SIZE)
        detector.compile("sgd", ema_decay=0.9)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Keras names what it skips
            detector.load_weights(path, skip_mismatch=True)
        loaded = weights_of(detector)
        self.assertEqual(int(detector.ema.step), 0)
        with detector.ema_weights():
            self.assert_weights(weights_of(detector), loaded)

    def test_the_averages_are_by_hand(self):
        # Four steps, d = min(0.9, (1 + n) / (10 + n)): the average of the bias after each step, from the raw values.
        values = []
        detector = compiled(run_eagerly=True, ema_decay=0.9)
        average = None
        for batch in (rows(data(), [0, 1]), rows(data(), [2, 3]), rows(data(), [0, 1])):
            detector.train_on_batch(*batch)
            values.append(detector.ema.trained_values()[self.BIAS])
        for step, value in enumerate(values, start=1):
            rate = 1 - (1 + step) / (10 + step)
            average = value if average is None else average + rate * (value - average)
        detector.evaluate(dataset(2), verbose=0)
        self.assertAllClose(weights_of(detector)[self.BIAS], average, rtol=1e-5)

    def test_callbacks_see_the_averages_in_any_order(self):
        read = lambda model, _: model.head.box_branches[0][-1].bias.numpy()  # noqa: E731
        first, last = AtEpochEnd(read), AtEpochEnd(read)
        detector = self.trained(callbacks=[first, keras.callbacks.LambdaCallback(), last])
        self.assertAllEqual(first.found, last.found)
        self.assertAllEqual(first.found[-1], weights_of(detector)[self.BIAS])
        self.assertNotAllEqual(first.found[-1], weights_of(self.plain)[self.BIAS])

    def test_a_file_holds_average_weights_and_step(self):
        detector = self.trained()
        loaded = self.reload(detector)
        self.assert_weights(weights_of(loaded), weights_of(detector))
        self.assertEqual(int(loaded.ema.step), 4)
        for path, value in detector.ema.trained_values().items():
            self.assertAllEqual(loaded.ema.trained_values()[path], value, msg=path)
        for one, other in zip(loaded.ema.averages, detector.ema.averages, strict=True):
            self.assertAllEqual(one, other)

    def test_training_continues_bit_by_bit_from_a_file(self):
        loaded = self.reload(self.trained(2))
        loaded.fit(dataset(), initial_epoch=2, epochs=4, verbose=0)
        whole = self.trained(4)
        self.assert_weights(weights_of(loaded), weights_of(whole))
        for path, value in whole.ema.trained_values().items():
            self.assertAllEqual(loaded.ema.trained_values()[path], value, msg=path)

    def test_a_file_without_compile_has_the_averages(self):
        detector = self.trained()
        self.assert_weights(weights_of(self.reload(detector, compile=False)), weights_of(detector))

    @parameterized.parameters("train_on_batch", "save_model")
    def test_saved_between_steps(self, how):
        detector = compiled(run_eagerly=True, ema_decay=0.9)
        for _ in range(2):
            detector.train_on_batch(*data())
        path = self.folder / "detector.keras"
        detector.save(path) if how == "train_on_batch" else keras.saving.save_model(detector, path)
        averages = {s.path: a.numpy() for s, a in zip(detector.ema.sources, detector.ema.averages, strict=True)}
        self.assert_weights(weights_of(keras.saving.load_model(path, compile=False)), averages)
        trained = detector.ema.trained_values()
        detector.train_on_batch(*data())
        again = keras.saving.load_model(path)
        self.assert_weights(again.ema.trained_values(), trained)
        again.train_on_batch(*data())
        self.assert_weights(again.ema.trained_values(), detector.ema.trained_values())

    def test_weights_files(self):
        detector, other = self.trained(), compiled(run_eagerly=True, ema_decay=0.9)
        detector.save_weights(self.folder / "a.weights.h5")
        other.load_weights(self.folder / "a.weights.h5")
        self.assert_weights(weights_of(other), weights_of(detector))
        self.assert_weights(other.ema.trained_values(), detector.ema.trained_values())

    def test_weights_of_a_file_without_average(self):
        self.plain.save_weights(self.folder / "a.weights.h5")
        detector = self.trained()
        detector.load_weights(self.folder / "a.weights.h5")
        self.assert_weights(weights_of(detector), weights_of(self.plain))
        detector.ema.swap_out()
        self.assert_weights(weights_of(detector), weights_of(self.plain))

    def test_weights_that_a_user_assigns_stay(self):
        detector = self.trained()
        detector.head.box_branches[0][-1].bias.assign(np.full(16, 7.0))
        trained = detector.ema.trained_values()
        detector.ema.swap_out()  # as before the next training step
        self.assertAllEqual(weights_of(detector)[self.BIAS], np.full(16, 7.0))
        other = "head/P4_box_logits/bias"
        self.assertAllEqual(weights_of(detector)[other], trained[other])
        detector.ema.swap_in()
        self.assertAllEqual(weights_of(detector)[self.BIAS], np.full(16, 7.0))

    def test_early_stopping_restores_the_best_averages(self):
        kept = AtEpochEnd(lambda model, _: model.head.box_branches[0][-1].bias.numpy())
        stop = keras.callbacks.EarlyStopping("loss", mode="max", patience=5, restore_best_weights=True)
        detector = self.trained(3, callbacks=[kept, stop])  # the loss falls: the first epoch is the "best"
        self.assertAllEqual(weights_of(detector)[self.BIAS], kept.found[stop.best_epoch])

    def test_backup_and_restore(self):
        write_set(self.folder, [annotation([4, 4, 20, 20])], images=[(f"{n}.png", SIZE, SIZE) for n in range(4)])
        train = kyolo.data.make_dataset(self.folder, "train", image_size=SIZE, batch_size=2)

        def fit(*callbacks):
            detector = compiled(run_eagerly=True, ema_decay=0.9)
            detector.fit(train, epochs=3, verbose=0, callbacks=callbacks)
            return weights_of(detector)

        class Fail(keras.callbacks.Callback):
            def on_epoch_begin(self, epoch, logs=None):  # noqa: ARG002
                if epoch == 2:
                    raise RuntimeError("stopped")

        backup = lambda: keras.callbacks.BackupAndRestore(str(self.folder / "backup"))  # noqa: E731
        with self.assertRaisesRegex(RuntimeError, "stopped"):
            fit(backup(), Fail())
        self.assert_weights(fit(backup()), fit())


class PredictTest(ContractCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.detector = build()
        random = np.random.default_rng(0)
        for branch in (*cls.detector.head.box_branches, *cls.detector.head.class_branches):
            branch[-1].kernel.assign(random.normal(0, 1, branch[-1].kernel.shape))
            branch[-1].bias.assign(np.zeros(branch[-1].bias.shape))

    def test_detections_of_network_sized_images(self):
        x, _ = data()
        found = self.detector.predict(x, batch_size=3, verbose=0)
        boxes, scores = self.detector.decode(self.detector(x), (SIZE, SIZE))
        expected = batched_nms(boxes / SIZE, scores, confidence=0.25, iou=0.7, max_detections=300, multi_label=False)
        self.assertAllClose(found["boxes"], expected[0] * SIZE, atol=1e-3)
        for name, value in zip(("scores", "labels", "num_detections"), expected[1:], strict=True):
            self.assertAllClose(found[name], value, atol=1e-5)
        self.assertGreater(found["num_detections"].min(), 0)
        self.assertIsInstance(found["boxes"], np.ndarray)

    def test_predict_on_batch_and_datasets(self):
        x, _ = data()
        found = self.detector.predict(x, verbose=0)
        for other in (
            self.detector.predict_on_batch(x),
            self.detector.predict(dataset(), verbose=0),
            self.detector.predict(tf.data.Dataset.from_tensor_slices(x).batch(3), verbose=0),
        ):
            self.assertAllClose(found, other, atol=1e-3)

    def test_detect_takes_arrays_paths_and_lists(self):
        (image, other), _ = data(2)
        Image.fromarray(image).save(self.folder / "a.png")
        alone = self.detector.detect(image)
        self.assertEqual(sorted(alone), ["boxes", "labels", "names", "scores"])
        self.assertEqual(alone["names"], [CLASSES[label] for label in alone["labels"]])
        network = self.detector.predict(image[None], verbose=0)
        count = network["num_detections"][0]
        self.assertAllClose(alone["boxes"], np.clip(network["boxes"][0, :count], 0, SIZE), atol=1e-3)
        for path in (self.folder / "a.png", str(self.folder / "a.png")):
            self.assertAllClose(self.detector.detect(path)["boxes"], alone["boxes"], atol=1e-3)
        several = self.detector.detect([image, self.folder / "a.png", other])
        self.assertLen(several, 3)
        self.assertAllClose(several[1]["boxes"], alone["boxes"], atol=1e-3)
        self.assertLen(self.detector.detect(np.stack([image, other])), 2)
        self.assertEqual(self.detector.detect([]), [])

    def test_boxes_of_detect_are_in_pixels_of_the_image(self):
        image = np.repeat(np.repeat(data(1)[0][0], 3, axis=0), 3, axis=1)[:48]  # 96 wide, 48 high
        found = self.detector.detect(image, confidence=0.01)
        self.assertGreater(found["boxes"][:, 2].max(), SIZE)
        self.assertLessEqual(found["boxes"][:, 3].max(), 48)
        self.assertTrue(np.all(found["boxes"][:, :2] < found["boxes"][:, 2:]))

    def test_thresholds_of_one_call(self):
        image = data(1)[0][0]
        scores = self.detector.detect(image)["scores"]
        middle = float(np.sort(scores)[len(scores) // 2])
        self.assertLen(self.detector.detect(image, confidence=middle)["scores"], np.sum(scores > middle))
        self.assertLen(self.detector.detect(image, confidence=0.0, max_detections=2)["scores"], 2)
        with self.assertRaisesRegex(ValueError, "threshold: expected one of confidence"):
            self.detector.detect(image, threshold=0.5)

    @parameterized.parameters(np.float32, np.int64)
    def test_detect_refuses_other_pixels(self, kind):
        with self.assertRaisesRegex(kyolo.InputError, "images: expected paths or uint8"):
            self.detector.detect(data(1)[0][0].astype(kind))

    @parameterized.parameters(((1, 100, 100, 3), r"divisible by 16, got \(100, 100\)"), ((1, 32, 40, 3), r"\(32, 40\)"))
    def test_sizes_that_do_not_divide(self, shape, message):
        with self.assertRaisesRegex(ValueError, f"images: expected H and W {message}" if "div" in message else message):
            self.detector(np.zeros(shape, "uint8"))

    @parameterized.parameters(((32, 32, 3),), ((1, 32, 32, 1),), ((1, 32, 32, 4),))
    def test_shapes_that_are_no_images(self, *shape):
        with self.assertRaisesRegex(ValueError, "images: expected shape"):
            self.detector(np.zeros(shape[0], "uint8"))

    def test_summary_shows_shapes(self):
        lines = []
        self.detector.summary(print_fn=lambda text, **_: lines.append(text))
        text = "\n".join(lines)
        self.assertNotIn("?", text)
        self.assertIn("(None, 20, 2)", text)  # class logits of 4 x 4 + 2 x 2 points

    def test_export_right_after_building(self):
        detector = build()
        detector.export(self.folder / "exported", verbose=False)
        served = tf.saved_model.load(str(self.folder / "exported"))
        x = data()[0].astype("float32")
        for name, value in served.serve(x).items():
            self.assertAllClose(value, detector(x)[name], atol=1e-4)


class FileTest(ContractCase):
    def test_the_detector_knows_its_input_and_classes(self):
        detector = build(image_size=(32, 64), fit="stretch")
        loaded = self.reload(detector)
        for each in (detector, loaded):
            self.assertEqual((each.image_size, each.image_fit, each.class_names), ((32, 64), "stretch", CLASSES))
        self.assertEqual(loaded.nms, detector.nms)

    @parameterized.parameters(
        ({"image_size": 33}, "image_size"), ({"class_names": ["a"]}, "class_names"), ({"fit": "crop"}, "image_fit")
    )
    def test_what_it_cannot_be_is_refused(self, options, name):
        with self.assertRaisesRegex(ValueError, f"{name}: expected"):
            build(**options)

    def test_frozen_parts_stay_frozen(self):
        detector = build()
        detector.neck.trainable = False
        detector.head.box_branches[0][0].trainable = False
        loaded = self.reload(detector)
        self.assertFalse(loaded.neck.trainable)
        trainable = [variable.path for variable in detector.trainable_variables]
        self.assertEqual([variable.path for variable in loaded.trainable_variables], trainable)
        self.assertFalse([path for path in trainable if path.startswith(("neck/", "head/P3_box_1/"))])
        self.assertTrue([path for path in trainable if path.startswith("head/P3_box_2/")])

    def test_a_frozen_detector(self):
        detector = build()
        detector.trainable = False
        loaded = self.reload(detector)
        self.assertEmpty(loaded.trainable_variables)
        self.assertFalse(loaded.trainable)

    def test_configuration_as_json(self):
        detector = build()
        made = keras.models.model_from_json(detector.to_json())
        self.assertEqual([v.path for v in made.variables], [v.path for v in detector.variables])
        self.assertEqual(made.class_names, CLASSES)

    @pytest.mark.slow
    def test_what_was_scored_is_what_was_saved(self):
        images = [(f"{number}.png", SIZE, SIZE) for number in range(4)]
        boxes = [annotation([4, 4, 20, 20], image_id=number, category_id=1) for number in range(1, 5)]
        categories = [{"id": 1, "name": "cell"}, {"id": 2, "name": "other"}]
        for split in ("train", "val"):
            write_set(self.folder, boxes, images=images, categories=categories, split=split)
        options = {"image_size": SIZE, "batch_size": 2, "augment": None}
        train, val = (kyolo.data.make_dataset(self.folder, split, **options) for split in ("train", "val"))
        detector = compiled(keras.optimizers.Adam(0.02), ema_decay=0.5)
        path = self.folder / "best.keras"
        best = keras.callbacks.ModelCheckpoint(path, monitor="val_ap", mode="max", save_best_only=True)
        history = detector.fit(train, epochs=12, validation_data=val, verbose=0, callbacks=[CocoAP(val), best]).history
        self.assertGreater(max(history["val_ap"]), 0)
        again = kyolo.evaluate(keras.saving.load_model(path), val)
        self.assertAlmostEqual(again["ap"], max(history["val_ap"]), delta=1e-6)
        loss = keras.saving.load_model(path).evaluate(val, verbose=0, return_dict=True)["loss"]
        self.assertAllClose(loss, history["val_loss"][int(np.argmax(history["val_ap"]))], rtol=1e-5)


class BackendTest(ContractCase):
    def test_other_backends_are_refused_in_one_line(self):
        code = "import kyolo"
        done = subprocess.run(  # noqa: PLW1510 (it fails)
            [sys.executable, "-c", code], env={**os.environ, "KERAS_BACKEND": "jax"}, capture_output=True, text=True
        )
        self.assertNotEqual(done.returncode, 0)
        self.assertRegex(done.stderr.strip().splitlines()[-1], "KERAS_BACKEND.*tensorflow")


if __name__ == "__main__":
    tf.test.main()
