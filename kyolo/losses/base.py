"""What every loss of kyolo's adds to Keras' own."""

import keras


class NamedLoss(keras.losses.Loss):
    """A Keras loss that is called after its class, and whose configuration keeps the precision."""

    def __init__(self, reduction="sum_over_batch_size", name=None, dtype=None):
        super().__init__(name=name or type(self).__name__, reduction=reduction, dtype=dtype)

    def get_config(self):
        return {**super().get_config(), "dtype": self.dtype}
