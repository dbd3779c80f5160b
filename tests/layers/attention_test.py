"""The lighter attention modules: values by NumPy, starts, weights counted by hand. GAM has a test of its own."""

import keras
import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from kyolo.layers import CBAM, ECA, GAM, SE, ControlConv, CoordAttention, SimAM
from tests import oracles
from tests.layers.every_layer_test import randomize

KINDS = (CBAM, CoordAttention, ECA, SE, SimAM)
ALL = (*KINDS, GAM, ControlConv)
SHAPE = (2, 7, 5, 16)


def some_input(seed=0, shape=SHAPE):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def make(cls, **arguments):
    arguments |= {"num_weights": 600} if cls is ControlConv else {}
    layer = cls(**arguments)
    layer.build(SHAPE)
    return layer


def weights_of(layer):
    """Arrays by the names of the layers inside; kernels of 1x1 convolutions as those of dense layers."""
    weights = {}
    for inner in layer._flatten_layers(include_self=False):
        arrays = {variable.name.removeprefix("moving_"): variable.numpy() for variable in inner.variables}
        if "kernel" in arrays and arrays["kernel"].shape[:2] == (1, 1):
            arrays["kernel"] = arrays["kernel"][0, 0]
        weights[inner.name] = arrays
    return weights


def oracle(layer, x, training):
    gain = 2.0 if layer.init == "identity" else 1.0
    if isinstance(layer, SimAM):
        return oracles.simam(x, layer.strength.numpy() if layer.init == "identity" else 1.0)
    if isinstance(layer, ECA):
        return oracles.eca(x, layer.conv.kernel.numpy()[:, 0, 0], gain)
    if isinstance(layer, CoordAttention):
        return oracles.coord_attention(x, weights_of(layer), gain, training)
    return {CBAM: oracles.cbam, SE: oracles.se}[type(layer)](x, weights_of(layer), gain)


class AttentionTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.product(cls=KINDS, init=("identity", "paper"), training=(False, True))
    def test_equals_numpy(self, cls, init, training):
        layer, x = make(cls, init=init), some_input()
        randomize(layer)
        expected = oracle(layer, x, training)
        self.assertGreater(np.abs(expected - x).max(), 0.1)
        self.assertAllClose(layer(x, training=training), expected, rtol=0, atol=1e-5)

    @parameterized.product(cls=ALL, training=(False, True))
    def test_identity_returns_its_input(self, cls, training):
        x = some_input()
        self.assertAllEqual(make(cls)(x, training=training), x)

    @parameterized.parameters(
        (CBAM, {"squeeze"}), (CoordAttention, {"squeeze", "norm"}), (ECA, set()), (SE, {"squeeze"}), (SimAM, set()),
        (GAM, {"channel_squeeze", "spatial_squeeze", "squeeze_norm", "spatial_expand"}),
        (ControlConv, {"squeeze", "squeeze_norm", "expand"}),
    )  # fmt: skip
    def test_what_learns_from_the_first_step(self, cls, later):
        """As the docstrings say: the rest starts on the second; every_layer_test sees it move then."""
        layer = make(cls)
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(layer(some_input(), training=True) * some_input(1))
        gradients = tape.gradient(loss, layer.trainable_variables)
        for variable, gradient in zip(layer.trainable_variables, gradients, strict=True):
            inner = variable.path.split("/")[-2]
            self.assertEqual(np.abs(gradient).max() < 1e-4, inner in later, msg=variable.path)

    @parameterized.parameters((CBAM, 0.25), (CoordAttention, 0.25), (ECA, 0.5), (SE, 0.5))
    def test_paper_starts_near_half_for_each_gate(self, cls, factor):
        keras.utils.set_random_seed(0)
        layer = cls(init="paper")
        x = some_input(shape=(2, 7, 5, 64)) / 10
        self.assertAllClose(np.mean(layer(x) / x), factor, rtol=0.05)

    @parameterized.parameters(
        # 256 channels, hidden 16: kernels 2 x 256 x 16, biases 16 + 256.
        (SE, {}, 256, 8464),
        # The same, and 7 x 7 x 2.
        (CBAM, {}, 256, 8562),
        # log2(256) / 2 + 1 / 2 = 4.5: 4 is even, so 5.
        (ECA, {}, 256, 5),
        (ECA, {"kernel_size": 7}, 256, 7),
        # Hidden 8: kernels 3 x 256 x 8, biases 8 + 2 x 256, norm 2 x 8.
        (CoordAttention, {}, 256, 6680),
        (SimAM, {}, 256, 256),
        (SimAM, {"init": "paper"}, 256, 0),
        # 48 / 16 = 3 hidden channels are too few; 8 are taken: 2 x 48 x 8 + 8 + 48.
        (SE, {}, 48, 824),
        # GAM's 1,639,680: 3x3, 356 hidden channels: 18 x 256 x 356 + 2 x (356 + 256).
        (ControlConv, {"num_weights": 1639680}, 256, 1641672),
        # SE's 8,464: 1x1, 15 hidden channels: 2 x 256 x 15 + 2 x (15 + 256).
        (ControlConv, {"num_weights": 8464}, 256, 8222),
    )
    def test_number_of_weights(self, cls, arguments, channels, expected):
        layer = cls(**arguments)
        layer.build((None, None, None, channels))
        self.assertEqual(sum(np.prod(v.shape) for v in layer.trainable_variables), expected)

    def test_coordinates_are_kept(self):
        """A bright row changes the rows' gates there and nowhere else, as the columns' gates are held at 1."""
        layer, x = make(CoordAttention), np.zeros(SHAPE, "float32") + 0.1
        randomize(layer)
        for variable in layer.columns.variables:
            variable.assign(np.zeros(variable.shape))
        bright = x.copy()
        bright[:, 3] += 1.0
        changed = np.abs(layer(bright, training=False) / bright - layer(x, training=False) / x).max(axis=(0, 2, 3))
        self.assertGreater(changed[3], 1e-3)
        self.assertAllClose(np.delete(changed, 3), np.zeros(6), atol=1e-6)

    def test_simam_of_one_pixel_and_of_a_flat_map(self):
        for x in (np.full((1, 1, 1, 4), 3.0, "float32"), np.full((1, 6, 6, 4), 3.0, "float32")):
            # No distance from the mean: sigmoid(0.5).
            self.assertAllClose(SimAM(init="paper")(x), x * 0.62245933, rtol=1e-6)

    @parameterized.parameters(*ALL)
    def test_unknown_init(self, cls):
        with self.assertRaisesRegex(ValueError, "^init: expected one of identity, paper, got 'zeros'"):
            make(cls, init="zeros")

    @parameterized.parameters(CBAM, ECA)
    def test_even_kernel(self, cls):
        with self.assertRaisesRegex(ValueError, "^kernel_size: expected an odd integer"):
            make(cls, kernel_size=4)

    def test_control_of_too_few_weights(self):
        with self.assertRaisesRegex(ValueError, "^num_weights: expected at least 66 on 16 channels, got 5"):
            ControlConv(num_weights=5).build(SHAPE)


if __name__ == "__main__":
    tf.test.main()
