"""How a detector is trained by Keras' `fit`: its loss, its moving average, what is saved of both."""

import contextlib
import copy
import functools
import inspect

import keras
from keras import ops

from kyolo._compat import BuiltModel
from kyolo.boxes.anchor_points import make_anchor_points
from kyolo.fit_progress import FitProgress, fitting
from kyolo.losses.detection import DetectionLoss, count_images
from kyolo.models.ema import ExponentialMovingAverage
from kyolo.replicas import count_replicas, on_several_machines, sum_gradients_first, sum_over_replicas

REFUSED = {  # arguments of `keras.Model.compile` that a detector cannot honour, and what to use
    "loss_weights": "Set the weights in the loss: DetectionLoss(box_weight=..., dfl_weight=...).",
    "metrics": "Add the callback kyolo.callbacks.CocoAP(val) to fit.",
    "weighted_metrics": "Add the callback kyolo.callbacks.CocoAP(val) to fit.",
}
FIT_ARGUMENTS = inspect.signature(keras.Model.fit)


class DetectorTrainer(BuiltModel):
    """The training half of `Detector`.

    With a moving average the model's variables hold the averaged weights at the end of each epoch, after `fit`, and in
    evaluation, prediction, saving and export. Training steps swap the trained weights in. Between these steps and after
    `train_on_batch` the variables hold the trained weights.
    """

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.ema = None
        self.part_means = None
        self._loss_weights = []

    @property
    def loss_variables(self):
        """Those of `variables` that the loss keeps, such as WIoU's mean; the forward pass does not read them."""
        return [getattr(self, name) for name in self._loss_weights]

    def compile(  # noqa: PLR0913 (Keras' arguments, in Keras' order)
        self,
        optimizer="adamw",
        loss=None,
        loss_weights=None,
        metrics=None,
        weighted_metrics=None,
        run_eagerly=False,
        steps_per_execution=1,
        jit_compile=False,
        auto_scale_loss=True,
        *,
        ema_decay=None,
    ):
        """Prepare for `fit`.

        Args:
            optimizer: a Keras optimizer or its name. Default "adamw".
            loss: a `DetectionLoss`. Default `DetectionLoss()`.
            loss_weights: must be None; the weights of the parts are arguments of `DetectionLoss`.
            metrics: must be None; AP comes from the callback `kyolo.callbacks.CocoAP`.
            weighted_metrics: must be None, as `metrics`.
            run_eagerly: as in Keras. Default False.
            steps_per_execution: as in Keras. Default 1.
            jit_compile: whether the training step is compiled by XLA. Default False.
            auto_scale_loss: as in Keras. Default True.
            ema_decay: decay of the moving average of the weights; None for none. Default None.

        Raises:
            ValueError: `loss` is no `DetectionLoss`, or an argument is given that must be None.
        """
        for name, value in (
            ("loss_weights", loss_weights),
            ("metrics", metrics),
            ("weighted_metrics", weighted_metrics),
        ):
            if value is not None:
                raise ValueError(f"{name}: expected None, got {value!r}. {REFUSED[name]}")
        if not isinstance(loss, DetectionLoss | None):
            raise ValueError(f"loss: expected a DetectionLoss, such as DetectionLoss(box='siou'), got {loss!r}.")
        arguments = {
            "run_eagerly": run_eagerly,
            "steps_per_execution": steps_per_execution,
            "jit_compile": jit_compile,
            "auto_scale_loss": auto_scale_loss,
        }
        super().compile(optimizer=optimizer, **arguments)
        self.optimizer.build(self.trainable_variables)  # else the first step would be traced twice
        if self.distribute_strategy.num_replicas_in_sync > 1:
            sum_gradients_first(self.optimizer)
        for name in self._loss_weights:  # of the loss before, if any
            delattr(self, name)
        self._loss_weights = []
        averaged = self.variables  # without the loss' own, which predict nothing
        self.loss = DetectionLoss() if loss is None else copy.copy(loss)
        self.loss.build(self._add_loss_weight)
        if self.part_means is None:  # Keras keeps tracking those of an earlier `compile`
            self.part_means = {name: keras.metrics.Mean(name=name) for name in self.loss.weights}
        self.ema = None if ema_decay is None else ExponentialMovingAverage(averaged, ema_decay)
        self._compile_arguments = {**arguments, "ema_decay": ema_decay}

    def _add_loss_weight(self, **kwargs):
        # Every replica assigns the same value: losses sum over replicas what they keep.
        variable = self.add_weight(trainable=False, aggregation="only_first_replica", **kwargs)
        # An attribute's name of our own: the variable's is the loss' choice, and may be that of a part.
        self._loss_weights.append(f"_loss_weight_{len(self._loss_weights)}")
        setattr(self, self._loss_weights[-1], variable)
        return variable

    def save_own_variables(self, store):
        if self.ema is not None:
            self.ema.swap_in()  # before Keras saves the layers: a file holds the averages as the detector's weights
            self.ema.save(store)
        for variable in self.loss_variables:
            store[variable.name] = ops.convert_to_numpy(variable)

    def load_own_variables(self, store):
        if self.ema is not None:
            self.ema.load(store)
        # A file may be of a detector with another loss or none: what predicts is the same.
        for variable in self.loss_variables:
            if variable.name in store:
                variable.assign(store[variable.name])

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        """Compute the loss of a batch, a mean over images whose gradient is a sum over images.

        Args:
            x: images `(B, H, W, 3)`.
            y: dict with `boxes`, `labels` and `mask`, as for `DetectionLoss.parts`.
            y_pred: what `call` returns. Losses that layers add (regularizers, `add_loss`) count as well.
            sample_weight: `(B,)` or `(B, 1)` weight of each image. Default: 1.
            training: whether the variables of the loss are updated.

        Returns:
            A scalar. Of several replicas it is the loss of the whole batch divided by their number, which Keras
            multiplies it by when it logs it; the gradient is that of the replica's share.
        """
        weight = _image_weights(sample_weight, y)
        points, strides = make_anchor_points(ops.shape(x)[1:3], self.strides)
        parts = self.loss.parts(y, y_pred, points, strides, training=training, sample_weight=weight)
        whole, images = sum_over_replicas(parts), count_images(x)
        for name, value in whole.items():
            self.part_means[name].update_state(value, sample_weight=images)
        added = sum(self.losses) / count_replicas()
        share = self.loss.total(parts) + added
        loss = _scale_gradient(share, images if weight is None else count_images(x, weight))
        if count_replicas() == 1:
            return loss
        return loss + ops.stop_gradient(self.loss.total(whole) / count_replicas() + added - share)

    @functools.wraps(keras.Model.fit)
    def fit(self, *args, **kwargs):
        call = FIT_ARGUMENTS.bind(self, *args, **kwargs)
        if hasattr(call.arguments.get("x"), "element_spec"):
            call.arguments.setdefault("shuffle", False)  # Keras warns that its default does not apply to a dataset
        call.apply_defaults()
        given = call.arguments
        _refuse_class_weight(given["class_weight"])
        _refuse_weights_per_target(given["sample_weight"])
        progress = FitProgress(given["epochs"], given["initial_epoch"], given["steps_per_epoch"])
        callbacks = given["callbacks"]
        if isinstance(callbacks, keras.callbacks.CallbackList):
            given["callbacks"] = keras.callbacks.CallbackList(
                [_EpochEnds(progress), *callbacks.callbacks], add_history=True, model=self, **callbacks.params
            )
        else:
            given["callbacks"] = [_EpochEnds(progress), *_as_list(callbacks)]
        try:
            with fitting(progress):
                return super().fit(*call.args[1:], **call.kwargs)
        finally:
            if self.ema is not None:
                self.ema.swap_in()

    @functools.wraps(keras.Model.train_on_batch)
    def train_on_batch(self, x, y=None, sample_weight=None, class_weight=None, return_dict=False):
        _refuse_class_weight(class_weight)
        _refuse_weights_per_target(sample_weight)
        return super().train_on_batch(x, y, sample_weight, return_dict=return_dict)

    def train_step(self, data):
        logs = super().train_step(data)
        if self.ema is not None:
            self.ema.update(self.optimizer.iterations)
        if on_several_machines():  # Keras takes the mean over the machines along the first axis
            logs = {name: ops.reshape(value, (1,)) for name, value in logs.items()}
        return logs

    def make_train_function(self, force=False):
        return self._make("train_function", super().make_train_function, "swap_out", force)

    def make_test_function(self, force=False):
        return self._make("test_function", super().make_test_function, "swap_in", force)

    def make_predict_function(self, force=False):
        return self._make("predict_function", super().make_predict_function, "swap_in", force)

    def _make(self, name, make, swap, force):
        """Let Keras make a function, unless it has, and swap the averages before each call of it."""
        if getattr(self, name) is None or force:
            make(force)
            setattr(self, name, self._on_weights(swap, getattr(self, name)))
        return getattr(self, name)

    def _on_weights(self, swap, function):
        """Return a function that first swaps the averages in or out, if there are any."""

        def run(iterator):
            if self.ema is not None:
                getattr(self.ema, swap)()
            return function(iterator)

        return run

    def ema_weights(self):
        """Return a `with` block in which the averages are the detector's weights; without an average: no change."""
        return contextlib.nullcontext() if self.ema is None else self.ema.swapped_in()

    def get_compile_config(self):
        if not self.compiled:
            return None
        return {
            "optimizer": keras.saving.serialize_keras_object(self.optimizer),
            "loss": keras.saving.serialize_keras_object(self.loss),
            **self._compile_arguments,
        }

    def compile_from_config(self, config):
        objects = {name: keras.saving.deserialize_keras_object(config[name]) for name in ("optimizer", "loss")}
        self.compile(**{**config, **objects})


@ops.custom_gradient
def _scale_gradient(x, factor):
    """Return `x`, a scalar whose gradient is multiplied by `factor`."""

    def gradient(*args, upstream=None):
        upstream = args[0] if upstream is None else upstream
        return upstream * factor, ops.zeros_like(factor)

    return x, gradient


class _EpochEnds(keras.callbacks.Callback):
    """Swap the averages in before any other callback sees the end of an epoch, and count the epochs."""

    def __init__(self, progress):
        super().__init__()
        self.progress = progress

    def on_train_begin(self, logs=None):
        self.progress.num_batches, self.begun = self.params.get("steps"), False

    def on_epoch_begin(self, epoch, logs=None):
        if not self.begun:  # not always the `initial_epoch` of `fit`: BackupAndRestore continues at another
            self.progress.initial_epoch, self.begun = epoch, True
        self.progress.epoch = epoch

    def on_epoch_end(self, epoch, logs=None):
        if self.model.ema is not None:
            self.model.ema.swap_in()


def _as_list(callbacks):
    if callbacks is None:
        return []
    return list(callbacks) if isinstance(callbacks, list | tuple) else [callbacks]


def _refuse_class_weight(class_weight):
    if class_weight is not None:
        raise ValueError(
            f"class_weight: expected None, got {class_weight!r}. Oversample images of rare classes with "
            f"make_dataset(repeat_threshold=...), or weigh images with sample_weight."
        )


def _refuse_weights_per_target(sample_weight):
    if isinstance(sample_weight, dict):
        raise ValueError(
            f"sample_weight: expected one weight per image, shape (B,), got a dict: {list(sample_weight)}."
        )


def _image_weights(sample_weight, y):
    """Return `(B,)` weights of the images, or None."""
    if isinstance(sample_weight, dict) and sample_weight.keys() == y.keys():
        sample_weight = sample_weight["boxes"]  # Keras copies the weights of arrays to each part of the targets
    if sample_weight is None:
        return None
    shape = getattr(sample_weight, "shape", None)
    if shape is None or len(shape) not in (1, 2) or (len(shape) == 2 and shape[1] != 1):
        raise ValueError(f"sample_weight: expected one weight per image, shape (B,), got {shape or sample_weight}.")
    return sample_weight if len(shape) == 1 else sample_weight[:, 0]
