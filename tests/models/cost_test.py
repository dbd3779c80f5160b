"""GFLOP of layers that few detectors have, counted by hand."""

import keras
from absl.testing import absltest, parameterized

from kyolo.models.cost import count_gflop


def attended(image):
    x = keras.layers.Reshape((100, 3))(image)
    return keras.layers.MultiHeadAttention(num_heads=2, key_dim=4)(x, x)


class CostTest(parameterized.TestCase):
    @parameterized.parameters(
        # 100 cells, 6 channels out, each from 3 x 3 values of its own group.
        (keras.layers.Conv2D(6, 3, padding="same", groups=3), 100 * 6 * 9),
        (keras.layers.DepthwiseConv2D(3, padding="same"), 100 * 3 * 9),
        # Each of 100 x 3 values meets 3 x 3 x 8 weights.
        (keras.layers.Conv2DTranspose(8, 3, strides=2, padding="same"), 100 * 3 * 9 * 8),
        (keras.layers.Dense(5), 100 * 3 * 5),
        # 100 places: queries, keys and values 3 -> 2 x 4, out 8 -> 3; two heads, 100 x 100 x 4 for scores and for sums.
        (attended, 100 * 4 * 24 + 2 * 2 * 100 * 100 * 4),
    )
    def test_multiply_adds(self, layer, expected):
        image = keras.Input((10, 10, 3))
        model = keras.Model(image, layer(image))
        self.assertAlmostEqual(count_gflop(model, (10, 10)), 2 * expected / 1e9, places=12)


if __name__ == "__main__":
    absltest.main()
