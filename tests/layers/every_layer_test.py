import inspect
import json
import os

import keras
import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from kyolo import layers

CLASSES = [c for c in vars(layers).values() if inspect.isclass(c) and issubclass(c, keras.layers.Layer)]
# Biases of convolutions before a batch norm.
WITHOUT_GRADIENT = {"GAM": ("spatial_squeeze/bias", "spatial_expand/bias"), "CoordAttention": ("/squeeze/bias",)}
SHAPE = (2, 8, 6, 16)


def make(cls, **kwargs):
    """A layer with 8 channels for every argument that has no default, or 500 where it counts weights."""
    parameters = inspect.signature(cls.__init__).parameters.values()
    required = [p.name for p in parameters if p.default is p.empty and p.kind is p.POSITIONAL_OR_KEYWORD]
    return cls(**{name: 500 if "weights" in name else 8 for name in required if name != "self"}, **kwargs)


def randomize(layer, seed=1):
    """Moves every weight away from its start, where zeros and ones hide mistakes."""
    random = np.random.default_rng(seed)
    for variable in layer.variables:
        positive = "variance" in variable.name
        values = random.uniform(0.5, 2.0, variable.shape) if positive else random.normal(0, 0.3, variable.shape)
        variable.assign(values.astype("float32"))


def inputs(seed=0):
    return np.random.default_rng(seed).normal(size=SHAPE).astype("float32")


class EveryLayerTest(tf.test.TestCase, parameterized.TestCase):
    def test_finds_the_layers(self):
        self.assertGreaterEqual(len(CLASSES), 11)

    @parameterized.parameters(*CLASSES)
    def test_graph_and_xla_equal_eager(self, cls):
        layer = make(cls)
        layer.build(SHAPE)
        randomize(layer)
        eager = layer(inputs(), training=False)
        self.assertAllClose(tf.function(layer)(inputs(), training=False), eager, atol=1e-5)
        self.assertAllClose(tf.function(layer, jit_compile=True)(inputs(), training=False), eager, atol=1e-4)
        has_norm = any(isinstance(each, keras.layers.BatchNormalization) for each in layer._flatten_layers())
        self.assertEqual(np.allclose(layer(inputs(), training=True), eager, atol=1e-3), not has_norm)

    @parameterized.parameters(*CLASSES)
    def test_output_shape(self, cls):
        layer = make(cls)
        self.assertEqual(tuple(layer(inputs()).shape), tuple(layer.compute_output_shape(SHAPE)))
        symbolic = make(cls)(keras.Input((None, None, 16)))
        self.assertEqual(symbolic.shape[-1], layer.compute_output_shape(SHAPE)[-1])

    @parameterized.parameters(*CLASSES)
    def test_any_image_size(self, cls):
        image = keras.Input((None, None, 16))
        layer = make(cls)
        model = keras.Model(image, layer(image))
        for size in ((8, 6), (5, 11)):
            x = np.random.default_rng(0).normal(size=(1, *size, 16)).astype("float32")
            self.assertAllClose(model(x), layer(x), atol=1e-5)

    @parameterized.product(cls=CLASSES, policy=("mixed_float16", "mixed_bfloat16"))
    def test_mixed_precision(self, cls, policy):
        exact, layer = make(cls), make(cls, dtype=policy)
        for each in (exact, layer):
            each.build(SHAPE)
            randomize(each)
        output = layer(inputs())
        self.assertEqual(output.dtype, policy.removeprefix("mixed_"))
        for variable in layer.variables:
            self.assertEqual(variable.dtype, "float32", msg=variable.path)
        # bfloat16 keeps 8 bits: 0.4 % an operation, and there are about ten in a row.
        expected = exact(inputs()).numpy()
        error = np.abs(tf.cast(output, tf.float32).numpy() - expected).mean()
        self.assertLess(error, (0.03 if "bfloat16" in policy else 0.004) * np.abs(expected).mean())

    @parameterized.parameters(*CLASSES)
    def test_global_policy_reaches_the_layers_inside(self, cls):
        policy = keras.config.dtype_policy()
        self.addCleanup(keras.config.set_dtype_policy, policy)
        keras.config.set_dtype_policy("mixed_bfloat16")
        layer = make(cls)
        layer.build(SHAPE)
        for inner in layer._flatten_layers():
            self.assertEqual(inner.compute_dtype, "bfloat16", msg=inner.path)

    @parameterized.parameters(*CLASSES)
    def test_config_survives_json(self, cls):
        layer = make(cls, name="some_name", dtype="mixed_bfloat16")
        text = json.dumps(layer.get_config())
        again = cls.from_config(json.loads(text))
        self.assertEqual(json.dumps(again.get_config()), text)
        arguments = [p for p in inspect.signature(cls.__init__).parameters if p not in ("self", "kwargs")]
        self.assertContainsSubset(arguments, json.loads(text))

    @parameterized.parameters(*CLASSES)
    def test_config_keeps_what_is_not_the_default(self, cls):
        others = {bool: lambda v: not v, int: lambda v: v + 2 if v > 1 and v % 2 else 2 * v, float: lambda v: v / 2}
        values = {
            p.name: others[type(p.default)](p.default)
            for p in inspect.signature(cls.__init__).parameters.values()
            if type(p.default) in others
        }
        again = cls.from_config(json.loads(json.dumps(make(cls, **values).get_config())))
        self.assertEqual({name: again.get_config()[name] for name in values}, values)

    @parameterized.parameters(*CLASSES)
    def test_saved_and_loaded_without_custom_objects(self, cls):
        image = keras.Input(SHAPE[1:])
        model = keras.Model(image, make(cls)(image))
        randomize(model)
        path = os.path.join(self.get_temp_dir(), f"{cls.__name__}.keras")
        model.save(path)
        loaded = keras.models.load_model(path)
        self.assertAllEqual(loaded(inputs()), model(inputs()))
        self.assertEqual([type(each) for each in loaded.layers], [type(each) for each in model.layers])

    @parameterized.parameters(*CLASSES)
    def test_training_moves_every_weight(self, cls):
        # Two steps: a layer that starts at the identity moves what lies before its zeros in the second.
        keras.utils.set_random_seed(0)
        layer = make(cls)
        layer.build(SHAPE)
        before = [variable.numpy() for variable in layer.variables]
        optimizer = keras.optimizers.SGD(0.001)  # at 0.02 gates are shut for good
        weight = np.random.default_rng(5).normal(size=layer(inputs()).shape).astype("float32")
        for step in range(2):
            with tf.GradientTape() as tape:
                loss = tf.reduce_sum(weight * layer(inputs(step), training=True) ** 2)
            optimizer.apply(tape.gradient(loss, layer.trainable_variables), layer.trainable_variables)
        for variable, old in zip(layer.variables, before, strict=True):
            if not variable.path.endswith(WITHOUT_GRADIENT.get(cls.__name__, "nothing")):
                self.assertGreater(np.abs(variable.numpy() - old).max(), 1e-6, msg=variable.path)


if __name__ == "__main__":
    tf.test.main()
