"""Layers by name: a part of the detector, or a path below one."""

import re

from kyolo import _compat
from kyolo.errors import ArgumentError, did_you_mean

PARTS = ("backbone", "top", "neck", "head")


def layers_by_path(detector):
    """The layers that have weights of their own, by path, such as "backbone/stem_1_conv" or "head/P4_box_1/norm"."""
    layers = {}
    for part in PARTS:
        for layer in _compat.flatten_layers(getattr(detector, part)):
            own = _compat.own_variables(layer)
            if own:
                path = own[0].path.rpartition("/")[0]
                # Paths of the backbone's variables begin with the layer, those of the other parts with the part.
                layers[path if f"{path}/".startswith(f"{part}/") else f"{part}/{path}"] = layer
    return layers


def select_layers(detector, name):
    """The layers that a name means.

    Args:
        detector: a `Detector`.
        name: a part ("backbone"), a layer ("head/P4_box_1"), or a layer without what it is in ("sppf"); or, where there
            is none of that name, how the names of several begin up to a "_" ("backbone/stack1", "head/P4").

    Returns:
        Layers by path.

    Raises:
        ValueError: the name means none; it says what there is.
    """
    layers = layers_by_path(detector)
    found = {path: layer for path, layer in layers.items() if path.startswith(f"{name}/") or f"/{name}/" in f"/{path}/"}
    found = found or {path: layer for path, layer in layers.items() if path.startswith(f"{name}_")}
    if not found:
        raise ValueError(f"expected {_what_there_is(layers, name)}, received {name!r}")
    return found


def values_by_variable(detector, values):
    """Gives values to trainable variables by the names of their layers; where two mean a layer, the longer counts.

    Args:
        detector: a `Detector`.
        values: value by name, as in `select_layers`.

    Returns:
        Value by path of the variable, of those that a name means.

    Raises:
        ArgumentError: a name means no layer, or only frozen ones. Its argument is the name.
    """
    given = {}
    for name in sorted(values, key=len):
        try:
            layers = select_layers(detector, name).values()
        except ValueError as error:
            raise ArgumentError(name, str(error)) from None
        paths = [variable.path for layer in layers for variable in layer.trainable_variables]
        if not paths:
            raise ArgumentError(name, "expected trainable layers, got frozen ones.")
        given |= dict.fromkeys(paths, values[name])
    return given


def _what_there_is(layers, name):
    """The parts, and below the part that was named how the names of its layers begin."""
    part, below, _ = name.partition("/")
    expected = f"a part ({', '.join(PARTS)}) or a path of layers below one"
    known = list(PARTS)
    if below and part in PARTS:
        known = [path for path in layers if path.startswith(f"{part}/")]
        starts = dict.fromkeys(re.match(r"[^/_]+/[^/_]+", path)[0] for path in known)
        expected = f"{expected}, such as {', '.join(starts)}"
    return expected + did_you_mean(name, known)
