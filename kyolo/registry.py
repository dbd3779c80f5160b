"""The names by which configurations call classes and functions: kyolo's own, and those that users register."""

import importlib
import inspect
import operator
import typing
from collections.abc import Callable

from kyolo.errors import ArgumentError

T = typing.TypeVar("T", bound=Callable)

# Families, names, and where the class is, so that a configuration can be read without importing TensorFlow.
_BUILT_IN = {
    "attention": {
        "gam": "kyolo.layers.gam.GAM",
        "cbam": "kyolo.layers.cbam.CBAM",
        "se": "kyolo.layers.se.SE",
        "eca": "kyolo.layers.eca.ECA",
        "coord_attention": "kyolo.layers.coord_attention.CoordAttention",
        "simam": "kyolo.layers.simam.SimAM",
    },
    "backbone": {
        "yolov8": "kyolo.models.backbones.yolov8_backbone",
        "efficientnet_lite": "kyolo.models.backbones.efficientnet_lite_backbone",
        "mobilenet_v3": "kyolo.models.backbones.mobilenet_v3_backbone",
        "keras": "kyolo.models.backbones.keras_backbone",
    },
    "box_loss": {
        "iou": "kyolo.losses.iou_losses.IoULoss",
        "giou": "kyolo.losses.iou_losses.GIoULoss",
        "diou": "kyolo.losses.iou_losses.DIoULoss",
        "ciou": "kyolo.losses.iou_losses.CIoULoss",
        "eiou": "kyolo.losses.iou_losses.EIoULoss",
        "focal_eiou": "kyolo.losses.iou_losses.FocalEIoULoss",
        "siou": "kyolo.losses.iou_losses.SIoULoss",
        "alpha_iou": "kyolo.losses.iou_losses.AlphaIoULoss",
        "wiou": "kyolo.losses.wiou.WIoULoss",
        "mpdiou": "kyolo.losses.iou_losses.MPDIoULoss",
        "inner_iou": "kyolo.losses.iou_losses.InnerIoULoss",
        "shape_iou": "kyolo.losses.iou_losses.ShapeIoULoss",
    },
    "classification_loss": {
        "bce": "kyolo.losses.classification.BinaryCrossentropy",
        "focal": "kyolo.losses.classification.FocalLoss",
        "quality_focal": "kyolo.losses.classification.QualityFocalLoss",
        "varifocal": "kyolo.losses.classification.VarifocalLoss",
    },
}
# The base class of a family's classes; backbones are made by functions. Then the settings that stand beside arguments.
_BASES = {"attention": "layers.Layer", "box_loss": "losses.Loss", "classification_loss": "losses.Loss"}
_SETTINGS = {
    "attention": {"kind", "at", "control"},
    "backbone": {"kind", "model", "layers"},
    "box_loss": {"kind", "weight"},
    "classification_loss": {"kind", "weight"},
}
_registered: dict[str, dict[str, Callable]] = {family: {} for family in _BUILT_IN}


def register(family: str, name: str) -> Callable[[T], T]:
    """Decorate a class, or the function that makes a backbone, so that configurations find it by name.

    Args:
        family: "box_loss" or "classification_loss": a `keras.losses.Loss` that is called with `y_true` and `y_pred`
            and gives one value a box, or one a point and class. `kyolo.losses.BoxLoss` is a good base. Or "attention":
            a `keras.layers.Layer` that keeps the shape of maps `(B, H, W, C)`. Or "backbone": a function that returns a
            model as `build_detector` takes one, of layers with names of their own, by which weights are found; it is
            called twice to see that. Arguments `levels`, `size` and `weights` are given those settings.
        name: what stands in the configuration: `kind: name`. Further keys are arguments of the constructor, or of the
            function. One of the same module and name may take its place, as when a notebook's cell runs again.

    Returns:
        The decorator. It also registers a class with Keras, so that files which hold it can be loaded.

    Raises:
        ValueError: the family is none, the name is another's, what is decorated is no class of that kind, or an
            argument of it is called as a setting beside which it would stand, such as "kind".

    Example:
        >>> @kyolo.register("box_loss", "half_iou")
        ... class HalfIoULoss(kyolo.losses.BoxLoss):
        ...     def call(self, y_true, y_pred):
        ...         return 0.5 * (1 - kyolo.boxes.iou(y_pred, y_true))
    """
    if family not in _BUILT_IN:
        raise ArgumentError("family", f"expected one of {', '.join(_BUILT_IN)}, got {family!r}.")
    if not isinstance(name, str) or not name.isidentifier():
        raise ArgumentError("name", f"expected a word of letters, digits and underscores, got {name!r}.")

    def decorate(made: T) -> T:
        import keras

        base = _BASES.get(family)
        if base is None and not inspect.isfunction(made):
            raise ArgumentError(name, f"expected a function, got {made!r}.")
        if base and not (isinstance(made, type) and issubclass(made, operator.attrgetter(base)(keras))):
            raise ArgumentError(name, f"expected a class derived from keras.{base}, got {made!r}.")
        for argument in sorted(set(arguments_of(made)) & _SETTINGS[family]):
            taken = f"expected arguments other than the settings of every {family}"
            raise ArgumentError(name, f"{taken}, got {argument!r}. Rename it.")
        other = _registered[family].get(name)
        if name in _BUILT_IN[family] or (other is not None and _origin(other) != _origin(made)):
            raise ArgumentError("name", f"expected an unused name, got {name!r}, which is another {family}.")
        if base and keras.saving.get_registered_name(made) == made.__name__:  # not registered yet
            keras.saving.register_keras_serializable(made.__module__)(made)
        _registered[family][name] = made
        return made

    return decorate


def names(family: str) -> tuple[str, ...]:
    """Return the names of a family, kyolo's own first."""
    return (*_BUILT_IN[family], *_registered[family])


def is_registered(family: str, name: str) -> bool:
    """Return whether a name is one that a user registered, and not kyolo's own."""
    return name in _registered[family]


def find(family: str, name: str) -> Callable:
    """Return the class or function of a name.

    Raises:
        ValueError: the family has no such name.
    """
    if name in _registered[family]:
        return _registered[family][name]
    if name not in _BUILT_IN[family]:
        raise ArgumentError(family, f"expected one of {', '.join(names(family))}, got {name!r}.")
    module, _, attribute = _BUILT_IN[family][name].rpartition(".")
    return getattr(importlib.import_module(module), attribute)


def arguments_of(made: Callable) -> list[str]:
    """Return the arguments of a class or function that a configuration may give, other than those of a base class."""
    import keras

    is_class = isinstance(made, type)
    of_all = {"name", "dtype"} if is_class else {"levels"}
    of_all |= {"reduction"} if is_class and issubclass(made, keras.Loss) else set()
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    found = inspect.signature(made).parameters.values()
    return [one.name for one in found if one.kind in named and one.name not in of_all]


def _origin(made: Callable) -> tuple[str, str]:
    return made.__module__, made.__qualname__
