"""Classification losses on logits, one value for each point and class: never averaged over the classes.

Keras' own classes take the mean over the last axis, which makes the loss K times too small beside that of the boxes.
Each is also a name in a configuration: `model.loss.classification: {kind: focal, gamma: 1.5}` is
`FocalLoss(gamma=1.5)`.
"""

import keras
from keras import ops

from kyolo.boxes.pair import power
from kyolo.losses.base import NamedLoss
from kyolo.losses.settings import check_number


class ClassificationLoss(NamedLoss):
    """What the classification losses share.

    Args:
        reduction: as in Keras; None gives one loss a point and class. Default "sum_over_batch_size".
        name: default: the name of the class.
        dtype: "float64" computes in float64. Default: float32.

    Input shape:
        `y_true`: `(..., K)` target scores in 0..1. `y_pred`: `(..., K)` logits.

    Output shape:
        `(..., K)` with `reduction=None`, else a scalar.

    Raises:
        ValueError: for a setting out of range.
    """


@keras.saving.register_keras_serializable("kyolo")
class BinaryCrossentropy(ClassificationLoss):
    """`-y log p - (1 - y) log(1 - p)`, with p the score: YOLOv8's classification loss."""

    def call(self, y_true, y_pred):
        return ops.binary_crossentropy(y_true, y_pred, from_logits=True)


@keras.saving.register_keras_serializable("kyolo")
class FocalLoss(ClassificationLoss):
    """Binary cross-entropy that easy points hardly count in: times `a (1 - p_t)^gamma`.

    `p_t = y p + (1 - y) (1 - p)` is the probability of the right answer and `a = y alpha + (1 - y) (1 - alpha)`.

    Args:
        alpha: weight of the positives, 0..1, that of the negatives being 1 - alpha; None: both weigh 1. Default 0.25,
            the paper's.
        gamma: how much less easy points count, at least 0. Default 2, the paper's.
        **kwargs: see `ClassificationLoss`.

    Reference:
        Lin et al., Focal Loss, arXiv 1708.02002, equation 5; for targets between 0 and 1, both are interpolated.
    """

    def __init__(self, alpha=0.25, gamma=2.0, **kwargs):
        super().__init__(**kwargs)
        self.alpha = None if alpha is None else check_number("alpha", alpha, minimum=0, maximum=1)
        self.gamma = check_number("gamma", gamma, minimum=0)

    def call(self, y_true, y_pred):
        missing = y_true * ops.sigmoid(-y_pred) + (1 - y_true) * ops.sigmoid(y_pred)  # 1 - p_t
        loss = power(missing, self.gamma) * ops.binary_crossentropy(y_true, y_pred, from_logits=True)
        return loss if self.alpha is None else (y_true * self.alpha + (1 - y_true) * (1 - self.alpha)) * loss

    def get_config(self):
        return {**super().get_config(), "alpha": self.alpha, "gamma": self.gamma}


@keras.saving.register_keras_serializable("kyolo")
class QualityFocalLoss(ClassificationLoss):
    """Binary cross-entropy that counts by how far the score is from its target: times `|y - p|^beta`.

    Args:
        beta: how much less near scores count, at least 0. Default 2, the paper's.
        **kwargs: see `ClassificationLoss`.

    Reference:
        Li et al., Generalized Focal Loss, arXiv 2006.04388, equation 5.
    """

    def __init__(self, beta=2.0, **kwargs):
        super().__init__(**kwargs)
        self.beta = check_number("beta", beta, minimum=0)

    def call(self, y_true, y_pred):
        difference = ops.abs(y_true - ops.sigmoid(y_pred))
        return power(difference, self.beta) * ops.binary_crossentropy(y_true, y_pred, from_logits=True)

    def get_config(self):
        return {**super().get_config(), "beta": self.beta}


@keras.saving.register_keras_serializable("kyolo")
class VarifocalLoss(ClassificationLoss):
    """Binary cross-entropy, times `y` for positives and times `alpha p^gamma` for negatives, of which y is 0.

    Negatives count the less the easier they are, positives the more the better the box that they are to score.

    Args:
        alpha: weight of the negatives, at least 0. Default 0.75, the paper's.
        gamma: how much less easy negatives count, at least 0. Default 2, the paper's.
        **kwargs: see `ClassificationLoss`.

    Reference:
        Zhang et al., VarifocalNet, arXiv 2008.13367, equation 2.
    """

    def __init__(self, alpha=0.75, gamma=2.0, **kwargs):
        super().__init__(**kwargs)
        self.alpha = check_number("alpha", alpha, minimum=0)
        self.gamma = check_number("gamma", gamma, minimum=0)

    def call(self, y_true, y_pred):
        weight = ops.where(y_true > 0, y_true, self.alpha * power(ops.sigmoid(y_pred), self.gamma))
        return weight * ops.binary_crossentropy(y_true, y_pred, from_logits=True)

    def get_config(self):
        return {**super().get_config(), "alpha": self.alpha, "gamma": self.gamma}
