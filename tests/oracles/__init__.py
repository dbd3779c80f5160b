"""Second opinions in float64 NumPy: what the formulas say, written to be read and not to be fast.

Nothing here imports kyolo. Tensors are NHWC, kernels (kh, kw, in / groups, out), boxes xyxy, and a quotient with
denominator 0 is 0, the limit of "denominator + epsilon" for every formula below. Shape letters as in the package:
B batch, H W C map, A anchor points, G padded truths, K classes, R bins.
"""

# ruff: noqa: F401
from tests.oracles.boxes import (
    alpha_iou,
    ciou,
    diou,
    eiou,
    giou,
    inner_iou,
    iou,
    mpdiou,
    scaled,
    shape_iou,
    siou,
    siou_asin,
    wiou,
)
from tests.oracles.detection import assign, detection_loss, detection_parts
from tests.oracles.layers import (
    batch_norm,
    c2f,
    cbam,
    channel_shuffle,
    conv,
    conv_bn_act,
    coord_attention,
    eca,
    gam,
    max_pool,
    perceptron,
    se,
    silu,
    simam,
    sppf,
)
from tests.oracles.losses import BOX_LOSSES, CLASSIFICATION_LOSSES, bce, dfl
from tests.oracles.numbers import divide, sigmoid, softmax
from tests.oracles.points import anchor_points, boxes_to_distances, distances_to_boxes, expected_distances
