import json

import keras
import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from kyolo.errors import ArgumentError
from tests import oracles
from tests.losses import public


def example(cls):
    """Targets and predictions of the shapes that the loss takes: scores and logits, distances and logits, or boxes."""
    random = np.random.default_rng(0)
    if cls.__name__ in oracles.CLASSIFICATION_LOSSES:
        y_true, y_pred = random.uniform(0, 1, (2, 5, 4)), random.normal(size=(2, 5, 4))
    elif cls.__name__ == "DistributionFocalLoss":
        y_true, y_pred = random.uniform(0, 15, (2, 5, 4)), random.normal(size=(2, 5, 4, 16))
    else:
        low = random.uniform(0, 50, (2, 5, 4))
        y_true = np.concatenate([low[..., :2], low[..., :2] + 5 + low[..., 2:]], axis=-1)
        y_pred = y_true + random.normal(0, 3, y_true.shape)
    return y_true.astype("float32"), y_pred.astype("float32")


each_class = parameterized.named_parameters((cls.__name__, cls) for cls in public.CLASSES)


class EveryLossTest(tf.test.TestCase, parameterized.TestCase):
    def test_every_loss_has_an_oracle(self):
        known = {*oracles.BOX_LOSSES, *oracles.CLASSIFICATION_LOSSES, "DistributionFocalLoss"}
        self.assertEqual({cls.__name__ for cls in public.CLASSES}, known)

    @each_class
    def test_reductions(self, cls):
        y_true, y_pred = example(cls)
        each = public.build(cls, reduction=None)(y_true, y_pred).numpy()
        self.assertEqual(each.shape[:2], (2, 5))
        self.assertAllClose(public.build(cls, reduction="sum")(y_true, y_pred), each.sum(), rtol=1e-5)
        self.assertAllClose(public.build(cls, reduction="mean")(y_true, y_pred), each.mean(), rtol=1e-5)
        self.assertAllClose(public.build(cls)(y_true, y_pred), each.mean(), rtol=1e-5)

    @each_class
    def test_config_survives_json(self, cls):
        tried = set()
        for settings in public.all_settings(cls):
            tried |= set(settings)
            loss = cls(**settings, name="some_name", reduction="sum")
            text = json.dumps(keras.losses.serialize(loss))
            again = keras.losses.deserialize(json.loads(text))
            self.assertIs(type(again), cls)
            self.assertEqual(json.dumps(keras.losses.serialize(again)), text)
            self.assertAllEqual(again(*example(cls)), loss(*example(cls)))
            for name, value in settings.items():
                self.assertEqual(getattr(again, name), value)
        self.assertContainsSubset(public.parameters(cls), tried)

    @each_class
    def test_refuses_settings_out_of_range(self, cls):
        for name in public.parameters(cls):
            for value in public.REFUSED[name] + public.REFUSED_BY.get(cls.__name__, {}).get(name, []):
                with (
                    self.subTest(f"{name}={value!r}"),
                    self.assertRaisesRegex(ArgumentError, f"^{name}.*expected.*got"),
                ):
                    public.build(cls, **{name: value})

    @parameterized.product(cls=public.CLASSES, policy=("mixed_float16", "mixed_bfloat16"))
    def test_float32_under_every_policy(self, cls, policy):
        before = keras.config.dtype_policy()
        self.addCleanup(keras.config.set_dtype_policy, before)
        y_true, y_pred = example(cls)
        expected = public.build(cls, reduction=None)(y_true, y_pred)
        keras.config.set_dtype_policy(policy)
        found = public.build(cls, reduction=None)(y_true, y_pred)
        self.assertDTypeEqual(found, "float32")
        self.assertAllEqual(found, expected)

    def test_graph_and_xla_equal_eager(self):
        found = {cls: public.build(cls, reduction=None) for cls in public.CLASSES}
        inputs = {cls.__name__: example(cls) for cls in public.CLASSES}

        def run(inputs):
            return {cls.__name__: loss(*inputs[cls.__name__]) for cls, loss in found.items()}

        expected = run(inputs)
        for jit_compile in (False, True):
            for name, value in tf.function(run, jit_compile=jit_compile)(inputs).items():
                self.assertAllClose(value, expected[name], atol=1e-5, msg=f"{name}, jit_compile={jit_compile}")


if __name__ == "__main__":
    tf.test.main()
