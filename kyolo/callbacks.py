"""Callbacks for `Detector.fit`."""

import math
from typing import Any

import keras
import tensorflow as tf

from kyolo.evaluation.coco import score
from kyolo.evaluation.detect import NMSSettings, Predictor


class CocoAP(keras.callbacks.Callback):
    """Add val_ap, val_ap50 and val_ap75 to the logs at the end of epochs, measured as `kyolo.evaluate` does.

    Put it before callbacks that read these logs, such as `ModelCheckpoint(monitor="val_ap")`. What is measured has the
    averaged weights, which are also what a callback saves at the end of an epoch. Without any ground truth AP is
    undefined, and the log is NaN.

    Args:
        val: data set to evaluate on, as for `kyolo.evaluate`.
        every: epochs from one evaluation to the next; the last of `epochs` is always evaluated. The logs of epochs
            without an evaluation have no `val_ap`.
        settings: thresholds. Default: those of `kyolo.evaluate`.

    Attributes:
        metrics: everything that `kyolo.evaluate` returns, of the last evaluation; None before.

    Example:
        ```python
        detector.fit(train, epochs=60, callbacks=[kyolo.callbacks.CocoAP(val, every=5)])
        ```
    """

    def __init__(self, val: tf.data.Dataset, *, every: int = 1, settings: NMSSettings | None = None):
        super().__init__()
        self.val = val
        self.every = every
        self.settings = settings or NMSSettings(confidence=0.001, multi_label=True)
        self.metrics: dict[str, Any] | None = None

    def on_train_begin(self, logs: dict | None = None) -> None:  # noqa: ARG002 (Keras' signature)
        """Trace the detector's graph: `fit` may have been given another model."""
        self._predictor = Predictor(self.model, self.settings)

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Evaluate, and add the figures to the logs that later callbacks see."""
        if (epoch + 1) % self.every and epoch + 1 != self.params["epochs"]:
            return
        self.metrics = score(self._predictor, self.val)
        if logs is not None:
            for name in ("ap", "ap50", "ap75"):
                logs[f"val_{name}"] = math.nan if self.metrics[name] is None else self.metrics[name]
