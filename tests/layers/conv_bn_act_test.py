import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from kyolo.layers import ConvBNAct
from tests import golden, oracles


class ConvBNActTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.named_parameters(
        ("strides", "conv_bn_act", {"strides": 2}, {"stride": 2}),
        ("groups", "conv_bn_act_groups", {"groups": 2}, {"groups": 2}),
    )
    def test_equals_pytorch_and_numpy(self, name, arguments, oracle_arguments):
        tensors, weights = golden.load(name)
        layer = ConvBNAct(8, **arguments)
        layer.build(tensors["x"].shape)
        for mode, training in (("y_eval", False), ("y_train", True)):
            golden.set_conv_bn(layer, golden.conv_bn(weights))
            self.assertAllClose(layer(tensors["x"], training=training), tensors[mode], rtol=0, atol=1e-5)
            expected = oracles.conv_bn_act(tensors["x"], golden.conv_bn(weights), training=training, **oracle_arguments)
            self.assertAllClose(tensors[mode], expected, rtol=0, atol=1e-5)

    def test_moving_statistics(self):
        # Momentum 0.97 as Keras counts it: 3 of 100 parts come from the batch; its variance is the unbiased one.
        x = np.random.default_rng(0).normal(2.0, 3.0, (4, 6, 6, 5)).astype("float32")
        layer = ConvBNAct(3, 1)
        layer.build(x.shape)
        convolved = oracles.conv(x, layer.conv.kernel.numpy())
        layer(x, training=True)
        self.assertAllClose(layer.norm.moving_mean, 0.03 * convolved.mean(axis=(0, 1, 2)), atol=1e-5)
        self.assertAllClose(layer.norm.moving_variance, 0.97 + 0.03 * convolved.var(axis=(0, 1, 2), ddof=1), atol=1e-5)

    def test_stride_two_pads_every_side(self):
        # A kernel that picks its top left tap reads row and column -1, 1, 3, ...: the first of each is padding. With
        # "same" on an even size it would read 0, 2, 4, ...
        layer = ConvBNAct(1, 3, strides=2, activation=None)
        x = np.arange(36, dtype="float32").reshape(1, 6, 6, 1)
        layer.build(x.shape)
        kernel = np.zeros((3, 3, 1, 1), "float32")
        kernel[0, 0] = 1
        layer.conv.kernel.assign(kernel)
        layer.norm.moving_variance.assign([1 - 1e-3])
        self.assertAllClose(layer(x)[0, :, :, 0], [[0, 0, 0], [0, 7, 9], [0, 19, 21]], atol=1e-4)

    @parameterized.parameters((6, 3), (7, 4), (1, 1))
    def test_stride_two_rounds_up(self, size, expected):
        self.assertEqual(ConvBNAct(2, strides=2)(np.zeros((1, size, size, 3))).shape, (1, expected, expected, 2))

    @parameterized.parameters(None, "relu", "silu")
    def test_activation(self, activation):
        x = np.random.default_rng(1).normal(size=(1, 4, 4, 3)).astype("float32")
        layer, plain = ConvBNAct(5, activation=activation), ConvBNAct(5, activation=None)
        plain.build(x.shape)
        layer.build(x.shape)
        plain.set_weights(layer.get_weights())
        linear = plain(x).numpy()
        expected = {None: linear, "relu": np.maximum(linear, 0), "silu": linear / (1 + np.exp(-linear))}[activation]
        self.assertAllClose(layer(x), expected, atol=1e-6)

    def test_no_bias(self):
        layer = ConvBNAct(5)
        layer.build((1, 4, 4, 3))
        # 3 * 3 * 3 * 5 of the kernel, 5 gamma, 5 beta
        self.assertEqual(sum(np.prod(v.shape) for v in layer.trainable_variables), 135 + 10)

    def test_even_kernel_is_refused(self):
        with self.assertRaisesRegex(ValueError, "odd.*4"):
            ConvBNAct(5, 4)


if __name__ == "__main__":
    tf.test.main()
