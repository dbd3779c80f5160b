"""All use of private names of Keras and TensorFlow. `tests/compat_test.py` has one test for each.

Each function says what it needs the private name for. When a new version of Keras or TensorFlow breaks one, this is the
only file to change.
"""

import types

import keras
from keras.src.optimizers.base_optimizer import BaseOptimizer


class BuiltModel(keras.Model):
    """A model that is built before `fit`.

    Under `tf.distribute`, Keras takes a batch from the data to build a model, and fails where the batch comes from
    several machines ("Unable to convert PerReplica").
    """

    def _maybe_symbolic_build(self, iterator=None, data_batch=None):
        """Do nothing: the model is built."""


def flatten_layers(layer):
    """Return a layer and all layers in it, in the order of their creation. Keras has no public list of nested ones."""
    return list(layer._flatten_layers())


def own_variables(layer):
    """Return the variables of a layer without those of the layers in it."""
    return [*layer._trainable_variables, *layer._non_trainable_variables]


def dataset_inputs(dataset):
    """Return the datasets that a `tf.data.Dataset` was made from, e.g. by `map` or `take`."""
    return list(dataset._inputs())


def called_graph(graph, op):
    """Return the graph of the function that an operation of `graph` calls."""
    return graph._get_function(op.get_attr("f").name).graph


def in_multi_worker_mode(strategy):
    """Return whether the replicas of a strategy are on several machines."""
    return strategy.extended._in_multi_worker_mode()


def gpu_memory_limits():
    """Return the bytes that TensorFlow may allocate on each GPU; no public function tells."""
    from tensorflow.python.client import device_lib

    return [device.memory_limit for device in device_lib.list_local_devices() if device.device_type == "GPU"]


def variable_key(optimizer, variable):
    """Return what an optimizer knows a variable by. In `update_step` it is TensorFlow's, without its Keras path."""
    return optimizer._var_key(variable)


def adam_moments(optimizer, variable):
    """Return the first and second moment of a variable, as the `keras.optimizers.Adam` that keeps them names them."""
    index = optimizer._get_variable_index(variable)
    return optimizer._momentums[index], optimizer._velocities[index]


def use_local_updates(optimizer):
    """Let an optimizer update each replica's variables by themselves, from gradients that are summed already."""
    for name in ("_apply_weight_decay", "_backend_update_step", "_backend_increment_gradient_accumulators"):
        method = getattr(BaseOptimizer, name)  # the backend's own versions sum over replicas
        setattr(optimizer, name, types.MethodType(method, optimizer))
