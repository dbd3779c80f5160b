"""The detector: backbone, top, neck and head, trained by `fit`."""

import functools
import inspect
from dataclasses import asdict

import keras
from keras import ops

from kyolo.boxes.anchor_points import make_anchor_points
from kyolo.boxes.distances import distances_to_boxes, expected_distances
from kyolo.boxes.nms import NMSSettings, batched_nms
from kyolo.models.layer_paths import PARTS, layers_by_path, select_layers
from kyolo.models.trainer import DetectorTrainer

FITS = ("letterbox", "stretch")


@keras.saving.register_keras_serializable("kyolo")
class Detector(DetectorTrainer):
    """A YOLOv8-type detector. `kyolo.build_detector` and `kyolo.YOLOv8` put one together.

    It is a `keras.Model`: `fit`, `evaluate`, `predict`, `save` and callbacks work as in Keras. With a moving average
    (`compile(ema_decay=...)`) the detector's variables hold the averaged weights at the end of each epoch and
    after `fit`: what is evaluated is what is saved.

    Args:
        backbone: `keras.Model` from RGB images to a dict of maps by level name.
        top: `PyramidTop`: attention, SPPF and the levels above the backbone's.
        neck: layer from the list of maps to a list of maps of the same sizes, with the head's channels.
        head: `DetectionHead`.
        image_size: size of the network's input in pixels, one number or `(height, width)`. Default 640.
        image_fit: how images are brought to that size: "letterbox" keeps the aspect ratio and pads, "stretch" does not.
            Default "letterbox".
        class_names: name of each class. Default: "0", "1", ...
        nms: `NMSSettings` of `predict` and `detect`, or a dict of them. Default `NMSSettings()`.
        frozen: names of layers that do not learn, as `freeze` takes them. Default none.

    Input shape:
        RGB images `(B, H, W, 3)`, uint8 or float in 0..255; H and W divisible by the largest stride.

    Output shape:
        Dict of float32 `box_logits` `(B, A, 4, R)` and `class_logits` `(B, A, K)`; `decode` turns it into boxes.

    Example:
        >>> detector = kyolo.YOLOv8("n", class_names=["cell"], image_size=64)
        >>> detector(np.zeros((1, 64, 64, 3)))["class_logits"].shape  # 8 x 8 + 4 x 4 + 2 x 2 points, one class
        TensorShape([1, 84, 1])
    """

    def __init__(  # noqa: PLR0913 (the parts, and what the detector knows of its input)
        self,
        backbone,
        top,
        neck,
        head,
        image_size=640,
        image_fit="letterbox",
        class_names=None,
        nms=None,
        frozen=(),
        name="detector",
        **kwargs,
    ):
        super().__init__(name=name, **kwargs)
        self.backbone = backbone
        self.top = top
        self.neck = neck
        self.head = head
        # Built here and not inside a call: the paths of the variables then do not begin with the detector's own name.
        for part, levels in ((self.top, self.top.levels), (self.neck, self.top.levels), (self.head, self.levels)):
            if not part.built:
                part.build([(None, None, None, level.channels) for level in levels])
        self.built = True
        self.image_size = _checked_size(image_size, self.strides[-1])
        if image_fit not in FITS:
            raise ValueError(f"image_fit: expected one of {', '.join(FITS)}, got {image_fit!r}.")
        self.image_fit = image_fit
        self.class_names = _checked_names(class_names, self.num_classes)
        self.nms = NMSSettings(**nms) if isinstance(nms, dict) else nms or NMSSettings()
        self._predictors = {}
        for layers in frozen:
            self.freeze(layers)

    @property
    def levels(self):
        """`LevelSpec` of each level, finest first."""
        return tuple(self.head.levels)

    @property
    def strides(self):
        """Stride of each level in pixels, smallest first."""
        return tuple(level.stride for level in self.levels)

    @property
    def num_classes(self):
        """Number of classes K."""
        return self.head.num_classes

    def call(self, images, training=None):
        _check_input(images.shape, self.strides[-1])
        maps = self.backbone(images, training=training)
        for part in (self.top, self.neck, self.head):
            maps = part(maps, training=training)
        return maps

    def decode(self, outputs, image_size):
        """Turn logits into boxes and scores.

        Args:
            outputs: what `call` returns.
            image_size: `(height, width)` of the network's input in pixels.

        Returns:
            `(B, A, 4)` xyxy boxes in pixels of the network's input, not clipped to it, and `(B, A, K)` scores in 0..1.
        """
        points, strides = make_anchor_points(image_size, self.strides)
        distances = expected_distances(outputs["box_logits"]) * strides[:, None]
        return distances_to_boxes(distances, points), ops.sigmoid(outputs["class_logits"])

    def freeze(self, name):
        """Freeze layers: weights and batch-norm statistics stay fixed. Call `compile` again afterwards.

        Args:
            name: a part ("backbone"), a layer ("head/P4_box_1"), a layer without what it is in ("sppf"), or where no
                layer has that name, how the names of several begin ("backbone/stack1").

        Raises:
            ValueError: the name means no layer.
        """
        self.compiled = False  # Keras asks for `compile` before `fit`: the optimizer has other variables then.
        for layer in select_layers(self, name).values():
            layer.trainable = False

    @property
    def frozen(self):
        """Paths of the layers that do not learn, by `freeze` or by their `trainable`."""
        return [path for path, layer in layers_by_path(self).items() if not layer.trainable]

    def predict_step(self, data):
        """Detect in network inputs: dict of `boxes` `(B, N, 4)` in their pixels, `scores`, `labels`, `num_detections`.

        See `kyolo.boxes.nms.batched_nms`; N is `nms.max_detections`. `detect` takes images of any size.
        """
        images, _, _ = keras.utils.unpack_x_y_sample_weight(data)
        height, width = images.shape[1:3]
        boxes, scores = self.decode(self(images, training=False), image_size=(height, width))
        sides = ops.array([width, height, width, height], "float32")
        boxes, scores, labels, count = batched_nms(boxes / sides, scores, **asdict(self.nms))
        return {"boxes": boxes * sides, "scores": scores, "labels": labels, "num_detections": count}

    def detect(self, images, batch_size=16, **settings):
        """Detect objects in images of any size.

        Args:
            images: an image file, an array `(H, W, 3)` uint8 RGB, or a list of these; of an array `(B, H, W, 3)` each.
            batch_size: images that run together. Default 16.
            **settings: `confidence`, `iou`, `max_detections`, `multi_label`. Default: those of `nms`.

        Returns:
            Dict of `boxes` `(n, 4)` xyxy pixels of the image, `scores` `(n,)`, `labels` `(n,)` and `names`, by falling
            score; a list of such dicts for several images.

        Raises:
            InputError: a file is no image.

        Example:
            >>> detector = kyolo.YOLOv8("n", class_names=["cell"], image_size=64)
            >>> detector.detect(np.zeros((48, 100, 3), "uint8"), confidence=0.5)["boxes"].shape
            (0, 4)
        """
        from kyolo.evaluation.predict import detect_images

        return detect_images(self, images, batch_size=batch_size, **settings)

    def predictor(self, settings):
        """Return the `kyolo.evaluation.Predictor` of some `NMSSettings`; it is traced once and kept."""
        from kyolo.evaluation.detect import Predictor

        if settings not in self._predictors:
            self._predictors[settings] = Predictor(self, settings)
        return self._predictors[settings]

    @functools.wraps(keras.Model.summary)
    def summary(self, *args, **kwargs):
        self.call(keras.Input((*self.image_size, 3)))  # Keras shows the shapes of layers that were called
        return super().summary(*args, **kwargs)

    @functools.wraps(keras.Model.export)
    def export(self, filepath, *args, **kwargs):
        call = inspect.signature(keras.Model.export).bind(self, filepath, *args, **kwargs)
        if call.arguments.get("input_signature") is None:
            spec = keras.InputSpec(shape=(None, *self.image_size, 3), dtype="float32", name="images")
            call.arguments["input_signature"] = [spec]
        with self.ema_weights():
            return super().export(*call.args[1:], **call.kwargs)

    def get_config(self):
        return {
            "name": self.name,
            "trainable": self.trainable,
            "image_size": list(self.image_size),
            "image_fit": self.image_fit,
            "class_names": list(self.class_names),
            "nms": asdict(self.nms),
            "frozen": self.frozen,
            **{part: keras.saving.serialize_keras_object(getattr(self, part)) for part in PARTS},
        }

    @classmethod
    def from_config(cls, config):
        parts = {part: keras.saving.deserialize_keras_object(config[part]) for part in PARTS}
        return cls(**{**config, **parts})


def _check_input(shape, stride):
    """Raise ValueError for images that the levels cannot halve evenly."""
    if len(shape) != 4 or shape[-1] != 3:
        raise ValueError(f"images: expected shape (B, H, W, 3), got {tuple(shape)}.")
    size = tuple(shape[1:3])
    if any(side is not None and (side == 0 or side % stride) for side in size):
        raise ValueError(f"images: expected H and W divisible by {stride}, got {size}. Use detect for any size.")


def _checked_size(image_size, stride):
    size = (image_size, image_size) if isinstance(image_size, int) else tuple(image_size)
    if len(size) != 2 or not all(isinstance(side, int) and side > 0 and side % stride == 0 for side in size):
        raise ValueError(f"image_size: expected one side or (H, W), divisible by {stride}, got {image_size!r}.")
    return size


def _checked_names(class_names, count):
    names = tuple(map(str, range(count))) if class_names is None else tuple(class_names)
    if isinstance(class_names, str) or len(names) != count or not all(isinstance(name, str) for name in names):
        raise ValueError(f"class_names: expected {count} names, one per class, got {class_names!r}.")
    return names
