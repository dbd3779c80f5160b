"""Box losses: one minus a similarity of `kyolo.boxes.iou`, where the formulas and their sources stand.

Each is also a name in a configuration: `model.loss.box: {kind: siou, theta: 3}` is `SIoULoss(theta=3)`.
"""

import keras
from keras import ops

from kyolo.boxes.iou import (
    ALPHA_PENALTIES,
    alpha_iou,
    ciou,
    diou,
    eiou,
    giou,
    inner_iou,
    iou,
    mpdiou,
    shape_iou,
    siou,
)
from kyolo.losses.base import NamedLoss
from kyolo.losses.settings import check_choice, check_number, check_size


class BoxLoss(NamedLoss):
    """What the box losses share; the base of one's own, of which `call` is enough.

    Args:
        reduction: as in Keras; None gives one loss a box. Default "sum_over_batch_size".
        name: default: the name of the class.
        dtype: "float64" computes in float64. Default: float32.

    Input shape:
        `y_true` and `y_pred`: `(..., 4)` target and predicted xyxy boxes in one unit, pixels in a detector.

    Output shape:
        `(...)` with `reduction=None`, else a scalar. Identical boxes that have an area cost 0.

    Raises:
        ValueError: for a setting out of range.
    """

    def build(self, add_weight):
        """Makes the variables that the loss needs; called by `Detector.compile`, whose variables they become.

        Args:
            add_weight: function with the arguments of `keras.Layer.add_weight`, for variables that are not trained.
        """

    def update(self, y_true, y_pred, mask):
        """Moves those variables; called in each training step after the loss.

        Args:
            y_true: `(..., 4)` target boxes.
            y_pred: `(..., 4)` predicted boxes.
            mask: `(...)` bool, True where there is a target.
        """


@keras.saving.register_keras_serializable("kyolo")
class IoULoss(BoxLoss):
    """`1 - iou`, in [0, 1]. Without a gradient where boxes do not overlap: a baseline."""

    def call(self, y_true, y_pred):
        return 1 - iou(y_pred, y_true)


@keras.saving.register_keras_serializable("kyolo")
class GIoULoss(BoxLoss):
    """Generalised IoU, `1 - giou`, in [0, 2): pulls boxes together that do not overlap."""

    def call(self, y_true, y_pred):
        return 1 - giou(y_pred, y_true)


@keras.saving.register_keras_serializable("kyolo")
class DIoULoss(BoxLoss):
    """Distance IoU, `1 - diou`, in [0, 2): pulls the centres together."""

    def call(self, y_true, y_pred):
        return 1 - diou(y_pred, y_true)


@keras.saving.register_keras_serializable("kyolo")
class CIoULoss(BoxLoss):
    """Complete IoU, `1 - ciou`, in [0, 2.5): YOLOv8's box loss, the one to compare others with."""

    def call(self, y_true, y_pred):
        return 1 - ciou(y_pred, y_true)


@keras.saving.register_keras_serializable("kyolo")
class EIoULoss(BoxLoss):
    """Efficient IoU, `1 - eiou`, in [0, 4): width and height each have a penalty of their own."""

    def call(self, y_true, y_pred):
        return 1 - eiou(y_pred, y_true)


@keras.saving.register_keras_serializable("kyolo")
class FocalEIoULoss(BoxLoss):
    """`IoU^gamma (1 - eiou)`: boxes that overlap well weigh more, and those that do not overlap cost nothing.

    Args:
        gamma: how much more, at least 0. Default 0.5, the paper's.
        **kwargs: see `BoxLoss`.

    Reference:
        Zhang et al., arXiv 2101.08158. No gradient flows through the weight: that of `IoU^0.5` is infinite at 0.
    """

    def __init__(self, gamma=0.5, **kwargs):
        super().__init__(**kwargs)
        self.gamma = check_number("gamma", gamma, minimum=0)

    def call(self, y_true, y_pred):
        weight = ops.stop_gradient(iou(y_pred, y_true) ** self.gamma)
        return weight * (1 - eiou(y_pred, y_true))

    def get_config(self):
        return {**super().get_config(), "gamma": self.gamma}


@keras.saving.register_keras_serializable("kyolo")
class SIoULoss(BoxLoss):
    """SCYLLA IoU, `1 - siou`, in [0, 2.03): distance weighted by the angle between the centres, and shape.

    Args:
        theta: how sharply a difference in shape counts, at least 1; 2 to 6 in the paper. Default 4, the paper's.
        **kwargs: see `BoxLoss`.
    """

    def __init__(self, theta=4.0, **kwargs):
        super().__init__(**kwargs)
        self.theta = check_number("theta", theta, minimum=1)

    def call(self, y_true, y_pred):
        return 1 - siou(y_pred, y_true, theta=self.theta)

    def get_config(self):
        return {**super().get_config(), "theta": self.theta}


@keras.saving.register_keras_serializable("kyolo")
class AlphaIoULoss(BoxLoss):
    """`1 - alpha_iou`: the overlap and the penalties of another loss, each raised to a power.

    Args:
        base: "iou", "giou", "diou" or "ciou". Default "ciou".
        alpha: the power, above 0; above 1, boxes that overlap well weigh more. Default 3, the paper's.
        **kwargs: see `BoxLoss`.
    """

    def __init__(self, base="ciou", alpha=3.0, **kwargs):
        super().__init__(**kwargs)
        self.base = check_choice("base", base, ALPHA_PENALTIES)
        self.alpha = check_number("alpha", alpha, above=0)

    def call(self, y_true, y_pred):
        return 1 - alpha_iou(y_pred, y_true, self.base, self.alpha)

    def get_config(self):
        return {**super().get_config(), "base": self.base, "alpha": self.alpha}


@keras.saving.register_keras_serializable("kyolo")
class MPDIoULoss(BoxLoss):
    """`1 - mpdiou`, in [0, 3] inside the image: distances of the corners, measured by the image's diagonal.

    Args:
        image_size: `(H, W)` of the network's input in pixels. In a configuration it is that of the data.
        **kwargs: see `BoxLoss`.
    """

    def __init__(self, image_size, **kwargs):
        super().__init__(**kwargs)
        self.image_size = check_size("image_size", image_size)

    def call(self, y_true, y_pred):
        return 1 - mpdiou(y_pred, y_true, self.image_size)

    def get_config(self):
        return {**super().get_config(), "image_size": list(self.image_size)}


INNER_BASES = {"iou": iou, "giou": giou, "diou": diou, "ciou": ciou, "eiou": eiou, "siou": siou}


@keras.saving.register_keras_serializable("kyolo")
class InnerIoULoss(BoxLoss):
    """Another loss with the IoU of scaled boxes in the place of its own: `1 - (base - iou + inner_iou)`.

    Args:
        base: "iou", "giou", "diou", "ciou", "eiou" or "siou". Default "ciou".
        ratio: factor of the boxes' sides, above 0; 0.5 to 1.5 in the paper. Default 0.75.
        **kwargs: see `BoxLoss`.
    """

    def __init__(self, base="ciou", ratio=0.75, **kwargs):
        super().__init__(**kwargs)
        self.base = check_choice("base", base, INNER_BASES)
        self.ratio = check_number("ratio", ratio, above=0)

    def call(self, y_true, y_pred):
        penalties = iou(y_pred, y_true) - INNER_BASES[self.base](y_pred, y_true)
        return 1 - inner_iou(y_pred, y_true, self.ratio) + penalties

    def get_config(self):
        return {**super().get_config(), "base": self.base, "ratio": self.ratio}


@keras.saving.register_keras_serializable("kyolo")
class ShapeIoULoss(BoxLoss):
    """`1 - shape_iou`: an error along the shorter side of the target costs more.

    Args:
        scale: how much the target's shape counts, at least 0; grows with the objects of a data set. Default 0: not.
        **kwargs: see `BoxLoss`.
    """

    def __init__(self, scale=0.0, **kwargs):
        super().__init__(**kwargs)
        self.scale = check_number("scale", scale, minimum=0)

    def call(self, y_true, y_pred):
        return 1 - shape_iou(y_pred, y_true, scale=self.scale)

    def get_config(self):
        return {**super().get_config(), "scale": self.scale}
