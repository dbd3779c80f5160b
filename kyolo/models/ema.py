"""Moving average of a model's weights and batch-norm statistics."""

import contextlib

import keras
from keras import ops

from kyolo.models.initialize import is_random_state
from kyolo.replicas import local_copies


class ExponentialMovingAverage:
    """Average all variables of a model over the optimizer's steps.

    After step n: `average += (1 - d) (value - average)` with `d = min(decay, (1 + n) / (10 + n))`. The average spans
    about the last tenth of the training so far until `decay` takes over. YOLOv8's ramp of 2,000 steps has barely
    started averaging after 1,000 steps.

    While the averages are swapped in, the model's variables hold them and the trained values are kept here. A variable
    that is assigned meanwhile, by `load_weights` for example, keeps the assigned value on both sides.

    Args:
        variables: the model's variables, batch-norm statistics included. Integers, such as counts, are not averaged.
        decay: d after many steps, 0..1.

    Attributes:
        averages: float32 average of each source.
        step: optimizer step of the last update.

    Reference:
        Polyak and Juditsky, 1992; the ramp of `tf.train.ExponentialMovingAverage` with `num_updates`.
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
        self._trained = None  # values of the sources while the averages are swapped in

    def update(self, iterations):
        """Update the averages, unless the optimizer is still at the same step (it accumulates gradients).

        Args:
            iterations: steps that the optimizer has made.
        """
        iterations, last = ops.cast(iterations, "int64"), ops.convert_to_tensor(self.step)
        steps = ops.cast(iterations, "float32")
        rate = 1 - ops.minimum(self.decay, (1 + steps) / (10 + steps))
        rate = ops.where(last == 0, 1.0, rate)  # the first weights are the average of the steps before them
        rate = ops.where(iterations > last, rate, 0.0)
        self.step.assign(iterations)
        for average, source in zip(self.averages, self.sources, strict=True):
            average.assign_add(rate * (ops.cast(source, "float32") - average))

    def averaged_variables(self):
        """Return `(path, average)` of each averaged variable, and counts as they are; the path is the variable's."""
        averaged = [(source.path, average) for source, average in zip(self.sources, self.averages, strict=True)]
        return averaged + [(count.path, count) for count in self.counts]

    def trained_values(self):
        """Return the trained value of each source by path, also while the averages are swapped in."""
        values = self._trained or [local_copies(source)[0] for source in self.sources]
        return {source.path: ops.convert_to_numpy(value) for source, value in zip(self.sources, values, strict=True)}

    def swap_in(self):
        """Put the averages, once there are any, into the model's variables; keep the trained values."""
        if self._trained is None and int(local_copies(self.step)[0]) > 0:
            self._trained = [ops.copy(local_copies(source)[0]) for source in self.sources]
            for average, source in zip(self.averages, self.sources, strict=True):
                source.assign(local_copies(average)[0])

    def swap_out(self):
        """Put the trained values back into the model's variables, to train on."""
        if self._trained is None:
            return
        trained, self._trained = self._trained, None
        untouched = [
            ops.all(ops.equal(local_copies(source)[0], ops.cast(local_copies(average)[0], source.dtype)))
            for average, source in zip(self.averages, self.sources, strict=True)
        ]
        same = ops.convert_to_numpy(ops.stack(untouched))
        for average, source, value, unchanged in zip(self.averages, self.sources, trained, same, strict=True):
            if unchanged:
                source.assign(value)
            else:
                average.assign(ops.cast(local_copies(source)[0], "float32"))

    @contextlib.contextmanager
    def swapped_in(self):
        """Swap the averages in for the time of a `with` block, unless they are in already."""
        was_in = self._trained is not None
        self.swap_in()
        try:
            yield
        finally:
            if not was_in:
                self.swap_out()

    def save(self, store):
        """Write averages, trained values and step to the store of a Keras file. Before the first step: nothing."""
        if int(local_copies(self.step)[0]) == 0:
            return
        trained = self.trained_values()
        store["ema_step"] = ops.convert_to_numpy(local_copies(self.step)[0])
        for average, source in zip(self.averages, self.sources, strict=True):
            store[_key("ema_average", source)] = ops.convert_to_numpy(local_copies(average)[0])
            store[_key("ema_trained", source)] = trained[source.path]

    def load(self, store):
        """Read what `save` wrote; the averages are swapped in afterwards. From any other file: restart the average.

        Raises:
            ValueError: the file holds an average of other variables. The average is then restarted, so that what Keras
                loads in spite of that (`skip_mismatch`) stays.
        """
        self._trained = None
        self.step.assign(0)
        if "ema_step" not in store:
            return
        for source in self.sources:
            key = _key("ema_average", source)
            found = tuple(store[key].shape) if key in store else "none"
            if found != tuple(source.shape):
                expected = f"expected one of {source.path} with shape {tuple(source.shape)} in the file"
                raise ValueError(f"moving average: {expected}, got {found}. Load its weights only.")
        self.step.assign(store["ema_step"])
        for average, source in zip(self.averages, self.sources, strict=True):
            average.assign(store[_key("ema_average", source)])
        self._trained = [ops.array(store[_key("ema_trained", source)], source.dtype) for source in self.sources]


def _key(prefix, variable):
    """Return the name of an entry: Keras reads a slash as a group of entries."""
    return f"{prefix}:{variable.path.replace('/', ':')}"
