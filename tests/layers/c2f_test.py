import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from kyolo.layers import C2f
from tests import golden, oracles


class C2fTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.named_parameters(("plain", "c2f", False), ("shortcut", "c2f_shortcut", True))
    def test_equals_pytorch_and_numpy(self, name, shortcut):
        tensors, weights = golden.load(name)
        layer = C2f(12, depth=2, shortcut=shortcut)
        layer.build(tensors["x"].shape)
        pre, post = golden.conv_bn(weights, "pre."), golden.conv_bn(weights, "post.")
        blocks = [[golden.conv_bn(weights, f"blocks.{i}.{j}.") for j in (0, 1)] for i in (0, 1)]
        for mode, training in (("y_eval", False), ("y_train", True)):
            golden.set_conv_bn(layer.pre, pre)
            golden.set_conv_bn(layer.post, post)
            for pair, values in zip(layer.bottlenecks, blocks, strict=True):
                for conv, value in zip(pair, values, strict=True):
                    golden.set_conv_bn(conv, value)
            self.assertAllClose(layer(tensors["x"], training=training), tensors[mode], rtol=0, atol=1e-5)
            expected = oracles.c2f(tensors["x"], pre, blocks, post, shortcut, training)
            self.assertAllClose(tensors[mode], expected, rtol=0, atol=1e-5)

    @parameterized.parameters((12, 1), (12, 3), (16, 2))
    def test_number_of_weights(self, filters, depth):
        # pre: 1x1 from 8 to filters; each block twice 3x3 from half to half; post: 1x1 from (2 + depth) halves. Two
        # weights a channel for each batch norm.
        half = filters // 2
        kernels = 8 * filters + depth * 2 * 9 * half**2 + (2 + depth) * half * filters
        norms = 2 * (filters + depth * 2 * half + filters)
        layer = C2f(filters, depth=depth)
        layer.build((1, 8, 8, 8))
        self.assertEqual(sum(np.prod(v.shape) for v in layer.trainable_variables), kernels + norms)

    def test_odd_filters_are_refused(self):
        with self.assertRaisesRegex(ValueError, "even.*7"):
            C2f(7)


if __name__ == "__main__":
    tf.test.main()
