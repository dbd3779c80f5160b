"""Distribution focal loss: the two bins around a distance are taught to share it."""

import keras
from keras import ops

from kyolo.losses.base import NamedLoss


@keras.saving.register_keras_serializable("kyolo")
class DistributionFocalLoss(NamedLoss):
    """Cross-entropy of a predicted distribution with the two bins that enclose the target.

    For a distance y between the bins i and i + 1: `-((i + 1 - y) log p_i + (y - i) log p_(i + 1))`, the mean over the
    four sides. The smallest value is the entropy of the target, not 0. The number of bins is that of the logits.

    Args:
        reduction: as in Keras; None gives one loss a box. Default "sum_over_batch_size".

    Input shape:
        `y_true`: `(..., 4)` distances in strides, clipped to 0..R - 1.01. `y_pred`: `(..., 4, R)` logits.

    Output shape:
        `(...)` with `reduction=None`, else a scalar.

    Reference:
        Li et al., Generalized Focal Loss, arXiv 2006.04388, equation 6; the upper clip is YOLOv8's.
    """

    def call(self, y_true, y_pred):
        num_bins = y_pred.shape[-1]
        distance = ops.clip(y_true, 0, num_bins - 1.01)[..., None]  # (..., 4, 1)
        bins = ops.arange(num_bins, dtype=y_pred.dtype)
        two_hot = ops.maximum(1 - ops.abs(distance - bins), 0)  # (..., 4, R): the weights of the two bins, else 0
        return -ops.mean(ops.sum(two_hot * ops.log_softmax(y_pred, axis=-1), axis=-1), axis=-1)
