"""Boxes as distances from an anchor point to the four sides: left, top, right, bottom."""

from keras import ops


def boxes_to_distances(boxes, anchor_points):
    """Distances from each point to the sides of its box; negative where the point lies outside.

    Args:
        boxes: `(..., A, 4)` xyxy boxes.
        anchor_points: `(A, 2)` points x, y in the same unit.

    Returns:
        `(..., A, 4)` distances to the left, top, right and bottom side.
    """
    low, high = ops.split(ops.convert_to_tensor(boxes), 2, axis=-1)
    return ops.concatenate([anchor_points - low, high - anchor_points], axis=-1)


def distances_to_boxes(distances, anchor_points):
    """The inverse of `boxes_to_distances`: `(..., A, 4)` distances and `(A, 2)` points to `(..., A, 4)` xyxy boxes."""
    distances = ops.convert_to_tensor(distances)
    # Slices, and no split: TFLite's quantization cannot be kept from an operation of several outputs.
    return ops.concatenate([anchor_points - distances[..., :2], anchor_points + distances[..., 2:]], axis=-1)


def expected_distances(box_logits):
    """Mean of the distribution that the head predicts for each side.

    Args:
        box_logits: `(..., 4, R)` logits over the distances 0, 1, ... R - 1, in strides.

    Returns:
        `(..., 4)` distances in strides, 0 to R - 1.

    Reference:
        Li et al., Generalized Focal Loss, arXiv 2006.04388, equation 4.
    """
    probabilities = ops.softmax(box_logits, axis=-1)
    bins = ops.arange(probabilities.shape[-1], dtype=probabilities.dtype)
    return ops.sum(probabilities * bins, axis=-1)
