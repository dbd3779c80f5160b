"""The optimizer that a configuration asks for."""

import json

import keras
import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from kyolo.config import OptimizerConfig, ScheduleConfig, TrainConfig
from kyolo.training import optimizers
from kyolo.training.optimizers import build_optimizer


def settings(**optimizer):
    schedule = ScheduleConfig(kind="linear", warmup_epochs=0, final_fraction=1.0)  # a constant rate
    return TrainConfig(epochs=10, optimizer=OptimizerConfig(**optimizer), schedule=schedule)


class AdamWTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.named_parameters(("graph", False), ("xla", True))
    def test_steps_are_those_of_the_paper(self, jit_compile):
        rate, decay, beta_1, beta_2, epsilon = 0.1, 0.2, 0.8, 0.9, 1e-3
        optimizer = optimizers.AdamW(rate, weight_decay=decay, beta_1=beta_1, beta_2=beta_2, epsilon=epsilon)
        variable = keras.Variable([[1.0, -2.0]], name="kernel")
        optimizer.build([variable])
        apply = tf.function(lambda gradient: optimizer.apply([gradient]), jit_compile=jit_compile)
        weights, first, second = np.array([1.0, -2.0]), np.zeros(2), np.zeros(2)
        for step, gradient in enumerate(([0.5, 1.0], [-1.5, 0.0], [0.1, 3.0]), start=1):
            apply(tf.constant([gradient]))
            weights -= rate * decay * weights
            first = beta_1 * first + (1 - beta_1) * np.array(gradient)
            second = beta_2 * second + (1 - beta_2) * np.square(gradient)
            corrected = np.sqrt(second / (1 - beta_2**step))
            # Keras and TensorFlow add epsilon before they correct the bias, the paper after it.
            weights -= rate * first / (1 - beta_1**step) / (corrected + epsilon / np.sqrt(1 - beta_2**step))
            self.assertAllClose(variable[0], weights, rtol=1e-6)

    def test_survives_its_configuration(self):
        optimizer = optimizers.AdamW(0.1, weight_decay=0.2, beta_1=0.8)
        restored = keras.optimizers.deserialize(keras.optimizers.serialize(optimizer))
        self.assertIsInstance(restored, optimizers.AdamW)
        self.assertEqual(restored.get_config(), optimizer.get_config())

    def test_amsgrad_is_refused(self):
        with self.assertRaisesRegex(ValueError, "amsgrad"):
            optimizers.AdamW(0.1, amsgrad=True)


class OptimizersTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.parameters("adamw", "sgd")
    def test_only_weights_of_rank_two_and_more_decay(self, kind):
        optimizer = build_optimizer(settings(kind=kind, learning_rate=0.5, weight_decay=0.1), steps_per_epoch=4)
        shapes = {"kernel": (3, 3, 2, 2), "table": (2, 2), "bias": (2,), "gamma": (2,), "strength": (1,), "scale": ()}
        variables = [keras.Variable(np.ones(shape, "float32"), name=name) for name, shape in shapes.items()]
        optimizer.apply([tf.zeros(shape) for shape in shapes.values()], variables)
        # Without a gradient a step is w - rate * decay * w: 1 - 0.5 * 0.1 for rank 2 and more, nothing for the others.
        self.assertAllClose([np.mean(variable) for variable in variables], [0.95, 0.95, 1, 1, 1, 1])

    def test_sgd_clips_the_global_norm(self):
        optimizer = build_optimizer(
            settings(kind="sgd", learning_rate=1.0, weight_decay=0, momentum=0, clip_norm=1.0), steps_per_epoch=4
        )
        variables = [keras.Variable([0.0], name="kernel"), keras.Variable([0.0], name="bias")]
        optimizer.apply([tf.constant([3.0]), tf.constant([4.0])], variables)  # norm 5
        self.assertAllClose([variable.numpy()[0] for variable in variables], [-0.6, -0.8])

    def test_accumulated_gradients_make_one_step(self):
        optimizer = build_optimizer(
            settings(kind="sgd", learning_rate=1.0, weight_decay=0, momentum=0, clip_norm=None, accumulate_steps=2),
            steps_per_epoch=4,
        )
        variable = keras.Variable([0.0], name="kernel")
        optimizer.apply([tf.constant([1.0])], [variable])
        self.assertAllClose(variable, [0.0])
        optimizer.apply([tf.constant([3.0])], [variable])
        self.assertAllClose(variable, [-4.0])  # the sum of both
        self.assertEqual(int(optimizer.iterations), 1)

    def test_accumulated_gradients_are_clipped_as_one(self):
        optimizer = build_optimizer(
            settings(kind="sgd", learning_rate=1.0, weight_decay=0, momentum=0, clip_norm=2.0, accumulate_steps=2),
            steps_per_epoch=4,
        )
        variable = keras.Variable([0.0], name="kernel")
        for gradient in (5.0, -4.0, 5.0, 4.0):
            optimizer.apply([tf.constant([gradient])], [variable])
        self.assertAllClose(variable, [-1.0 - 2.0])  # 5 - 4 is within the norm, 5 + 4 is not

    @parameterized.parameters(1, 2, 4)
    def test_schedule_ends_with_the_training(self, accumulate_steps):
        train = TrainConfig(
            epochs=2,
            optimizer=OptimizerConfig(learning_rate=1.0, accumulate_steps=accumulate_steps),
            schedule=ScheduleConfig(warmup_epochs=0, final_fraction=0.0),
        )
        optimizer = build_optimizer(train, steps_per_epoch=4)
        variable, rates = keras.Variable([0.0], name="kernel"), []
        for _ in range(8):  # batches
            rates.append(float(optimizer.learning_rate))
            optimizer.apply([tf.zeros(1)], [variable])
        self.assertAllClose(rates, [1 - batch / 8 for batch in range(8)])

    def test_adamw_with_two_factors(self):
        optimizer = optimizers.AdamW(
            0.1, beta_1=0.9, beta_2=0.99, weight_decay=0.5, learning_rate_factors={"slow": 0.1}
        )
        variables = [keras.Variable([[2.0]], name=name) for name in ("slow", "other")]
        for gradient in (3.0, -1.0):
            optimizer.apply([tf.constant([[gradient]])] * 2, variables)
        for variable, rate in zip(variables, (0.01, 0.1), strict=True):
            # Decoupled: w -= rate 0.5 w, then w -= rate m / sqrt(v) with the means m of g and v of g^2, each divided by
            # 1 - beta^step: the first step moves by rate x sign(g).
            weight, mean, square = 2.0, 0.0, 0.0
            for step, gradient in enumerate((3.0, -1.0), start=1):
                mean, square = 0.9 * mean + 0.1 * gradient, 0.99 * square + 0.01 * gradient**2
                weight -= rate * 0.5 * weight
                weight -= rate * mean / (1 - 0.9**step) / np.sqrt(square / (1 - 0.99**step))
            self.assertAllClose(variable, [[weight]], rtol=1e-5)

    def test_sgd_with_two_factors(self):
        factors = {"fast": 10.0}
        optimizer = optimizers.SGD(0.01, 0.5, nesterov=True, weight_decay=0.2, learning_rate_factors=factors)
        variables = [keras.Variable([[2.0]], name=name) for name in ("fast", "other")]
        for gradient in (3.0, -1.0):
            optimizer.apply([tf.constant([[gradient]])] * 2, variables)
        for variable, rate in zip(variables, (0.1, 0.01), strict=True):
            weight, velocity = 2.0, 0.0
            for gradient in (3.0, -1.0):
                weight -= rate * 0.2 * weight
                velocity = 0.5 * velocity - rate * gradient
                weight += 0.5 * velocity - rate * gradient
            self.assertAllClose(variable, [[weight]], rtol=1e-5)

    @parameterized.parameters("adamw", "sgd")
    def test_config_keeps_factors_and_decay(self, kind):
        chosen = settings(kind=kind, learning_rate=0.5, weight_decay=0.1, accumulate_steps=2)
        optimizer = build_optimizer(chosen, steps_per_epoch=4)
        optimizer.learning_rate_factors = {"kernel": 0.5}
        text = json.dumps(keras.saving.serialize_keras_object(optimizer))
        again = keras.saving.deserialize_keras_object(json.loads(text))
        self.assertEqual(again.get_config(), optimizer.get_config())
        variables = [keras.Variable([[1.0]], name="kernel"), keras.Variable([1.0], name="bias")]
        for _ in range(2):
            again.apply([tf.zeros((1, 1)), tf.zeros(1)], variables)
        self.assertAllClose([np.mean(variable) for variable in variables], [1 - 0.5 * 0.5 * 0.1, 1])

    def test_momentum_is_used(self):
        optimizer = build_optimizer(
            settings(kind="sgd", learning_rate=1.0, weight_decay=0, momentum=0.5, clip_norm=None), steps_per_epoch=4
        )
        variable = keras.Variable(np.zeros(1, "float32"), name="kernel")
        optimizer.apply([tf.constant([1.0])], [variable])
        # Nesterov: velocity = -1, step = 0.5 * velocity - 1
        self.assertAllClose(variable, [-1.5])


if __name__ == "__main__":
    tf.test.main()
