"""Layers at the places of a part: a dict from the name of a place to those that run there, in order."""

import keras

from kyolo import _compat


def build_layers(layers, shape):
    """Builds layers that keep the shape, and what is inside them, also where they leave that to their first call.

    Raises:
        ValueError: one does not keep it.
    """
    for layer in layers:
        made = layer(keras.KerasTensor(shape, dtype=layer.compute_dtype))
        if getattr(made, "shape", None) != tuple(shape):
            received = getattr(made, "shape", type(made).__name__)
            raise ValueError(f"expected a layer that keeps maps {tuple(shape)}, received {received}")
        for inner in _compat.flatten_layers(layer):
            if not inner.built:
                raise ValueError(f"expected a layer that builds what is in it, received {inner.name} not built")


def run_layers(layers, x):
    """Runs layers, one after the other."""
    for layer in layers:
        x = layer(x)
    return x


def serialize_places(places):
    """The configuration of the layers at their places."""
    return {place: [keras.saving.serialize_keras_object(layer) for layer in layers] for place, layers in places.items()}


def deserialize_places(config):
    """The layers of `serialize_places`.

    Built by their owner and not on the way in: the paths of their variables then begin with its name.
    """
    return {
        place: [keras.saving.deserialize_keras_object({**layer, "build_config": None}) for layer in layers]
        for place, layers in config.items()
    }
