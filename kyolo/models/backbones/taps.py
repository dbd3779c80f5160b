"""What every backbone adapter returns."""

from typing import Any, NamedTuple

from kyolo.models.pyramid import LevelSpec


class Taps(NamedTuple):
    """A backbone and where it is tapped.

    Attributes:
        model: a `keras.Model` from RGB images `(B, H, W, 3)`, 0..255, to a dict of maps by level name.
        levels: `LevelSpec` of each map, finest first.
        neck_depth: bottlenecks in each C2f of the neck that suits this backbone.
        sppf: pretrained weights of the SPPF behind the backbone, by path below that layer; empty without any.
    """

    model: Any
    levels: tuple[LevelSpec, ...]
    neck_depth: int
    sppf: dict[str, Any]
