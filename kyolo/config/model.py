"""The settings of `model`: the blocks carry the names of the modules, in the order of the data's way.

"Reference" below is the published YOLOv8. Each default is typed here and nowhere else.
"""

from dataclasses import dataclass, field

from kyolo import registry
from kyolo.config.blocks import Block, further_settings, one_of, setting
from kyolo.config.errors import ConfigError

LEVELS = ("P2", "P3", "P4", "P5", "P6")
SIZES = {  # of each kind of backbone; p, half as wide as n, is kyolo's own, for tests
    "yolov8": ("n", "s", "m", "l", "x", "p"),
    "efficientnet_lite": ("b0", "b1", "b2", "b3", "b4"),
    "mobilenet_v3": ("small", "large", "small_minimalistic", "large_minimalistic"),
}
CONVS = ("standard", "depthwise")
PLACES = ("sppf_in", *LEVELS, *(level.replace("P", "N") for level in LEVELS))  # of attention


@dataclass(frozen=True)
class BackboneConfig(Block):
    """The network that turns an image into feature maps."""

    kind: str = setting(
        "yolov8", choices=lambda: registry.names("backbone"), doc="Family: docs/models.md. Default: the reference's."
    )
    size: str | None = setting(
        None, doc="Width and depth, by the family: n to x, b0 to b4, small, large. Default: null, its first."
    )
    weights: str | None = setting(
        None, path=(".h5",), doc="Preset (downloaded) or .h5 file to start from: docs/models.md. Default: from scratch."
    )
    model: str | None = setting(
        None, path=(".keras",), doc="Of kind keras: a model of keras.applications, as ResNet50V2, or a .keras file."
    )
    layers: tuple[str, ...] = setting((), doc="Of kind keras: layers of strides 4 to 32, at which the levels end.")
    arguments: dict = further_settings("Arguments of a backbone of one's own: docs/models.md.")  # noqa: RUF009 (a field)

    def check(self) -> None:
        sizes = SIZES.get(self.kind)
        if sizes is not None and self.size not in (None, *sizes):
            raise ConfigError(
                "size", f"expected {one_of(sizes, self.size)} with kind {self.kind}, received {self.size}"
            )
        if sizes is not None and self.size is None:
            object.__setattr__(self, "size", sizes[0])
        for name in ("model", "layers"):
            if self.kind == "keras" and not getattr(self, name):
                raise ConfigError(name, "missing; expected what kind keras is to tap: docs/models.md, received nothing")


@dataclass(frozen=True)
class AttentionConfig(Block):
    """One attention module and its place."""

    kind: str = setting(choices=lambda: registry.names("attention"), doc="Module: docs/models.md.")
    at: str = setting(
        "sppf_in",
        choices=PLACES,
        doc="Before SPPF (sppf_in); on a level's way into the neck (P3), or on its way out (N3).",
    )
    control: str | None = setting(None, choices=("conv",), doc="conv: plain convolutions of as many weights instead.")
    arguments: dict = further_settings("Arguments of that module, such as init and reduction: docs/models.md.")  # noqa: RUF009 (a field)


@dataclass(frozen=True)
class NeckConfig(Block):
    """The network that mixes the levels."""

    kind: str = setting(
        "pafpn", choices=("pafpn",), doc="Family: top-down, then bottom-up path. Default: the reference's."
    )
    width: float = setting(1.0, above=0, maximum=4, doc="Factor of the channels that come out. Default: reference.")
    conv: str = setting("standard", choices=CONVS, doc="depthwise: convolutions larger than 1x1 are taken apart.")


@dataclass(frozen=True)
class HeadConfig(Block):
    """The network that predicts boxes and classes at every level."""

    reg_max: int = setting(
        16, minimum=2, maximum=64, doc="Bins of a box side's distance, in strides. Default: reference."
    )
    width: float = setting(1.0, above=0, maximum=4, doc="Factor of the channels inside. Default: reference.")
    conv: str = setting("standard", choices=CONVS, doc="depthwise: the 3x3 convolutions are taken apart.")


@dataclass(frozen=True)
class BoxLossConfig(Block):
    """The loss between predicted and target boxes."""

    kind: str = setting("ciou", choices=lambda: registry.names("box_loss"), doc="Which. Default: the reference's.")
    weight: float = setting(7.5, minimum=0, doc="Factor of this part in the sum. Default: the reference's gain.")
    arguments: dict = further_settings("Arguments of that loss, such as theta of siou: docs/losses.md.")  # noqa: RUF009 (a field)


@dataclass(frozen=True)
class ClassificationLossConfig(Block):
    """The loss of the class scores."""

    kind: str = setting(
        "bce", choices=lambda: registry.names("classification_loss"), doc="Which. Default: the reference's."
    )
    weight: float = setting(0.5, minimum=0, doc="Factor of this part in the sum. Default: the reference's gain.")
    arguments: dict = further_settings("Arguments of that loss, such as gamma of focal: docs/losses.md.")  # noqa: RUF009


@dataclass(frozen=True)
class DFLConfig(Block):
    """The distribution focal loss of the box sides' bins."""

    weight: float = setting(1.5, minimum=0, doc="Factor of this part in the sum. Default: the reference's gain.")


@dataclass(frozen=True)
class AssignerConfig(Block):
    """The choice of the anchor points that learn an object: those of the largest score^alpha x overlap^beta."""

    top_k: int = setting(10, minimum=1, doc="Points chosen for each object. Default: the reference's; 13 in the paper.")
    alpha: float = setting(0.5, minimum=0, doc="Exponent of the score. Default: the reference's; 1 in the paper.")
    beta: float = setting(6.0, minimum=0, doc="Exponent of the overlap. Default: the paper's.")
    enlarge_tiny: bool = setting(
        False,
        doc="Objects with a side up to the smallest stride have points around them. Default: the reference's.",
    )


@dataclass(frozen=True)
class LossConfig(Block):
    """The weighted sum that training makes small."""

    assigner: AssignerConfig = field(default_factory=AssignerConfig)
    box: BoxLossConfig = field(default_factory=BoxLossConfig)
    classification: ClassificationLossConfig = field(default_factory=ClassificationLossConfig)
    dfl: DFLConfig = field(default_factory=DFLConfig)


@dataclass(frozen=True)
class WeightsConfig(Block):
    """Weights of another model, carried over by name; `weights: PATH` is short for `weights: {path: PATH}`."""

    shorthand = "path"

    path: str = setting(path=("",), doc="Run folder or .npz checkpoint.")
    skip: tuple[str, ...] = setting((), doc="Names of layers that start anew, as sppf or head/P3_box_1. Default: none.")


@dataclass(frozen=True)
class ModelConfig(Block):
    """The detector and its loss."""

    num_classes: int | None = setting(None, minimum=1, doc="Number of classes. Default: null, taken from the data.")
    levels: tuple[str, ...] = setting(
        ("P3", "P4", "P5"),
        choices=LEVELS,
        doc="Consecutive pyramid levels, stride 2**n, that predict. Default: reference.",
    )
    backbone: BackboneConfig = field(default_factory=BackboneConfig)
    attention: tuple[AttentionConfig, ...] = setting((), doc="Attention modules. Default: none, as the reference.")
    neck: NeckConfig = field(default_factory=NeckConfig)
    head: HeadConfig = field(default_factory=HeadConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    weights: WeightsConfig | None = setting(  # noqa: RUF009 (a field)
        None, path=("",), doc="Weights to start from: a path, or the block below. Default: none."
    )

    def check(self) -> None:
        start = LEVELS.index(self.levels[0]) if self.levels else 0
        if len(self.levels) < 2 or self.levels != LEVELS[start : start + len(self.levels)]:
            expected = f"expected two or more consecutive levels of {', '.join(LEVELS)}"
            raise ConfigError("levels", f"{expected}, received [{', '.join(self.levels)}]")
        for i, block in enumerate(self.attention):
            places = [place for place in PLACES if place == "sppf_in" or place.replace("N", "P") in self.levels]
            if block.at not in places:
                expected = f"expected a place that these levels have, one of {', '.join(places)}"
                raise ConfigError(f"attention.{i}.at", f"{expected}, received {block.at}")
