"""The detector's loss: assign points to objects, then three named, weighted parts."""

import keras
from keras import ops

from kyolo import registry
from kyolo.assigner import TaskAlignedAssigner
from kyolo.boxes.distances import boxes_to_distances, distances_to_boxes, expected_distances
from kyolo.errors import ArgumentError
from kyolo.losses.dfl import DistributionFocalLoss
from kyolo.losses.iou_losses import BoxLoss
from kyolo.losses.settings import check_number
from kyolo.replicas import sum_over_replicas


@keras.saving.register_keras_serializable("kyolo")
class DetectionLoss:
    """Box, classification and distribution focal loss over the points that the task-aligned assigner chooses.

    Each part is a sum over points, divided by the sum of all target scores (at least 1): classification over all
    points and classes, the other two over the assigned points, weighted by their target score. The loss is the
    weighted sum of the parts, times the number of images, so that gradients sum over images, as in YOLOv8.

    The weight of an image multiplies its terms, its target scores in the divisor, and its share of the number of
    images: weight 2 is the image twice, weight 0 a batch without it.

    Of several replicas each computes its share: target scores and images are summed over all of them, so that the sum
    of their losses, and of their gradients, is that of one replica with the whole batch.

    Args:
        box: name of a box loss, such as "siou", or a `keras.losses.Loss` on `(..., 4)` xyxy boxes in pixels. Default
            "ciou".
        classification: name, such as "varifocal", or a loss on `(..., K)` scores and logits. Default "bce".
        box_weight: weight of the box loss. Default 7.5, YOLOv8's.
        classification_weight: weight of the classification loss. Default 0.5, YOLOv8's.
        dfl_weight: weight of the distribution focal loss. Default 1.5, YOLOv8's.
        assigner: settings of `TaskAlignedAssigner` other than its defaults, such as `{"top_k": 13}`.

    Raises:
        ValueError: for what is neither name nor loss, a name whose loss cannot be built without arguments, a weight
            that is no number of at least 0, or settings that the assigner does not have.

    Example:
        >>> DetectionLoss(box="siou").weights
        {'box': 7.5, 'classification': 0.5, 'dfl': 1.5}
    """

    def __init__(
        self, box="ciou", classification="bce", box_weight=7.5, classification_weight=0.5, dfl_weight=1.5, assigner=None
    ):
        self.box = _by_name("box", box)
        self.classification = _by_name("classification", classification)
        self.dfl = DistributionFocalLoss()
        weights = {"box": box_weight, "classification": classification_weight, "dfl": dfl_weight}
        self.weights = {name: check_number(f"{name}_weight", value, minimum=0) for name, value in weights.items()}
        self.assigner = _checked({} if assigner is None else assigner)

    def build(self, add_weight):
        """Make the variables that the parts need; called by `Detector.compile`, as `BoxLoss.build`."""
        if isinstance(self.box, BoxLoss):
            # Each detector has one of its own, with its own variables. copy.copy would go through Keras' serialisation.
            own = object.__new__(type(self.box))
            vars(own).update(vars(self.box))
            self.box = own
            self.box.build(add_weight)

    def parts(self, y_true, y_pred, anchor_points, strides, training=False, sample_weight=None):
        """Compute the parts, not weighted, in float32.

        Args:
            y_true: dict with `boxes` `(B, G, 4)` xyxy pixels, `labels` and `mask` `(B, G)`, True for real objects.
            y_pred: dict with `box_logits` `(B, A, 4, R)` and `class_logits` `(B, A, K)`.
            anchor_points: `(A, 2)` x, y in pixels.
            strides: `(A,)` stride of each point in pixels.
            training: whether the variables that the parts keep, such as WIoU's mean, are updated.
            sample_weight: `(B,)` weight of each image. Default: 1.

        Returns:
            Dict of scalars `box`, `classification`, `dfl`; of several replicas they are shares, to be summed.
        """
        box_logits = ops.cast(y_pred["box_logits"], "float32")
        class_logits = ops.cast(y_pred["class_logits"], "float32")
        pred_boxes = distances_to_boxes(expected_distances(box_logits) * strides[:, None], anchor_points)
        target = TaskAlignedAssigner(class_logits.shape[-1], **self.assigner)(
            ops.sigmoid(class_logits),
            pred_boxes,
            anchor_points,
            y_true["labels"],
            y_true["boxes"],
            y_true["mask"],
            strides=strides,
        )
        weight = ops.sum(target.target_scores, axis=-1)  # (B, A), 0 for points without an object
        classification = self.classification.call(target.target_scores, class_logits)  # (B, A, K)
        counted = target.fg_mask  # (B, A)
        if sample_weight is not None:
            image_weight = ops.cast(sample_weight, "float32")[:, None]  # (B, 1)
            weight, classification = weight * image_weight, classification * image_weight[..., None]
            counted = counted & (image_weight > 0)
        distances = boxes_to_distances(target.target_boxes, anchor_points) / strides[:, None]
        sums = {
            "box": ops.sum(self.box.call(target.target_boxes, pred_boxes) * weight),
            "classification": ops.sum(classification),
            "dfl": ops.sum(self.dfl.call(distances, box_logits) * weight),
        }
        if training and isinstance(self.box, BoxLoss):
            self.box.update(target.target_boxes, pred_boxes, counted)
        normalizer = ops.maximum(sum_over_replicas(ops.sum(weight)), 1)
        return {name: value / normalizer for name, value in sums.items()}

    def total(self, parts, images=1.0):
        """Return the weighted sum of the parts, times the number of images."""
        return sum(self.weights[name] * value for name, value in parts.items()) * images

    def __call__(self, y_true, y_pred, anchor_points, strides, sample_weight=None):
        """Compute the loss: `total` of `parts`; the arguments are those of `parts`.

        Returns:
            A scalar; of several replicas a share, to be summed.
        """
        parts = self.parts(y_true, y_pred, anchor_points, strides, sample_weight=sample_weight)
        return self.total(parts, count_images(y_pred["class_logits"], sample_weight))

    def get_config(self):
        return {
            "box": keras.losses.serialize(self.box),
            "classification": keras.losses.serialize(self.classification),
            **{f"{name}_weight": weight for name, weight in self.weights.items()},
            "assigner": self.assigner,
        }

    @classmethod
    def from_config(cls, config):
        losses = {name: keras.losses.deserialize(config[name]) for name in ("box", "classification")}
        return cls(**{**config, **losses})


def count_images(batch, sample_weight=None):
    """Count the images of a batch, of all replicas together, each as often as its weight says.

    Args:
        batch: `(B, ...)` tensor.
        sample_weight: `(B,)` weight of each image. Default: 1.
    """
    images = ops.shape(batch)[0] if sample_weight is None else ops.sum(ops.cast(sample_weight, "float32"))
    return sum_over_replicas(ops.cast(images, "float32"))


def _checked(assigner):
    try:
        TaskAlignedAssigner(1, **assigner)
    except TypeError as error:
        problem = f"expected arguments of TaskAlignedAssigner, got {assigner!r} ({error})."
        raise ArgumentError("assigner", problem) from error
    return dict(assigner)


def _by_name(argument, loss):
    if isinstance(loss, keras.losses.Loss):
        return loss
    if not isinstance(loss, str):
        raise ArgumentError(argument, f"expected a name or an instance of keras.losses.Loss, got {loss!r}.")
    try:
        return registry.find(f"{argument}_loss", loss)()
    except ArgumentError as error:
        raise ArgumentError(argument, error.problem) from None
    except TypeError as error:
        problem = f"expected a loss without required arguments, got {loss!r} ({error}). Pass an instance."
        raise ArgumentError(argument, problem) from error
