"""A box loss of one's own, used from a configuration without a change to kyolo.

kyolo train --import examples.custom_box_loss --set 'model.loss.box={kind: nwd, scale: 20}' ...
"""

from keras import ops

import kyolo
from kyolo.errors import ArgumentError


@kyolo.register("box_loss", "nwd")
class NWDLoss(kyolo.losses.BoxLoss):
    """`1 - exp(-distance / scale)`, the distance being that of two boxes taken as Gaussians; made for tiny objects.

    Args:
        scale: pixels after which a distance counts much; about the mean side of the objects. Default 12.8.
        **kwargs: see `kyolo.losses.BoxLoss`.

    Reference:
        Wang et al., A Normalized Gaussian Wasserstein Distance for Tiny Object Detection, arXiv 2110.13389.
    """

    def __init__(self, scale=12.8, **kwargs):
        super().__init__(**kwargs)
        if not scale > 0:
            raise ArgumentError("scale", f"expected a number > 0, got {scale!r}.")
        self.scale = scale

    def call(self, y_true, y_pred):
        difference = kyolo.boxes.xyxy_to_cxcywh(y_pred) - kyolo.boxes.xyxy_to_cxcywh(y_true)
        centre, size = ops.split(difference, 2, axis=-1)
        squared = ops.sum(ops.square(centre) + ops.square(size / 2), axis=-1)
        distance = ops.sqrt(ops.maximum(squared, 1e-9))  # the root has no gradient at 0
        return 1 - ops.exp(-distance / self.scale)

    def get_config(self):
        return {**super().get_config(), "scale": self.scale}
