import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from kyolo.models.neck import PAFPN, upsample
from kyolo.models.pyramid import LevelSpec
from tests import oracles

NAMES = ("kernel", "gamma", "beta", "mean", "variance")


def conv_weights(layer):
    return dict(zip(NAMES, [layer.conv.kernel.numpy(), *layer.norm.get_weights()], strict=True))


def c2f(layer, parts):
    blocks = [[conv_weights(conv) for conv in pair] for pair in layer.bottlenecks]
    return oracles.c2f(np.concatenate(parts, axis=-1), conv_weights(layer.pre), blocks, conv_weights(layer.post))


def expected_maps(neck, maps):
    """PANet in NumPy: coarse to fine by doubling every row and column, then fine to coarse by strided convolutions."""
    maps = [np.float64(x) for x in maps]
    for i in reversed(range(len(maps) - 1)):
        doubled = maps[i + 1].repeat(2, axis=1).repeat(2, axis=2)
        maps[i] = c2f(neck.top_down[i], [doubled, maps[i]])
    for i in range(len(maps) - 1):
        halved = oracles.conv_bn_act(maps[i], conv_weights(neck.downsample[i]), stride=2)
        maps[i + 1] = c2f(neck.bottom_up[i], [halved, maps[i + 1]])
    return maps


class PAFPNTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.parameters(((4, 6), 1), ((4, 6, 8), 2), ((2, 4, 6, 8), 1))
    def test_equals_numpy(self, channels, depth):
        levels = [LevelSpec(f"P{i + 2}", 2 ** (i + 2), width) for i, width in enumerate(channels)]
        neck = PAFPN(levels, depth=depth)
        random = np.random.default_rng(0)
        maps = [
            random.normal(size=(2, 64 // level.stride, 96 // level.stride, level.channels)).astype("float32")
            for level in levels
        ]
        neck.build([x.shape for x in maps])
        for variable in neck.variables:
            if len(variable.shape) == 1:
                variable.assign(random.uniform(0.5, 1.5, variable.shape))
        for found, expected in zip(neck(maps), expected_maps(neck, maps), strict=True):
            self.assertAllClose(found, expected, rtol=1e-4, atol=1e-5)

    @parameterized.parameters((0.5, [8, 8, 16, 24]), (1.5, [24, 24, 48, 72]), (0.1, [8, 8, 8, 8]))
    def test_width(self, width, expected):
        """16, 16, 32, 48 channels come in; what comes out is a multiple of 8. Values by the same NumPy as above."""
        levels = [LevelSpec(f"P{i + 2}", 2 ** (i + 2), channels) for i, channels in enumerate((16, 16, 32, 48))]
        neck, random = PAFPN(levels, width=width), np.random.default_rng(0)
        maps = [random.normal(size=(1, 64 // s, 64 // s, c)).astype("float32") for _, s, c in levels]
        neck.build([x.shape for x in maps])
        self.assertEqual([level.channels for level in neck.outputs], expected)
        found = neck(maps)
        self.assertEqual([x.shape[-1] for x in found], expected)
        for one, other in zip(found, expected_maps(neck, maps), strict=True):
            self.assertAllClose(one, other, rtol=1e-4, atol=1e-5)

    def test_depthwise(self):
        levels = [LevelSpec("P3", 8, 16), LevelSpec("P4", 16, 32)]
        neck = PAFPN(levels, conv="depthwise")
        neck.build([(None, None, None, 16), (None, None, None, 32)])
        kinds = {type(layer).__name__ for layer in neck._flatten_layers() if "bottleneck" in layer.name}
        self.assertEqual((kinds, type(neck.downsample[0]).__name__), ({"SeparableConvBNAct"}, "SeparableConvBNAct"))
        again = PAFPN.from_config(neck.get_config())
        self.assertEqual((again.conv, again.width), ("depthwise", 1.0))

    @parameterized.named_parameters(("eager", None), ("graph", False), ("xla", True))
    def test_gradient_of_upsampling(self, jit_compile):
        # Each cell was copied to 2 x 2 cells: its gradient is the sum of theirs. Cell (r, c) of 3 x 2 has the upstream
        # values (2 r, 2 r + 1) x (2 c, 2 c + 1) of a table that counts 0, 1, 2, ... in rows of 4.
        table = np.arange(24, dtype="float32").reshape(6, 4)
        expected = [[0 + 1 + 4 + 5, 2 + 3 + 6 + 7], [8 + 9 + 12 + 13, 10 + 11 + 14 + 15], [74, 82]]

        def differentiate(x):
            with tf.GradientTape() as tape:
                tape.watch(x)
                total = tf.reduce_sum(upsample(x) * table[None, :, :, None])
            return tape.gradient(total, x)

        run = differentiate if jit_compile is None else tf.function(differentiate, jit_compile=jit_compile)
        self.assertAllEqual(run(tf.ones((1, 3, 2, 1)))[0, :, :, 0], expected)


if __name__ == "__main__":
    tf.test.main()
