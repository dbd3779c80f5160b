"""Box losses: one minus a similarity of `kyolo.boxes.iou`."""

import keras

from kyolo.boxes.iou import ciou, siou


@keras.saving.register_keras_serializable("kyolo")
class CIoULoss(keras.losses.Loss):
    """Complete-IoU loss, `1 - ciou`, in [0, 2.5): YOLOv8's box loss, the one to compare others with.

    Args:
        reduction: as in Keras; None gives one loss a box. Default "sum_over_batch_size".

    Input shape:
        `y_true` and `y_pred`: `(..., 4)` xyxy boxes in one unit.

    Output shape:
        `(...)` with `reduction=None`, else a scalar.

    Reference:
        `kyolo.boxes.iou.ciou`.
    """

    def __init__(self, reduction="sum_over_batch_size", name="ciou_loss", **kwargs):
        super().__init__(name=name, reduction=reduction, **kwargs)

    def call(self, y_true, y_pred):
        return 1 - ciou(y_true, y_pred)


@keras.saving.register_keras_serializable("kyolo")
class SIoULoss(keras.losses.Loss):
    """SCYLLA-IoU loss, `1 - siou`, in [0, 2.03): distance weighted by the angle between the centres, and shape.

    Args:
        theta: how sharply a difference in shape counts, 2 to 6. Default 4, the paper's.
        reduction: as in Keras; None gives one loss a box. Default "sum_over_batch_size".

    Input shape:
        `y_true` and `y_pred`: `(..., 4)` xyxy boxes in one unit.

    Output shape:
        `(...)` with `reduction=None`, else a scalar.

    Reference:
        `kyolo.boxes.iou.siou`.
    """

    def __init__(self, theta=4.0, reduction="sum_over_batch_size", name="siou_loss", **kwargs):
        super().__init__(name=name, reduction=reduction, **kwargs)
        self.theta = theta

    def call(self, y_true, y_pred):
        return 1 - siou(y_true, y_pred, theta=self.theta)

    def get_config(self):
        return {**super().get_config(), "theta": self.theta}
