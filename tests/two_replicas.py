"""Trains a linear model on one replica and on two, with every optimizer; prints its weights as JSON.

`replicas_test.py` starts it: the two devices must be there before TensorFlow begins.
"""

import itertools
import json

import keras
import numpy as np
import tensorflow as tf

from kyolo.replicas import local_copies, sum_gradients_first
from kyolo.training import optimizers

STEPS = 4
IMAGES = 6  # a step; on two replicas half of them each


def build_optimizer(kind, accumulated, scaled):
    optimizer = getattr(optimizers, kind)(
        learning_rate=0.1,
        weight_decay=0.1,
        global_clipnorm=1.0,
        gradient_accumulation_steps=accumulated if accumulated > 1 else None,
    )
    return keras.optimizers.LossScaleOptimizer(optimizer, initial_scale=8.0) if scaled else optimizer


def train(replicas, *recipe):
    """Weights after steps of which some are clipped and some are not; with a loss scale one step overflows.

    It does so by the last image, which of two replicas the second has.

    Returns:
        Of each replica, the weights and, with a loss scale, what is left of it.
    """
    rng = np.random.default_rng(0)
    scales = np.array([0.05, 1, 10, 0.05])[:, None, None]
    images = (rng.normal(size=(STEPS, IMAGES, 3)) * scales).astype("float32")
    wanted = rng.normal(size=(STEPS, IMAGES, 1)).astype("float32") * 0.1
    *_, scaled = recipe
    if scaled:
        wanted[1, -1] = np.inf
    devices = [f"CPU:{number}" for number in range(replicas)]
    strategy = tf.distribute.MirroredStrategy(devices) if replicas > 1 else tf.distribute.get_strategy()
    with strategy.scope():
        kernel = keras.Variable(np.full((3, 1), 0.5, "float32"), name="kernel")
        optimizer = build_optimizer(*recipe)
        optimizer.build([kernel])
        if replicas > 1:
            sum_gradients_first(optimizer)

    def step(images, wanted):
        number = tf.distribute.get_replica_context().replica_id_in_sync_group
        x, y = (tf.reshape(whole, (replicas, -1, whole.shape[1]))[number] for whole in (images, wanted))
        with tf.GradientTape() as tape:
            loss = optimizer.scale_loss(tf.reduce_sum((x @ kernel.value - y) ** 2))
        optimizer.apply(tape.gradient(loss, [kernel.value]), [kernel])

    run = tf.function(lambda *batch: strategy.run(step, batch))
    for batch in zip(images, wanted, strict=True):
        run(*map(tf.constant, batch))
    columns = [local_copies(variable) for variable in (kernel, *([optimizer.dynamic_scale] if scaled else []))]
    return [np.concatenate([copy.numpy().ravel() for copy in copies]).tolist() for copies in zip(*columns, strict=True)]


def main():
    (processor,) = tf.config.list_physical_devices("CPU")
    tf.config.set_logical_device_configuration(processor, [tf.config.LogicalDeviceConfiguration()] * 2)
    found = []
    for recipe in itertools.product(("AdamW", "SGD"), (1, 2), (False, True)):
        found.append({"recipe": recipe, "one": train(1, *recipe), "two": train(2, *recipe)})
    print(json.dumps(found))  # noqa: T201


if __name__ == "__main__":
    main()
