"""From a configuration to a detector: the one file of the models that sees the configuration."""

import collections
import contextlib
import dataclasses
import inspect
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras

from kyolo import registry
from kyolo.boxes.nms import NMSSettings
from kyolo.config import (
    AttentionConfig,
    BackboneConfig,
    BoxLossConfig,
    ClassificationLossConfig,
    Config,
    ConfigError,
    LossConfig,
    ModelConfig,
    config_to_dict,
    image_hw,
    one_of,
)
from kyolo.errors import ArgumentError, InputError
from kyolo.layers.control_conv import ControlConv
from kyolo.losses.detection import DetectionLoss
from kyolo.models.backbones import Taps, pyramid_backbone
from kyolo.models.cost import count_weights
from kyolo.models.detector import Detector
from kyolo.models.head import DetectionHead
from kyolo.models.initialize import drawn_from, finalize_states, seed_weights
from kyolo.models.neck import PAFPN
from kyolo.models.places import build_layers
from kyolo.models.pyramid import BEFORE_SPPF, LevelSpec, PyramidTop, level_stride, scaled_levels


def build_detector(
    config: Config | ModelConfig,
    *,
    seed: int = 0,
    backbone: keras.Model | None = None,
    image_size: int | tuple[int, int] | None = None,
    fit: str | None = None,
    class_names: Sequence[str] | None = None,
) -> Detector:
    """Build a detector with initial weights.

    Args:
        config: what to build, the block `model` or a whole configuration; `num_classes` must be set, or class names.
        seed: of the initial weights; each kernel is a function of (seed, path of the variable), those of a registered
            attention of (seed, name of the layer), those of a registered backbone of the seed.
        backbone: takes the place of `config.backbone`, with the weights that it has: a functional model from RGB
            images, 0..255, with a dict of maps by level name ("P3") as its output, with `pyramid_outputs` as KerasHub's
            backbones, or with `pyramid_level_inputs` as KerasCV's. Default None.
        image_size: size of the network's input in pixels, one number or (H, W). Default: `config.data.image_size`, or
            640.
        fit: "letterbox" or "stretch". Default: `config.data.fit`, or "letterbox".
        class_names: name of each class. Default: `config.data.class_names`, or "0", "1", ...

    Returns:
        A `Detector`, not compiled.

    Raises:
        ConfigError: without `num_classes`, with a backbone that cannot be built, or with attention that cannot be built
            on the channels of its place.
        InputError: a backbone's files cannot be loaded, or it lacks a level.

    Example:
        >>> build_detector(kyolo.config.ModelConfig(num_classes=3)).strides
        (8, 16, 32)
    """
    whole = config if isinstance(config, Config) else Config()
    model = config.model if isinstance(config, Config) else config
    names = class_names or whole.data.class_names
    if model.num_classes is None and names is not None:
        model = dataclasses.replace(model, num_classes=len(names))
    if model.num_classes is None:
        raise ConfigError("model.num_classes", "expected a number of classes or data to count them in, received null")
    about = {
        "image_size": image_hw(whole.data.image_size if image_size is None else image_size),
        "image_fit": fit or whole.data.fit,
        "class_names": names,
        "nms": NMSSettings(iou=whole.evaluation.iou, max_detections=whole.evaluation.max_detections),
    }
    with drawn_from(seed):
        return _build_detector(model, seed, backbone, about)


def YOLOv8(
    size: str = "n",
    class_names: Sequence[str] | None = None,
    *,
    image_size: int | tuple[int, int] = 640,
    fit: str = "letterbox",
    seed: int = 0,
    **model: Any,
) -> Detector:
    """Build a YOLOv8 detector with initial weights.

    Args:
        size: "n", "s", "m", "l" or "x"; "p", half as wide as "n", is for tests.
        class_names: name of each class, e.g. `train.class_names` of `kyolo.data.make_dataset`.
        image_size: size of the network's input in pixels, one number or (H, W). Default 640.
        fit: "letterbox" keeps the aspect ratio of images and pads, "stretch" does not. Default "letterbox".
        seed: of the initial weights.
        **model: other settings of the block `model`, e.g. `levels=["P2", "P3", "P4"]` or `attention=[{"kind": "gam"}]`.

    Returns:
        A `Detector`, not compiled.

    Raises:
        ConfigError: for a setting that is unknown or does not fit.

    Example:
        >>> kyolo.YOLOv8("n", class_names=["cat", "dog"], image_size=320).class_names
        ('cat', 'dog')
    """
    try:
        config = ModelConfig.from_mapping({"backbone": {"kind": "yolov8", "size": size}, **model})
    except ConfigError as error:
        raise error.under("model") from None
    return build_detector(config, seed=seed, image_size=image_size, fit=fit, class_names=class_names)


def _build_detector(config: ModelConfig, seed: int, backbone: keras.Model | None, about: dict[str, Any]) -> Detector:
    """Build the parts of a detector; `about` is what it knows of its input and classes."""
    taps = _backbone(config) if backbone is None else pyramid_backbone(backbone, config.levels)
    levels = [*taps.levels]
    for name in config.levels[len(levels) :]:
        levels.append(LevelSpec(name, level_stride(name), levels[-1].channels))
    outputs = scaled_levels(levels, config.neck.width)
    channels = {level.name: level.channels for level in levels}
    channels |= {level.name.replace("P", "N"): level.channels for level in outputs}
    channels[BEFORE_SPPF] = taps.levels[-1].channels
    attention: dict[str, list[keras.Layer]] = {}
    own: dict[str, tuple[keras.Layer, keras.Layer]] = {}  # by path of the block: modules of the user's, and their twins
    names: collections.Counter[str] = collections.Counter()
    for i, block in enumerate(config.attention):
        path, name = f"model.attention.{i}", f"attention_{block.at}_{block.control or block.kind}"
        names[name] += 1
        name += f"_{names[name]}" if names[name] > 1 else ""
        layer, twin = _attention(block, path, name, channels[block.at], seed)
        attention.setdefault(block.at, []).append(layer)
        own |= {path: (layer, twin)} if registry.is_registered("attention", block.kind) and not block.control else {}
    in_neck = {place: attention.pop(place) for place in [*attention] if place.startswith("N")}
    detector = Detector(
        backbone=taps.model,
        top=PyramidTop(levels, attention, taps.neck_depth, name="top"),
        neck=PAFPN(levels, taps.neck_depth, in_neck, config.neck.width, config.neck.conv, name="neck"),
        head=DetectionHead(config.num_classes, outputs, **config_to_dict(config.head), name="head"),
        **about,
    )
    paths = collections.Counter(variable.path for variable in detector.variables)
    for path in (path for path, times in paths.items() if times > 1):
        raise ConfigError(
            "model", f"expected one variable of each path, by which weights are found, received two {path}"
        )
    _set_initial_weights(detector, taps, own, seed)
    return detector


def _set_initial_weights(
    detector: Detector, taps: Taps, own: dict[str, tuple[keras.Layer, keras.Layer]], seed: int
) -> None:
    """Draws weights by their paths, but for those of a pretrained backbone and of the user's own modules."""
    leave_out = [taps.model] if taps.pretrained else []
    seed_weights(detector, seed, [*leave_out, *(layer for layer, _ in own.values())])
    for path, (layer, twin) in own.items():
        for weight, drawn in zip(layer.weights, twin.weights, strict=True):
            _check_name(path, weight.path, drawn.path.partition("/")[2])
            weight.assign(drawn)
    if taps.sppf:
        _set_by_path(detector.top.sppf, taps.sppf)
    finalize_states(detector)


def _check_name(setting: str, path: str, again: str) -> None:
    """Raises ConfigError where a weight of a user's layer has another path when the layer is built again."""
    if not path.endswith(again):
        expected = "expected layers with names of their own, by which weights are found"
        raise ConfigError(setting, f"{expected}, received {path}, which ends in {again} the next time")


def build_loss(config: LossConfig, image_size: tuple[int, int] | None = None) -> DetectionLoss:
    """Builds the loss that a configuration describes.

    Args:
        config: what to build.
        image_size: `(height, width)` of the network's input in pixels, for losses that ask for it. None where it
            varies: such a loss then needs one beside its kind.

    Raises:
        ConfigError: for an argument that a loss does not take, or a value that it refuses.
    """
    return DetectionLoss(
        box=_build_part("box_loss", config.box, "model.loss.box", image_size),
        classification=_build_part(
            "classification_loss", config.classification, "model.loss.classification", image_size
        ),
        box_weight=config.box.weight,
        classification_weight=config.classification.weight,
        dfl_weight=config.dfl.weight,
        assigner=config_to_dict(config.assigner),
    )


def _build_part(
    family: str, block: BoxLossConfig | ClassificationLossConfig, path: str, image_size: tuple[int, int] | None
) -> keras.losses.Loss:
    """Builds the loss of a block."""
    cls = registry.find(family, block.kind)
    takes = registry.arguments_of(cls)
    given = {"image_size": image_size} if image_size is not None and "image_size" in takes else {}
    given |= _arguments(cls, block, path)
    size = inspect.signature(cls).parameters.get("image_size")
    if size is not None and size.default is size.empty and "image_size" not in given:
        expected = f"expected [height, width], which {block.kind} measures by, where the input has no one size"
        raise ConfigError(f"{path}.image_size", f"missing; {expected} (augment.multi_scale), received nothing")
    with _errors_named(block.kind, path, takes):
        return cls(**given)


def _backbone(config: ModelConfig) -> Taps:
    """Makes the backbone of a configuration: one of kyolo's, or one that was registered."""
    block, path = config.backbone, "model.backbone"
    make = registry.find("backbone", block.kind)
    takes = registry.arguments_of(make)
    given = {"levels": config.levels} if "levels" in inspect.signature(make).parameters else {}
    for name in ("size", "weights", "model", "layers"):
        value = getattr(block, name)
        if value and name not in takes:
            raise ConfigError(f"{path}.{name}", f"expected none, as {block.kind} does not take it, received {value}")
        given |= {name: value} if value else {}
    given |= _arguments(make, block, path)
    with _errors_named(block.kind, path, takes):
        made = make(**given)
        if isinstance(made, Taps):
            return made
        taps = pyramid_backbone(made, config.levels)
        again = make(**given)
    for weight, other in zip(made.weights, again.weights, strict=True):
        _check_name(path, weight.path, other.path)
    return taps


def _attention(
    block: AttentionConfig, path: str, name: str, channels: int, seed: int
) -> tuple[keras.Layer, keras.Layer]:
    """Makes one module for a map of so many channels, or the convolutions that stand in its place.

    Args:
        block: what to make.
        path: of the block.
        name: of the layer. It tells place and kind, so that weights find it whatever else the list holds.
        channels: of the map.
        seed: of initial weights.

    Returns:
        The layer, not built, and a twin that is, with weights drawn from the seed.
    """
    cls = registry.find("attention", block.kind)
    given = _arguments(cls, block, path)
    shape = (None, None, None, channels)
    with _errors_named(block.kind, path, registry.arguments_of(cls)), drawn_from(seed, name):
        twin = cls(**given)  # what cannot be built on these channels is told here
        build_layers([twin], shape)
        if block.control is None:
            return cls(**given, name=name), twin
    control = {"num_weights": count_weights(twin), **{key: given[key] for key in ("init",) if key in given}}
    with _errors_named(block.control, f"{path}.control", []), drawn_from(seed, name):
        build_layers([ControlConv(**control)], shape)
        return ControlConv(**control, name=name), twin


def _arguments(
    made: Callable, block: AttentionConfig | BackboneConfig | BoxLossConfig | ClassificationLossConfig, path: str
) -> dict[str, object]:
    """The arguments that stand beside a block's kind, without those that take back what a base sets."""
    takes = registry.arguments_of(made)
    for name, value in block.arguments.items():
        if name not in takes and value is not None:
            expected = f"{one_of(takes, name) if takes else 'nothing further'}, or null to take back what a base sets"
            raise ConfigError(f"{path}.{name}", f"unknown key for {block.kind}; expected {expected}")
    return {name: value for name, value in block.arguments.items() if name in takes}


@contextlib.contextmanager
def _errors_named(kind: str, path: str, takes: list[str]) -> Iterator[None]:
    """Raise errors of a constructor as ConfigError, with the path of the argument if it is known."""
    try:
        yield
    except InputError:
        raise  # it names its setting already
    except (TypeError, ValueError) as error:
        # A part inside a custom class may refuse an argument that is no setting of the class.
        if isinstance(error, ArgumentError) and error.argument.partition(".")[0] in takes:
            raise ConfigError(f"{path}.{error.argument}", error.problem) from error
        raise ConfigError(path, f"{kind} cannot be built: {error}") from error


def _set_by_path(layer: keras.layers.Layer, weights: dict) -> None:
    for variable in layer.variables:
        variable.assign(weights[variable.path.partition(f"{layer.name}/")[2]])
