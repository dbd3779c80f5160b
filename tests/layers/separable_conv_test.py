import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from kyolo.layers import SeparableConvBNAct
from tests import oracles


def norm_of(layer):
    return dict(zip(("gamma", "beta", "mean", "variance"), layer.get_weights(), strict=True))


class SeparableConvTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.product(strides=(1, 2), kernel_size=(3, 5), training=(False, True))
    def test_equals_numpy(self, strides, kernel_size, training):
        """As two blocks of convolution, norm and SiLU, the first with a group for each channel."""
        random = np.random.default_rng(0)
        x = random.normal(size=(2, 9, 6, 4)).astype("float32")
        layer = SeparableConvBNAct(8, kernel_size, strides)
        layer.build(x.shape)
        for variable in layer.variables:
            if len(variable.shape) == 1:
                variable.assign(random.uniform(0.5, 1.5, variable.shape))
        depthwise = {"kernel": layer.depthwise.kernel.numpy().swapaxes(2, 3), **norm_of(layer.norm)}
        pointwise = {"kernel": layer.pointwise.conv.kernel.numpy(), **norm_of(layer.pointwise.norm)}
        expected = oracles.conv_bn_act(x, depthwise, strides, groups=4, training=training)
        expected = oracles.conv_bn_act(expected, pointwise, training=training)
        found = layer(x, training=training)
        self.assertEqual(found.shape, layer.compute_output_shape(x.shape))
        self.assertAllClose(found, expected, rtol=1e-4, atol=1e-5)

    def test_start_of_the_depthwise_kernel(self):
        layer = SeparableConvBNAct(8)
        layer.build((None, None, None, 4000))
        kernel = layer.depthwise.kernel.numpy()
        self.assertAllInRange(kernel, -1 / 3, 1 / 3)  # 1 / sqrt(9)
        self.assertAllClose(kernel.std(), 1 / 3 / np.sqrt(3), rtol=0.02)

    def test_even_kernels_are_refused(self):
        with self.assertRaisesRegex(ValueError, "^kernel_size: expected an odd"):
            SeparableConvBNAct(8, 4)


if __name__ == "__main__":
    tf.test.main()
