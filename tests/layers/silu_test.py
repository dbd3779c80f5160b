import keras
import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from kyolo.layers import ConvBNAct
from kyolo.layers.silu import silu, with_fast_gradient

X = np.concatenate([np.linspace(-30, 30, 61), [-1e4, -88.0, 0.0, 88.0, 1e4]])
UPSTREAM = np.random.default_rng(0).normal(size=X.shape)

# s = 1 / (1 + exp(-x)); y = x s; dy/dx = s + x s (1 - s).
SIGMOID = 1 / (1 + np.exp(-np.clip(X, -700, 700)))
VALUE = X * SIGMOID
GRADIENT = UPSTREAM * (SIGMOID + X * SIGMOID * (1 - SIGMOID))


def differentiate(x, upstream):
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = silu(x)
    return y, tape.gradient(y, x, upstream)


class SiluTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.product(
        mode=("eager", "graph", "xla"),
        precision=(("float32", 1e-6), ("bfloat16", 2**-8), ("float16", 2**-10)),
    )
    def test_value_and_gradient(self, mode, precision):
        dtype, tolerance = precision
        run = differentiate if mode == "eager" else tf.function(differentiate, jit_compile=mode == "xla")
        for value, expected in zip(run(tf.cast(X, dtype), tf.cast(UPSTREAM, dtype)), (VALUE, GRADIENT), strict=True):
            self.assertEqual(value.dtype, dtype)
            # The inputs are rounded too: one unit of the last place each, on values that change as much as they do.
            self.assertAllClose(tf.cast(value, tf.float64), expected, rtol=2 * tolerance, atol=2 * tolerance)

    def test_sizes_may_change_from_call_to_call(self):
        run = tf.function(differentiate, input_signature=[tf.TensorSpec([None], tf.float32)] * 2)
        for count in (1, 7, 61):
            _, gradient = run(X[:count].astype("float32"), UPSTREAM[:count].astype("float32"))
            self.assertAllClose(gradient, GRADIENT[:count], rtol=1e-5, atol=1e-6)

    def test_stands_for_that_of_keras_only(self):
        self.assertIs(with_fast_gradient(keras.activations.get("silu")), silu)
        self.assertIs(with_fast_gradient(keras.activations.get("swish")), silu)
        self.assertIs(with_fast_gradient(keras.activations.relu), keras.activations.relu)
        self.assertEqual(ConvBNAct(3).get_config()["activation"], "silu")

    def test_saved_and_loaded_without_custom_objects(self):
        model = keras.Sequential([keras.Input((4,)), keras.layers.Activation(silu)])
        path = f"{self.get_temp_dir()}/model.keras"
        model.save(path)
        loaded = keras.models.load_model(path)
        self.assertIs(loaded.layers[0].activation, silu)
        self.assertAllEqual(loaded(X[:4][None]), model(X[:4][None]))


if __name__ == "__main__":
    tf.test.main()
