"""SPPF: context of several sizes from one chained pooling."""

import keras
from keras import ops

from kyolo.layers.conv_bn_act import ConvBNAct


@keras.saving.register_keras_serializable("kyolo")
class SPPF(keras.layers.Layer):
    """Spatial pyramid pooling, fast: the input and three chained max-poolings of it, joined between 1x1 convolutions.

    Three 5x5 poolings in a chain see what 5x5, 9x9 and 13x13 poolings see, at the price of three small ones. Padding
    counts as minus infinity: a pooled value is always one of the map's.

    Args:
        filters: channels of the output; half of the input's channels, rounded down, are pooled.
        pool_size: side of each pooling, odd. Default 5.

    Input shape:
        `(B, H, W, C)`.

    Output shape:
        `(B, H, W, filters)`.

    Reference:
        He et al., Spatial Pyramid Pooling, arXiv 1406.4729; the chained form is YOLOv5's.
    """

    def __init__(self, filters, pool_size=5, **kwargs):
        super().__init__(**kwargs)
        self.filters = filters
        self.pool_size = pool_size
        self.pre = None  # its width follows from the input
        self.pool = keras.layers.MaxPooling2D(
            pool_size, strides=1, padding="same", dtype=self.dtype_policy, name="pool"
        )
        self.post = ConvBNAct(filters, 1, dtype=self.dtype_policy, name="post")

    def build(self, input_shape):
        hidden = input_shape[-1] // 2
        self.pre = ConvBNAct(hidden, 1, dtype=self.dtype_policy, name="pre")
        self.pre.build(input_shape)
        self.post.build((*input_shape[:-1], 4 * hidden))

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], self.filters)

    def call(self, inputs):
        pieces = [self.pre(inputs)]
        for _ in range(3):
            pieces.append(self.pool(pieces[-1]))
        return self.post(ops.concatenate(pieces, axis=-1))

    def get_config(self):
        return {**super().get_config(), "filters": self.filters, "pool_size": self.pool_size}
