"""YOLOv8-type object detection in TensorFlow and Keras. Names are imported at their first use (PEP 562)."""

import importlib
import typing

from kyolo._environment import select_keras

if typing.TYPE_CHECKING:
    from kyolo.config import Config as Config
    from kyolo.config import ConfigError as ConfigError
    from kyolo.config import load_config as load_config
    from kyolo.config import save_config as save_config
    from kyolo.errors import InputError as InputError
    from kyolo.evaluation import evaluate as evaluate
    from kyolo.evaluation import predict as predict
    from kyolo.models import Detector as Detector
    from kyolo.models import YOLOv8 as YOLOv8
    from kyolo.models import build_detector as build_detector
    from kyolo.registry import register as register
    from kyolo.training import train as train

select_keras()

__version__ = "0.1.0"

_HOMES = {
    "Config": "kyolo.config",
    "ConfigError": "kyolo.config",
    "Detector": "kyolo.models",
    "InputError": "kyolo.errors",
    "YOLOv8": "kyolo.models",
    "build_detector": "kyolo.models",
    "evaluate": "kyolo.evaluation",
    "load_config": "kyolo.config",
    "predict": "kyolo.evaluation",
    "register": "kyolo.registry",
    "save_config": "kyolo.config",
    "train": "kyolo.training",
}
_PACKAGES = (
    "ablation",
    "boxes",
    "callbacks",
    "config",
    "data",
    "evaluation",
    "export",
    "layers",
    "losses",
    "models",
    "report",
    "training",
    "weights",
)

__all__ = [*_HOMES, *_PACKAGES]


def __getattr__(name: str) -> typing.Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    if name in _PACKAGES:
        return importlib.import_module(f"kyolo.{name}")
    raise AttributeError(f"module 'kyolo' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
