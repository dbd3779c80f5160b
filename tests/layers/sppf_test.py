import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from kyolo.layers import SPPF
from tests import golden, oracles


class SPPFTest(tf.test.TestCase, parameterized.TestCase):
    def test_equals_pytorch_and_numpy(self):
        tensors, weights = golden.load("sppf")
        layer = SPPF(12)
        layer.build(tensors["x"].shape)
        pre, post = golden.conv_bn(weights, "pre."), golden.conv_bn(weights, "post.")
        for mode, training in (("y_eval", False), ("y_train", True)):
            golden.set_conv_bn(layer.pre, pre)
            golden.set_conv_bn(layer.post, post)
            self.assertAllClose(layer(tensors["x"], training=training), tensors[mode], rtol=0, atol=1e-5)
            expected = oracles.sppf(tensors["x"], pre, post, training=training)
            self.assertAllClose(tensors[mode], expected, rtol=0, atol=1e-5)

    @parameterized.parameters(3, 5)
    def test_pool_size(self, pool_size):
        x = np.random.default_rng(0).normal(size=(1, 7, 9, 4)).astype("float32")
        layer = SPPF(6, pool_size=pool_size)
        layer.build(x.shape)
        names = ("kernel", "gamma", "beta", "mean", "variance")
        pre, post = (
            dict(zip(names, [each.conv.kernel.numpy(), *each.norm.get_weights()], strict=True))
            for each in (layer.pre, layer.post)
        )
        self.assertAllClose(layer(x), oracles.sppf(x, pre, post, pool_size), atol=1e-5)

    def test_border_is_no_zero(self):
        # All features after the first convolution are negative: SiLU goes down to -0.278. A border of zeros would win
        # every pool that touches it; with a border of minus infinity a constant map stays constant everywhere.
        layer = SPPF(4)
        x = np.full((1, 6, 6, 4), -1.0, "float32")
        layer.build(x.shape)
        layer.pre.conv.kernel.assign(np.full((1, 1, 4, 2), 0.25, "float32"))
        y = layer(x).numpy()
        self.assertAllClose(y, np.broadcast_to(y[:, 3:4, 3:4], y.shape), atol=1e-6)


if __name__ == "__main__":
    tf.test.main()
