"""SimAM: a gate for each value from how far it lies from its map's mean."""

import keras
from keras import ops

from kyolo.errors import ArgumentError
from kyolo.layers.gate import check_init


@keras.saving.register_keras_serializable("kyolo")
class SimAM(keras.layers.Layer):
    """Simple attention without hidden layers: `x s`, `s = sigmoid(d / (4 (v + regularization)) + 1 / 2)`.

    d is the squared distance of a value from the mean of its channel's map, v the sum of d over the map divided by
    H W - 1: what stands out of its map is kept. `init` says whether that is all:

    - "paper": it is; no weights. All values are multiplied by 0.62 at least.
    - "identity": `x (1 + strength (s - 1))` with a learnt `strength` for each channel that starts at 0: C weights,
      which learn from the first step on. At a strength of 1 it is the paper's.

    Args:
        regularization: lambda, which keeps v from 0. Default 1e-4, the paper's.
        init: "identity" or "paper". Default "identity".

    Input shape:
        `(B, H, W, C)`; a map of one pixel has no variance: it counts as 0.

    Output shape:
        The input's.

    Raises:
        ValueError: on an unknown `init`, or a `regularization` that is not above 0.

    Example:
        >>> x = keras.random.normal((1, 8, 8, 16))
        >>> bool(keras.ops.all(SimAM()(x) == x))
        True

    Reference:
        Yang et al., SimAM, ICML 2021 (PMLR 139), equations 5 and 6.
    """

    def __init__(self, regularization=1e-4, init="identity", **kwargs):
        super().__init__(**kwargs)
        if type(regularization) not in (int, float) or not regularization > 0:
            raise ArgumentError("regularization", f"expected a number > 0, got {regularization!r}.")
        self.regularization = regularization
        self.init = check_init(init)

    def build(self, input_shape):
        if self.init == "identity":
            self.strength = self.add_weight(
                shape=(input_shape[-1],), initializer="zeros", dtype="float32", name="strength"
            )

    def compute_output_shape(self, input_shape):
        return tuple(input_shape)

    def call(self, inputs):
        x = ops.cast(inputs, "float32")  # squares of small differences
        squares = ops.square(x - ops.mean(x, axis=(1, 2), keepdims=True))
        others = ops.maximum(ops.cast(ops.shape(x)[1] * ops.shape(x)[2] - 1, "float32"), 1.0)
        variance = ops.sum(squares, axis=(1, 2), keepdims=True) / others
        factor = ops.sigmoid(squares / (4 * (variance + self.regularization)) + 0.5)
        if self.init == "identity":
            factor = 1 + self.strength * (factor - 1)
        return ops.cast(x * factor, self.compute_dtype)

    def get_config(self):
        return {**super().get_config(), "regularization": self.regularization, "init": self.init}
