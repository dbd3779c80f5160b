"""Carrying weights over from one model to another, by name, with a report of every weight."""

import dataclasses

import numpy as np
from keras import ops

from kyolo.models.initialize import finalize_states, is_random_state
from kyolo.models.layer_paths import select_layers


@dataclasses.dataclass(frozen=True)
class TransferReport:
    """What became of every weight.

    Attributes:
        placed: paths of the model's weights that got a value.
        new: paths of the model's weights for which the source has none; they keep their value.
        unused: paths of the source's weights that the model does not have.
        mismatched: `(path, shape in the model, shape in the source)` of weights that keep their value because the
            shapes differ.
        skipped: paths of the model's weights that were to keep their value.
    """

    placed: tuple[str, ...]
    new: tuple[str, ...]
    unused: tuple[str, ...]
    mismatched: tuple[tuple[str, tuple, tuple], ...]
    skipped: tuple[str, ...] = ()

    def summary(self):
        """The counts in one line, then a line for each weight that was not placed."""
        lines = [
            f"weights: {len(self.placed)} placed, {len(self.new)} new, {len(self.unused)} unused, "
            f"{len(self.mismatched)} mismatched, {len(self.skipped)} skipped"
        ]
        lines += [f"  new         {path}" for path in self.new]
        lines += [f"  unused      {path}" for path in self.unused]
        lines += [f"  mismatched  {path}: {ours} here, {theirs} there" for path, ours, theirs in self.mismatched]
        lines += [f"  skipped     {path}" for path in self.skipped]
        return "\n".join(lines)


def transfer_weights(model, source, skip=()):
    """Gives each variable of a model the source's value of the same path and shape.

    Keras' own `.weights.h5` matches by class and order: one inserted layer shifts all later weights without a word.
    Names do not shift, and the report shows what found no partner.

    Args:
        model: a built model or layer.
        source: another built model or layer, or a dict of arrays by path of the variable.
        skip: names of layers whose weights keep their value, as `Detector.freeze` takes them ("sppf", "head/P3_box_1");
            the model is a `Detector` then.

    Returns:
        A `TransferReport`. Weights that were not placed keep their value; the states of random generators are none.

    Raises:
        ValueError: the model has no layer of a name in `skip`.

    Example:
        >>> model = kyolo.config.apply_overrides(kyolo.Config(), ["model.num_classes=5", "model.backbone.size=p"]).model
        >>> attention = (kyolo.config.AttentionConfig("gam"),)
        >>> with_gam = kyolo.build_detector(dataclasses.replace(model, attention=attention))
        >>> transfer_weights(with_gam, kyolo.build_detector(model)).new[0]
        'top/attention_sppf_in_gam/channel_squeeze/kernel'
    """
    if not isinstance(source, dict):
        others = [variable for variable in source.variables if not is_random_state(variable)]
        source = {variable.path: ops.convert_to_numpy(variable.value) for variable in others}
    layers = [layer for name in skip for layer in select_layers(model, name).values()]
    kept = {variable.path for layer in layers for variable in layer.variables}
    placed, new, mismatched, skipped = [], [], [], []
    variables = [variable for variable in model.variables if not is_random_state(variable)]
    for variable in variables:
        path, shape = variable.path, tuple(variable.shape)
        if path in kept:
            skipped.append(path)
        elif path not in source:
            new.append(path)
        elif shape != np.shape(source[path]):
            mismatched.append((path, shape, np.shape(source[path])))
        else:
            variable.assign(source[path])
            placed.append(path)
    finalize_states(model)
    own = {variable.path for variable in variables}
    unused = tuple(path for path in source if path not in own)
    return TransferReport(tuple(placed), tuple(new), unused, tuple(mismatched), tuple(skipped))
