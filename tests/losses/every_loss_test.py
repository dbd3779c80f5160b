import inspect
import json

import keras
import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from kyolo import losses

CLASSES = [c for c in vars(losses).values() if inspect.isclass(c) and issubclass(c, keras.losses.Loss)]


def example(loss):
    """Targets and predictions of the shapes that the loss takes: boxes, distances and logits, or scores and logits."""
    random = np.random.default_rng(0)
    low = random.uniform(0, 50, (2, 5, 4))
    boxes = np.concatenate([low[..., :2], low[..., :2] + 5 + low[..., 2:]], axis=-1)
    shapes = {
        losses.DistributionFocalLoss: (random.uniform(0, 15, (2, 5, 4)), random.normal(size=(2, 5, 4, 16))),
        losses.BinaryCrossentropy: (random.uniform(0, 1, (2, 5, 4)), random.normal(size=(2, 5, 4))),
    }
    y_true, y_pred = shapes.get(type(loss), (boxes, boxes + random.normal(0, 3, boxes.shape)))
    return y_true.astype("float32"), y_pred.astype("float32")


class EveryLossTest(tf.test.TestCase, parameterized.TestCase):
    def test_finds_the_losses(self):
        self.assertGreaterEqual(len(CLASSES), 4)

    @parameterized.parameters(*CLASSES)
    def test_reductions(self, cls):
        y_true, y_pred = example(cls())
        each = cls(reduction=None)(y_true, y_pred).numpy()
        self.assertEqual(each.shape[:2], (2, 5))
        self.assertAllClose(cls(reduction="sum")(y_true, y_pred), each.sum(), rtol=1e-5)
        self.assertAllClose(cls(reduction="mean")(y_true, y_pred), each.mean(), rtol=1e-5)

    @parameterized.parameters(*CLASSES)
    def test_config_survives_json(self, cls):
        loss = cls(name="some_name", reduction="sum")
        text = json.dumps(keras.losses.serialize(loss))
        again = keras.losses.deserialize(json.loads(text))
        self.assertIs(type(again), cls)
        self.assertEqual(json.dumps(keras.losses.serialize(again)), text)
        self.assertAllEqual(again(*example(loss)), loss(*example(loss)))

    @parameterized.product(cls=CLASSES, policy=("mixed_float16", "mixed_bfloat16"))
    def test_float32_under_every_policy(self, cls, policy):
        before = keras.config.dtype_policy()
        self.addCleanup(keras.config.set_dtype_policy, before)
        y_true, y_pred = example(cls())
        expected = cls(reduction=None)(y_true, y_pred)
        keras.config.set_dtype_policy(policy)
        found = cls(reduction=None)(y_true, y_pred)
        self.assertDTypeEqual(found, "float32")
        self.assertAllEqual(found, expected)

    @parameterized.parameters(*CLASSES)
    def test_graph_and_xla_equal_eager(self, cls):
        loss = cls(reduction=None)
        y_true, y_pred = example(loss)
        for jit_compile in (False, True):
            found = tf.function(loss.__call__, jit_compile=jit_compile)(tf.constant(y_true), tf.constant(y_pred))
            self.assertAllClose(found, loss(y_true, y_pred), atol=1e-5)


if __name__ == "__main__":
    tf.test.main()
