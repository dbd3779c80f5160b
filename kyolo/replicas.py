"""What is summed over all replicas of a training step."""

import tensorflow as tf


def sum_over_replicas(x):
    """Sum of a tensor over the replicas that compute in step; the tensor itself where there is one."""
    context = tf.distribute.get_replica_context()
    if context is None or context.num_replicas_in_sync == 1:
        return x
    return context.all_reduce(tf.distribute.ReduceOp.SUM, x)
