"""The detector: backbone, top, neck and head, trained by `fit`."""

import contextlib
import copy

import keras
from keras import ops

from kyolo.boxes.anchor_points import make_anchor_points
from kyolo.boxes.distances import distances_to_boxes, expected_distances
from kyolo.losses.detection import DetectionLoss
from kyolo.models.ema import ExponentialMovingAverage
from kyolo.models.layer_paths import PARTS, select_layers
from kyolo.replicas import count_replicas, on_several_machines, sum_gradients_first, sum_over_replicas


@keras.saving.register_keras_serializable("kyolo")
class Detector(keras.Model):
    """A YOLOv8-type detector. `kyolo.build_detector` puts one together from a configuration.

    Args:
        backbone: `keras.Model` from RGB images to a dict of maps by level name.
        top: `PyramidTop`: attention, SPPF and the levels above the backbone's.
        neck: layer from the list of maps to a list of maps of the same sizes, with the head's channels.
        head: `DetectionHead`.
        frozen: names of layers that do not learn, as `freeze` takes them. Default none.

    Input shape:
        RGB images `(B, H, W, 3)`, uint8 or float in 0..255; H and W divisible by the largest stride.

    Output shape:
        Dict of float32 `box_logits` `(B, A, 4, R)` and `class_logits` `(B, A, K)`; `decode` turns it into boxes.

    Example:
        >>> detector = build_detector(ModelConfig(num_classes=3))
        >>> detector.compile(optimizer=keras.optimizers.AdamW(1e-3), ema_decay=0.9999)
        >>> detector.fit(make_dataset("path/to/set", "train"), epochs=60)
    """

    def __init__(self, backbone, top, neck, head, frozen=(), name="detector", **kwargs):
        super().__init__(name=name, **kwargs)
        self.backbone = backbone
        self.top = top
        self.neck = neck
        self.head = head
        self.ema = None
        self._loss_weights = []
        # Built here and not inside a call: the paths of the variables then do not begin with the detector's own name.
        for part, levels in ((self.top, self.top.levels), (self.neck, self.top.levels), (self.head, self.levels)):
            if not part.built:
                part.build([(None, None, None, level.channels) for level in levels])
        self.built = True
        self.frozen = []
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

    @property
    def loss_variables(self):
        """Those of `variables` that the loss keeps, such as WIoU's mean; none of them predicts anything."""
        return [getattr(self, name) for name in self._loss_weights]

    def call(self, images, training=None):
        maps = self.backbone(images, training=training)
        for part in (self.top, self.neck, self.head):
            maps = part(maps, training=training)
        return maps

    def decode(self, outputs, image_size):
        """Turns logits into boxes and scores.

        Args:
            outputs: what `call` returns.
            image_size: `(height, width)` of the network's input in pixels.

        Returns:
            `(B, A, 4)` xyxy boxes in pixels of the network's input, not clipped to it, and `(B, A, K)` scores in 0..1.
        """
        points, strides = make_anchor_points(image_size, self.strides)
        distances = expected_distances(outputs["box_logits"]) * strides[:, None]
        return distances_to_boxes(distances, points), ops.sigmoid(outputs["class_logits"])

    def compile(self, optimizer="adamw", loss=None, *, ema_decay=None, jit_compile=False, **kwargs):
        """Prepares for `fit`.

        Args:
            optimizer: a Keras optimizer or its name. Default "adamw".
            loss: a `DetectionLoss`. Default `DetectionLoss()`.
            ema_decay: decay of the moving average of weights that `ema_weights` gives; None for none. Default None.
                `save` writes the weights as they are: call it in a `with detector.ema_weights()` to keep the average.
            jit_compile: whether the training step is compiled by XLA. Default False.
            **kwargs: other arguments of `keras.Model.compile`.

        Raises:
            ValueError: `loss` is another's, such as a box loss alone.
        """
        if not isinstance(loss, DetectionLoss | None):
            raise ValueError(f"loss: expected a DetectionLoss, such as DetectionLoss(box='siou'), received {loss!r}")
        super().compile(optimizer=optimizer, jit_compile=jit_compile, **kwargs)
        self.optimizer.build(self.trainable_variables)  # else the first step would be traced twice
        if self.distribute_strategy.num_replicas_in_sync > 1:
            sum_gradients_first(self.optimizer)
        for name in self._loss_weights:  # of the loss before, if any
            delattr(self, name)
        self._loss_weights = []
        averaged = self.variables  # the loss' own are no part of what predicts
        self.detection_loss = DetectionLoss() if loss is None else copy.copy(loss)
        self.detection_loss.build(self._add_loss_weight)
        self.part_means = {name: keras.metrics.Mean(name=name) for name in self.detection_loss.weights}
        self.ema = None if ema_decay is None else ExponentialMovingAverage(averaged, ema_decay)
        self._compile_arguments = {"ema_decay": ema_decay, "jit_compile": jit_compile}

    def _add_loss_weight(self, **kwargs):
        # Every replica assigns the same value: losses sum over replicas what they keep.
        variable = self.add_weight(trainable=False, aggregation="only_first_replica", **kwargs)
        # An attribute's name of our own: the variable's is the loss' choice, and may be that of a part.
        self._loss_weights.append(f"_loss_weight_{len(self._loss_weights)}")
        setattr(self, self._loss_weights[-1], variable)
        return variable

    def save_own_variables(self, store):
        for variable in self.loss_variables:
            store[variable.name] = ops.convert_to_numpy(variable)

    def load_own_variables(self, store):
        # A file may be of a detector with another loss or none: what predicts is the same.
        for variable in self.loss_variables:
            if variable.name in store:
                variable.assign(store[variable.name])

    def freeze(self, name):
        """Takes layers out of training, from the next `compile` on: they keep weights, and batch norms statistics.

        Args:
            name: a part ("backbone"), a layer ("head/P4_box_1"), one without what it is in ("sppf"), or where there is
                none of that name, how the names of several begin ("backbone/stack1").

        Raises:
            ValueError: the name means no layer.
        """
        self.compiled = False  # What it was compiled with does not know: Keras asks for `compile` before `fit`.
        for layer in select_layers(self, name).values():
            layer.trainable = False
        self.frozen.append(name)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        points, strides = make_anchor_points(ops.shape(x)[1:3], self.strides)
        parts = self.detection_loss.parts(y, y_pred, points, strides, training=training)
        loss = self.detection_loss.total(parts, ops.shape(x)[0])
        whole = sum_over_replicas(parts)
        for name, value in whole.items():
            self.part_means[name].update_state(value)
        if count_replicas() == 1:
            return loss
        # Keras logs this value times the number of replicas: all log the loss of the whole batch. The gradient is that
        # of the share.
        mean = self.detection_loss.total(whole, ops.shape(x)[0]) / count_replicas()
        return loss + ops.stop_gradient(mean - loss)

    def train_step(self, data):
        logs = super().train_step(data)
        if self.ema is not None:
            self.ema.update(self.optimizer.iterations)
        if on_several_machines():  # Keras takes the mean over the machines along the first axis
            logs = {name: ops.reshape(value, (1,)) for name, value in logs.items()}
        return logs

    def _maybe_symbolic_build(self, iterator=None, data_batch=None):
        """Does nothing: all is built. Keras would ask for a batch, and fails where that comes from several machines."""

    def fit(self, x=None, *, steps_per_epoch=None, shuffle=False, **kwargs):
        """Trains as `keras.Model.fit` does; an endless dataset of kyolo's brings its own `steps_per_epoch`."""
        if steps_per_epoch is None:
            steps_per_epoch = getattr(x, "steps_per_epoch", None)
        return super().fit(x, steps_per_epoch=steps_per_epoch, shuffle=shuffle, **kwargs)

    def ema_weights(self):
        """A `with` block in which the averaged weights are the model's; without an average it changes nothing."""
        return contextlib.nullcontext() if self.ema is None else self.ema.swapped_in()

    def get_config(self):
        return {
            "name": self.name,
            "frozen": list(self.frozen),
            **{part: keras.saving.serialize_keras_object(getattr(self, part)) for part in PARTS},
        }

    @classmethod
    def from_config(cls, config):
        parts = {part: keras.saving.deserialize_keras_object(config[part]) for part in PARTS}
        return cls(**{**config, **parts})

    def get_compile_config(self):
        if not self.compiled:
            return None
        return {
            "optimizer": keras.saving.serialize_keras_object(self.optimizer),
            "loss": keras.saving.serialize_keras_object(self.detection_loss),
            **self._compile_arguments,
        }

    def compile_from_config(self, config):
        objects = {name: keras.saving.deserialize_keras_object(config[name]) for name in ("optimizer", "loss")}
        self.compile(**{**config, **objects})
