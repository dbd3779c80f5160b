"""Every public loss: how to build it, settings other than its defaults, and settings that it must refuse."""

import inspect

import keras

from kyolo import losses, registry

# Base classes leave `call` to others.
CLASSES = [
    cls
    for cls in vars(losses).values()
    if inspect.isclass(cls) and issubclass(cls, keras.losses.Loss) and cls.call is not keras.losses.Loss.call
]

REQUIRED = {"image_size": (480, 640)}  # for arguments without a default

OTHER_SETTINGS = {
    "FocalEIoULoss": [{"gamma": 0.0}, {"gamma": 1.5}],
    "SIoULoss": [{"theta": 1.0}, {"theta": 2.5}],
    "AlphaIoULoss": [{"base": "iou"}, {"base": "giou"}, {"base": "diou"}, {"alpha": 1.0}, {"alpha": 2.0}],
    "WIoULoss": [
        {"version": 1},
        {"version": 2, "gamma": 0.5},
        {"version": 2, "gamma": 1.5, "initial_mean": 0.3},
        {"version": 3, "initial_mean": 0.4, "alpha": 1.7, "delta": 2.7},
        {"momentum": 0.5},
    ],
    "MPDIoULoss": [{"image_size": (320, 320)}],
    "InnerIoULoss": [
        *({"base": base} for base in ("iou", "giou", "diou", "eiou", "siou")),
        {"ratio": 0.5},
        {"ratio": 1.25},
    ],
    "ShapeIoULoss": [{"scale": 0.5}, {"scale": 1.0}],
    "FocalLoss": [{"alpha": None}, {"alpha": 0.9}, {"gamma": 0.0}, {"gamma": 0.5}],
    "QualityFocalLoss": [{"beta": 0.0}, {"beta": 0.5}, {"beta": 1.0}],
    "VarifocalLoss": [{"alpha": 0.3}, {"gamma": 0.0}, {"gamma": 0.5}],
}

NO_NUMBERS = (float("nan"), float("inf"), "2", True, (2.0,))
REFUSED = {
    "alpha": [-0.1, *NO_NUMBERS],
    "base": ["ciuo", None, 3, ["ciou"]],
    "beta": [-0.1, None, *NO_NUMBERS],
    "delta": [0.0, -1.0, None, *NO_NUMBERS],
    "gamma": [-0.1, None, *NO_NUMBERS],
    "image_size": [640, None, "640", (640,), (640, 640, 3), (640, 0), (-640, 640), (640, "640"), (640, float("nan"))],
    "initial_mean": [0.0, -1.0, None, *NO_NUMBERS],
    "momentum": [-0.01, 1.01, None, *NO_NUMBERS],
    "ratio": [0.0, -0.75, None, *NO_NUMBERS],
    "scale": [-0.1, None, *NO_NUMBERS],
    "theta": [0.99, None, *NO_NUMBERS],
    "version": [0, 4, None, "3", True, [3]],
}
REFUSED_BY = {
    "AlphaIoULoss": {"alpha": [0.0], "base": ["eiou", "siou"]},
    "FocalLoss": {"alpha": [1.1]},
    "InnerIoULoss": {"base": ["wiou", "alpha_iou"]},
    "WIoULoss": {"alpha": [1.0, 0.5]},
}


def parameters(cls):
    """The settings of a class: what its constructor takes by name, other than what every loss takes."""
    found = inspect.signature(cls).parameters
    return {name: found[name] for name in registry.arguments_of(cls)}


def required(cls):
    return {name: REQUIRED[name] for name, parameter in parameters(cls).items() if parameter.default is parameter.empty}


def build(cls, **settings):
    return cls(**{**required(cls), **settings})


def all_settings(cls):
    """The default settings and the others of a class."""
    return [required(cls), *OTHER_SETTINGS.get(cls.__name__, [])]
