"""Wise-IoU: the one box loss that remembers how well boxes fitted so far."""

import keras
from keras import ops

from kyolo.boxes.iou import iou, wiou
from kyolo.boxes.pair import power
from kyolo.losses.iou_losses import BoxLoss
from kyolo.losses.settings import check_choice, check_number
from kyolo.replicas import sum_over_replicas


@keras.saving.register_keras_serializable("kyolo")
class WIoULoss(BoxLoss):
    """Wise IoU: version 1 is `1 - wiou`; the others weigh it by how well the box fits beside the mean of all.

    With `L = 1 - IoU`, through which no gradient flows, and `outlierness = L / mean of L so far`, version 2 multiplies
    version 1 by `outlierness^gamma`, so that boxes that fit badly weigh more, and version 3 by
    `outlierness / (delta alpha^(outlierness - delta))`, which is largest for an outlierness of `1 / ln(alpha)`: those
    that fit neither well nor badly weigh most.

    In a detector the mean is a weight of the detector: saved with it, moved in training steps only, by the positives of
    all replicas together, and left alone by a batch without any. A step uses the mean of the steps before it. Outside
    a detector it stays `initial_mean`; `compile` takes a copy, so that no two detectors share a mean.

    Args:
        version: 1, 2 or 3. Default 3.
        initial_mean: mean of L before the first step, above 0. Default 1, the largest L.
        momentum: part of the mean that a step replaces, 0..1. Default 0.01: the mean is that of the last hundred steps
            or so. The paper advises `1 - 0.05^(1 / n)`, with n the number of steps until AP grows slowly.
        gamma: exponent of version 2, at least 0. Default 0.5, the paper's.
        alpha: of version 3, above 1. Default 1.9, the paper's.
        delta: of version 3, above 0: the outlierness whose weight is 1. Default 3, the paper's.
        **kwargs: see `BoxLoss`.

    Reference:
        Tong et al., Wise-IoU, arXiv 2301.10051.
    """

    def __init__(self, version=3, initial_mean=1.0, momentum=0.01, *, gamma=0.5, alpha=1.9, delta=3.0, **kwargs):
        super().__init__(**kwargs)
        self.version = check_choice("version", version, (1, 2, 3))
        self.initial_mean = check_number("initial_mean", initial_mean, above=0)
        self.momentum = check_number("momentum", momentum, minimum=0, maximum=1)
        self.gamma = check_number("gamma", gamma, minimum=0)
        self.alpha = check_number("alpha", alpha, above=1)
        self.delta = check_number("delta", delta, above=0)
        self.mean = self.initial_mean

    def build(self, add_weight):
        if self.version > 1:
            start = keras.initializers.Constant(self.initial_mean)
            self.mean = add_weight(name="wiou_mean", shape=(), initializer=start, dtype="float32")

    def call(self, y_true, y_pred):
        loss = 1 - wiou(y_pred, y_true)
        if self.version == 1:
            return loss
        plain = ops.stop_gradient(1 - iou(y_pred, y_true))
        outlierness = ops.divide_no_nan(plain, ops.convert_to_tensor(self.mean, dtype=plain.dtype))
        if self.version == 2:
            return power(outlierness, self.gamma) * loss
        return outlierness / (self.delta * self.alpha ** (outlierness - self.delta)) * loss

    def update(self, y_true, y_pred, mask):
        if self.version == 1:
            return
        total = sum_over_replicas(ops.sum(ops.where(mask, 1 - iou(y_pred, y_true), 0)))
        count = sum_over_replicas(ops.sum(ops.cast(mask, "float32")))
        rate = ops.where(count > 0, self.momentum, 0)
        self.mean.assign_add(rate * (ops.divide_no_nan(total, count) - self.mean))

    def get_config(self):
        settings = ("version", "initial_mean", "momentum", "gamma", "alpha", "delta")
        return {**super().get_config(), **{name: getattr(self, name) for name in settings}}
