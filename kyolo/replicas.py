"""What the replicas of a training step do together: each has a part of the batch and all of the weights."""

import types

import tensorflow as tf

from kyolo import _compat


def count_replicas():
    """Number of replicas that compute in step: 1 without a strategy of `tf.distribute`."""
    return tf.distribute.get_strategy().num_replicas_in_sync


def on_several_machines():
    """Whether the replicas are those of a `tf.distribute.MultiWorkerMirroredStrategy` of several workers."""
    return _compat.in_multi_worker_mode(tf.distribute.get_strategy())


def sum_over_replicas(x):
    """Sum of a tensor, or of each tensor of a structure, over the replicas; itself where there is one.

    The gradient is that of the sum of all replicas' losses: its own sum over the replicas.
    """
    if count_replicas() == 1 or tf.distribute.in_cross_replica_context():
        return x
    return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, x)


def gather_from_replicas(x):
    """A tensor of each replica, stacked along a new first axis; where there is one, that axis has length 1."""
    if count_replicas() == 1:
        return x[None]
    number = tf.distribute.get_replica_context().replica_id_in_sync_group
    place = tf.reshape(tf.one_hot(number, count_replicas(), dtype=x.dtype), [-1] + [1] * len(x.shape))
    return sum_over_replicas(place * x)


def local_copies(variable):
    """The copies of a Keras variable that the replicas of this process have, as `tf.Variable`s; one alone, itself."""
    value = variable.value
    return value.values if isinstance(value, tf.distribute.DistributedValues) else (value,)


def sum_gradients_first(optimizer):
    """Lets a Keras optimizer sum gradients over the replicas before it does anything else with them.

    Keras clips the gradients of each replica, accumulates them and looks for overflow in them before it sums them.
    After the sum all replicas do the same with their own copies of the variables.

    Args:
        optimizer: a Keras optimizer; its methods are replaced.
    """
    apply = types.MethodType(type(optimizer).apply, optimizer)  # its class': this may be done twice

    def sum_and_apply(grads, trainable_variables=None):
        sums = iter(sum_over_replicas([grad for grad in grads if grad is not None]))
        apply([None if grad is None else next(sums) for grad in grads], trainable_variables)

    optimizer.apply = sum_and_apply
    _compat.use_local_updates(getattr(optimizer, "inner_optimizer", optimizer))
