"""Classification losses on logits, one value for each point and class."""

import keras
from keras import ops


@keras.saving.register_keras_serializable("kyolo")
class BinaryCrossentropy(keras.losses.Loss):
    """Binary cross-entropy of each logit with its target score, not averaged over the classes.

    Keras' own class of this name takes the mean over the last axis, which makes the loss K times too small beside
    that of the boxes.

    Args:
        reduction: as in Keras; None gives one loss a point and class. Default "sum_over_batch_size".

    Input shape:
        `y_true`: `(..., K)` target scores in 0..1. `y_pred`: `(..., K)` logits.

    Output shape:
        `(..., K)` with `reduction=None`, else a scalar.
    """

    def __init__(self, reduction="sum_over_batch_size", name="binary_crossentropy", **kwargs):
        super().__init__(name=name, reduction=reduction, **kwargs)

    def call(self, y_true, y_pred):
        return ops.binary_crossentropy(y_true, y_pred, from_logits=True)
