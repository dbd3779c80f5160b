"""Each private name of Keras and TensorFlow that kyolo uses, and that no other file uses one."""

import ast
import pathlib

import keras
import numpy as np
import tensorflow as tf
from absl.testing import absltest, parameterized

from kyolo import _compat
from kyolo.training.optimizers import SGD, AdamW

ROOT = pathlib.Path(__file__).parents[1] / "kyolo"
MODULES = sorted(path for path in ROOT.rglob("*.py") if path.name != "_compat.py")
NAMED_TUPLE = {"_asdict", "_replace"}  # public, whatever they are called
PRIVATE_MODULES = ("keras.src", "tensorflow.python", "tensorflow.core")


def own_names(tree):
    """Private names that a file defines itself: methods, attributes of self, functions, fields."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            names.add(node.attr)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
    return names


class CompatTest(parameterized.TestCase, tf.test.TestCase):
    def test_a_built_model_is_not_built_again(self):
        called = []

        class Model(_compat.BuiltModel):
            def build(self, input_shape):
                called.append(input_shape)

        model = Model()
        model.built = True
        model._maybe_symbolic_build(data_batch=(np.zeros((1, 2)), None, None))
        self.assertEmpty(called)
        # It is still the method that Keras calls: without it the override would do nothing.
        self.assertTrue(callable(keras.Model._maybe_symbolic_build))

    def test_flatten_layers(self):
        inner = keras.layers.Dense(2, name="inner")
        model = keras.Sequential([keras.Input((3,)), keras.Sequential([inner], name="outer")])
        names = [layer.name for layer in _compat.flatten_layers(model)]
        self.assertContainsSubset(["outer", "inner"], names)
        self.assertIs(_compat.flatten_layers(model)[0], model)

    def test_own_variables(self):
        class Outer(keras.layers.Layer):
            def __init__(self):
                super().__init__()
                self.inner = keras.layers.Dense(2)

            def build(self, shape):
                self.scale = self.add_weight(name="scale", shape=(1,))
                self.count = self.add_weight(name="count", shape=(), trainable=False)
                self.inner.build(shape)

        layer = Outer()
        layer.build((None, 3))
        self.assertEqual([variable.name for variable in _compat.own_variables(layer)], ["scale", "count"])

    def test_dataset_inputs(self):
        source, other = tf.data.Dataset.range(3), tf.data.Dataset.range(2)
        joined = source.concatenate(other)
        self.assertEqual(_compat.dataset_inputs(joined), [source, other])
        self.assertEqual(_compat.dataset_inputs(joined.map(lambda x: x)), [joined])
        self.assertEqual(_compat.dataset_inputs(source), [])

    def test_called_graph(self):
        inner = tf.function(tf.sin)
        graph = tf.function(lambda x: inner(x) + 1).get_concrete_function(tf.TensorSpec((), tf.float32)).graph
        (call,) = [op for op in graph.get_operations() if op.type.endswith("PartitionedCall")]
        types = [op.type for op in _compat.called_graph(graph, call).get_operations()]
        self.assertIn("Sin", types)

    def test_in_multi_worker_mode(self):
        self.assertFalse(_compat.in_multi_worker_mode(tf.distribute.get_strategy()))
        self.assertFalse(_compat.in_multi_worker_mode(tf.distribute.MirroredStrategy(["CPU:0"])))

    def test_gpu_memory_limits(self):
        limits = _compat.gpu_memory_limits()
        self.assertLen(limits, len(tf.config.list_physical_devices("GPU")))
        self.assertTrue(all(limit > 0 for limit in limits))

    @parameterized.parameters(AdamW, SGD)
    def test_variable_key_of_both_kinds_of_variables(self, optimizer):
        variable = keras.Variable([[1.0]], name="kernel")
        made = optimizer(0.1)
        made.build([variable])
        self.assertEqual(_compat.variable_key(made, variable), _compat.variable_key(made, variable.value))

    def test_adam_moments(self):
        variables = [keras.Variable([[1.0]], name="a"), keras.Variable([[1.0]], name="b")]
        optimizer = keras.optimizers.Adam(0.1, beta_1=0.5, beta_2=0.75)
        optimizer.apply([tf.constant([[2.0]]), tf.constant([[4.0]])], variables)
        # m = (1 - beta_1) g, v = (1 - beta_2) g^2 after one step.
        for variable, gradient in zip(variables, (2.0, 4.0), strict=True):
            first, second = _compat.adam_moments(optimizer, variable)
            self.assertAllClose([first[0, 0], second[0, 0]], [0.5 * gradient, 0.25 * gradient**2])

    def test_use_local_updates(self):
        optimizer, variable = SGD(0.1), keras.Variable([[1.0]], name="kernel")
        optimizer.build([variable])
        _compat.use_local_updates(optimizer)
        optimizer.apply([tf.constant([[2.0]])], [variable])
        self.assertAllClose(variable, [[0.8]])

    @parameterized.named_parameters((str(path.relative_to(ROOT)), path) for path in MODULES)
    def test_no_other_file_uses_private_names(self, path):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom | ast.Import):
                names = [node.module or ""] if isinstance(node, ast.ImportFrom) else [each.name for each in node.names]
                self.assertFalse([name for name in names if name.startswith(PRIVATE_MODULES)], f"line {node.lineno}")
            private = isinstance(node, ast.Attribute) and node.attr.startswith("_") and not node.attr.startswith("__")
            if private:
                self.assertIn(node.attr, own_names(tree) | NAMED_TUPLE, f"line {node.lineno}: ._{node.attr}")


if __name__ == "__main__":
    absltest.main()
