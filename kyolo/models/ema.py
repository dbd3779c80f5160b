"""Moving average of a model's weights and batch-norm statistics."""

import contextlib

import keras
from keras import ops

from kyolo.models.initialize import is_random_state
from kyolo.replicas import local_copies


class ExponentialMovingAverage:
    """Averages all variables of a model over the optimizer's steps.

    After step n: `average += (1 - d) (value - average)` with `d = min(decay, (1 + n) / (10 + n))`. The average thus
    spans about the last tenth of the training so far, however short it is, until `decay` takes over: the ramp of a
    fixed 2000 steps that YOLOv8 has averages next to nothing in a run of a thousand steps.

    Args:
        variables: the model's variables, batch-norm statistics included. Whole numbers, as counts, are not averaged.
        decay: d after many steps, 0..1.

    Reference:
        Polyak and Juditsky, 1992; the ramp is that of `tf.train.ExponentialMovingAverage` with `num_updates`.
    """

    def __init__(self, variables, decay):
        self.decay = decay
        self.sources = [variable for variable in variables if variable.dtype.startswith(("float", "bfloat"))]
        kept = {variable.path for variable in self.sources}
        self.counts = [each for each in variables if each.path not in kept and not is_random_state(each)]
        self.averages = [
            keras.Variable(ops.convert_to_numpy(source.value), dtype="float32", trainable=False, name=source.name)
            for source in self.sources
        ]
        self.step = keras.Variable(0, dtype="int64", trainable=False, name="ema_step")

    def update(self, iterations):
        """Moves the averages, unless the optimizer is still at the same step (it accumulates gradients).

        Args:
            iterations: steps that the optimizer has made.
        """
        iterations, last = ops.cast(iterations, "int64"), ops.convert_to_tensor(self.step)
        steps = ops.cast(iterations, "float32")
        rate = 1 - ops.minimum(self.decay, (1 + steps) / (10 + steps))
        rate = ops.where(last == 0, 1.0, rate)  # the first weights stand for all before them
        rate = ops.where(iterations > last, rate, 0.0)
        self.step.assign(iterations)
        for average, source in zip(self.averages, self.sources, strict=True):
            average.assign_add(rate * (ops.cast(source, "float32") - average))

    def named_variables(self):
        """`(path, average)` of each averaged variable, and counts as they are; the path is the variable's."""
        averaged = [(source.path, average) for source, average in zip(self.sources, self.averages, strict=True)]
        return averaged + [(count.path, count) for count in self.counts]

    @contextlib.contextmanager
    def swapped_in(self):
        """Puts the averages, once there are any, in the place of the model's weights for the time of a `with` block."""
        if int(local_copies(self.step)[0]) == 0:
            yield
            return
        kept = [ops.copy(local_copies(source)[0]) for source in self.sources]
        for average, source in zip(self.averages, self.sources, strict=True):
            source.assign(local_copies(average)[0])
        try:
            yield
        finally:
            for value, source in zip(kept, self.sources, strict=True):
                source.assign(value)
