"""Class-aware non-maximum suppression of fixed output size, from ops that TFLite has built in.

One function serves evaluation, prediction and export, so that they cannot disagree.
"""

import math
from dataclasses import dataclass

import tensorflow as tf

MAX_CANDIDATES = 30_000


@dataclass(frozen=True)
class NMSSettings:
    """Thresholds of NMS. The defaults are for looking at images; AP is measured at 0.001 and multi-label.

    Attributes:
        confidence: a detection's score is above it.
        iou: of two boxes of one class that overlap by more than this, the one with the lower score is dropped.
        max_detections: largest number of detections per image.
        multi_label: whether a point may be several classes at once, or only its best one.
    """

    confidence: float = 0.25
    iou: float = 0.7
    max_detections: int = 300
    multi_label: bool = False


def nms(
    boxes: tf.Tensor,
    scores: tf.Tensor,
    *,
    confidence: float,
    iou: float,
    max_detections: int,
    multi_label: bool,
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
    """Keep the best box of every object in one image.

    The same as `batched_nms`, without the batch axis.

    Args:
        boxes: xyxy in 0..1 of the image.
        scores: in 0..1, one a class.
        confidence: a candidate's score must be above it.
        iou: of two boxes of a class that overlap by more than this, the one with the lower score goes.
        max_detections: N, the fixed size of the output.
        multi_label: whether every class of a point is a candidate, or its best class only.

    Input shape:
        boxes (A, 4), scores (A, K); A and K static.

    Returns:
        boxes (N, 4), scores (N,), labels int32 (N,) by falling score, zeros after the last one; num_detections int32.

    Example:
        >>> boxes = [[0.0, 0.0, 0.5, 0.5], [0.0, 0.0, 0.5, 0.4]]
        >>> scores = [[0.9, 0.0], [0.8, 0.0]]
        >>> detections = nms(boxes, scores, confidence=0.1, iou=0.7, max_detections=3, multi_label=False)
        >>> int(detections[3])  # the second box overlaps the first by 0.8
        1
    """
    detections = batched_nms(
        tf.convert_to_tensor(boxes)[None],
        tf.convert_to_tensor(scores)[None],
        confidence=confidence,
        iou=iou,
        max_detections=max_detections,
        multi_label=multi_label,
    )
    return tuple(tensor[0] for tensor in detections)


def batched_nms(
    boxes: tf.Tensor,
    scores: tf.Tensor,
    *,
    confidence: float,
    iou: float,
    max_detections: int,
    multi_label: bool,
    window: tf.Tensor | None = None,
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
    """Keep the best box of every object in each image of a batch.

    Greedy suppression among the boxes of one class: boxes of class c are moved by (2 (c mod m), 2 (c div m)), with
    m = ceil(sqrt(K)), so that those of different classes never touch and one pass over all is one pass for each class.
    Boxes are clipped to 0..1 first, and those without area inside the window are dropped. Of equal scores, the lower
    point and then the lower class comes first. With `multi_label`, at most the 30,000 best (point, class) pairs of an
    image compete.

    With a static batch size the images are unrolled, and a TFLite conversion holds built-in ops only.

    Args:
        boxes: xyxy in 0..1 of the image.
        scores: in 0..1, one a class.
        confidence: a candidate's score must be above it.
        iou: of two boxes of a class that overlap by more than this, the one with the lower score goes.
        max_detections: N, the fixed size of the output.
        multi_label: whether every class of a point is a candidate, or its best class only.
        window: xyxy in 0..1, the part of each input that is image and not padding. Default: all of it.

    Input shape:
        boxes (B, A, 4), scores (B, A, K), window (B, 4); A and K static.

    Returns:
        boxes (B, N, 4), scores (B, N), labels int32 (B, N) by falling score, zeros after the last one;
        num_detections int32 (B,).
    """
    boxes = tf.clip_by_value(tf.convert_to_tensor(boxes), 0.0, 1.0)
    scores = _without_empty_boxes(boxes, tf.convert_to_tensor(scores), window)
    num_classes = scores.shape[-1]
    find_candidates = _all_classes if multi_label else _best_classes
    boxes, scores, labels = find_candidates(*_with_a_point(boxes, scores))  # (B, M, 4), (B, M), (B, M)

    columns = math.ceil(math.sqrt(num_classes))
    shift = tf.cast(2 * tf.stack([labels % columns, labels // columns], axis=-1), boxes.dtype)  # (B, M, 2)
    kept, num_detections = _suppress(
        boxes + tf.tile(shift, [1, 1, 2]), scores, confidence=confidence, iou=iou, max_detections=max_detections
    )  # (B, N), (B,)

    valid = tf.range(max_detections)[None] < num_detections[:, None]  # (B, N)
    return (
        tf.gather(boxes, kept, batch_dims=1) * tf.cast(valid, boxes.dtype)[..., None],
        tf.gather(scores, kept, batch_dims=1) * tf.cast(valid, scores.dtype),
        tf.gather(labels, kept, batch_dims=1) * tf.cast(valid, tf.int32),
        num_detections,
    )


def _without_empty_boxes(boxes: tf.Tensor, scores: tf.Tensor, window: tf.Tensor | None) -> tf.Tensor:
    """Return the scores, 0 for boxes without area in the window: no threshold lets that pass."""
    low, high = boxes[..., :2], boxes[..., 2:]  # no ops of several outputs: int8 conversion does not find them
    if window is not None:
        window = tf.cast(window, boxes.dtype)[:, None]  # (B, 1, 4)
        low, high = tf.maximum(low, window[..., :2]), tf.minimum(high, window[..., 2:])
    has_area = tf.reduce_all(low < high, axis=-1, keepdims=True)  # (B, A, 1)
    return scores * tf.cast(has_area, scores.dtype)


def _with_a_point(boxes: tf.Tensor, scores: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """An image without points gets one that nothing selects: the padding of the output must point at something."""
    if boxes.shape[1] != 0:
        return boxes, scores
    return tf.pad(boxes, [[0, 0], [0, 1], [0, 0]]), tf.pad(scores, [[0, 0], [0, 1], [0, 0]], constant_values=-1.0)


def _all_classes(boxes: tf.Tensor, scores: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    num_points, num_classes = scores.shape[1:]
    pairs = tf.reshape(scores, [-1, num_points * num_classes])  # (B, A K)
    scores, pairs = tf.math.top_k(pairs, k=min(MAX_CANDIDATES, num_points * num_classes))  # (B, M)
    return tf.gather(boxes, pairs // num_classes, batch_dims=1), scores, pairs % num_classes


def _best_classes(boxes: tf.Tensor, scores: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    return boxes, tf.reduce_max(scores, axis=-1), tf.argmax(scores, axis=-1, output_type=tf.int32)


def _suppress(
    boxes: tf.Tensor, scores: tf.Tensor, *, confidence: float, iou: float, max_detections: int
) -> tuple[tf.Tensor, tf.Tensor]:
    """Indices (B, N) of the boxes that greedy suppression keeps, and their number (B,)."""

    def suppress_one(image: tuple[tf.Tensor, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
        # This op, on boxes of rank 2, is the only suppression that TFLite has built in.
        kept = tf.raw_ops.NonMaxSuppressionV4(
            boxes=image[0],
            scores=image[1],
            max_output_size=max_detections,
            iou_threshold=iou,
            score_threshold=confidence,
            pad_to_max_output_size=True,
        )
        return kept.selected_indices, kept.valid_outputs

    if boxes.shape[0] is None:
        signature = (tf.TensorSpec([max_detections], tf.int32), tf.TensorSpec([], tf.int32))
        return tf.map_fn(suppress_one, (boxes, scores), fn_output_signature=signature)
    images = zip(tf.unstack(boxes), tf.unstack(scores), strict=True)
    kept, num_detections = zip(*map(suppress_one, images), strict=True)
    return tf.stack(kept), tf.stack(num_detections)
