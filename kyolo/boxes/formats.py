"""Box formats: corners (`xyxy`, kyolo's own), centre and size (`cxcywh`), corner and size (`xywh`, COCO's)."""

from keras import ops


def xyxy_to_cxcywh(boxes):
    """Converts corners to centre and size, `(..., 4)` to `(..., 4)`, in any unit."""
    low, high = ops.split(ops.convert_to_tensor(boxes), 2, axis=-1)
    return ops.concatenate([(low + high) / 2, high - low], axis=-1)


def cxcywh_to_xyxy(boxes):
    """Converts centre and size to corners, `(..., 4)` to `(..., 4)`, in any unit."""
    centre, size = ops.split(ops.convert_to_tensor(boxes), 2, axis=-1)
    return ops.concatenate([centre - size / 2, centre + size / 2], axis=-1)


def xyxy_to_xywh(boxes):
    """Converts corners to COCO's top left corner and size, `(..., 4)` to `(..., 4)`, in any unit."""
    low, high = ops.split(ops.convert_to_tensor(boxes), 2, axis=-1)
    return ops.concatenate([low, high - low], axis=-1)


def xywh_to_xyxy(boxes):
    """Converts COCO's top left corner and size to corners, `(..., 4)` to `(..., 4)`, in any unit."""
    low, size = ops.split(ops.convert_to_tensor(boxes), 2, axis=-1)
    return ops.concatenate([low, low + size], axis=-1)


def clip_boxes(boxes, image_size):
    """Moves corners that lie outside the image onto its edge.

    Args:
        boxes: `(..., 4)` xyxy boxes in pixels.
        image_size: `(height, width)` of the image in pixels.

    Returns:
        `(..., 4)` boxes with x in 0..width and y in 0..height.
    """
    height, width = image_size
    boxes = ops.convert_to_tensor(boxes)
    limit = ops.cast(ops.stack([width, height, width, height]), boxes.dtype)
    return ops.minimum(ops.maximum(boxes, 0), limit)


def box_area(boxes):
    """Area of xyxy boxes, `(..., 4)` to `(...)`; 0 where a side is negative."""
    low, high = ops.split(ops.convert_to_tensor(boxes), 2, axis=-1)
    return ops.prod(ops.maximum(high - low, 0), axis=-1)
