"""Learning rate over the steps of a training."""

import math

import keras
from keras import ops

from kyolo.errors import ArgumentError


@keras.saving.register_keras_serializable("kyolo")
class WarmupDecay(keras.optimizers.schedules.LearningRateSchedule):
    """Multiply a learning rate by a linear warm-up and by a decline that starts at step 0, as YOLOv8 does.

    `rate(t) = peak * min((t + 1) / warmup_steps, 1) * decline(t)`, where `decline` falls from 1 to `final_fraction`,
    linearly or as half a cosine. The decline has begun when the warm-up ends, so the rate stays below `peak`: with
    300 warm-up steps of 1,000, `peak=0.002` and a linear decline, the largest rate is 0.00141.

    Args:
        peak: learning rate that both factors scale; reached only with `warmup_steps <= 1`, at step 0.
        total_steps: optimizer steps of the whole training.
        warmup_steps: steps of the warm-up. Default 0.
        final_fraction: value of `decline` at `total_steps`. Default 0.01.
        kind: shape of the decline, "linear" or "cosine". Default "linear".

    Raises:
        ArgumentError: unknown `kind`.

    Example:
        >>> rate = WarmupDecay(1.0, total_steps=10, warmup_steps=2, final_fraction=0.0)
        >>> [round(float(rate(step)), 2) for step in (0, 2, 5)]
        [0.5, 0.8, 0.5]
    """

    def __init__(self, peak, total_steps, warmup_steps=0, final_fraction=0.01, kind="linear"):
        if kind not in ("linear", "cosine"):
            raise ArgumentError("kind", f'expected "linear" or "cosine", got {kind!r}.')
        self.peak = peak
        self.total_steps = total_steps
        self.warmup_steps = warmup_steps
        self.final_fraction = final_fraction
        self.kind = kind

    def __call__(self, step):
        step = ops.cast(step, "float32")
        progress = ops.minimum(step / self.total_steps, 1)
        remaining = 1 - progress if self.kind == "linear" else (1 + ops.cos(math.pi * progress)) / 2
        decline = self.final_fraction + (1 - self.final_fraction) * remaining
        rise = ops.minimum((step + 1) / max(self.warmup_steps, 1), 1)
        return self.peak * decline * rise

    def get_config(self):
        return {
            "peak": self.peak,
            "total_steps": self.total_steps,
            "warmup_steps": self.warmup_steps,
            "final_fraction": self.final_fraction,
            "kind": self.kind,
        }
