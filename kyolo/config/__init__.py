"""The configuration: frozen dataclasses, strict YAML files, dotted overrides and the errors that bad ones raise."""

from kyolo.config.blocks import Block as Block
from kyolo.config.blocks import choices_of as choices_of
from kyolo.config.blocks import one_of as one_of
from kyolo.config.dialect import to_yaml as to_yaml
from kyolo.config.errors import ConfigError as ConfigError
from kyolo.config.files import apply_overrides as apply_overrides
from kyolo.config.files import config_to_dict as config_to_dict
from kyolo.config.files import load_config as load_config
from kyolo.config.files import load_variant as load_variant
from kyolo.config.files import read_yaml as read_yaml
from kyolo.config.files import save_config as save_config
from kyolo.config.model import AssignerConfig as AssignerConfig
from kyolo.config.model import AttentionConfig as AttentionConfig
from kyolo.config.model import BackboneConfig as BackboneConfig
from kyolo.config.model import BoxLossConfig as BoxLossConfig
from kyolo.config.model import ClassificationLossConfig as ClassificationLossConfig
from kyolo.config.model import DFLConfig as DFLConfig
from kyolo.config.model import HeadConfig as HeadConfig
from kyolo.config.model import LossConfig as LossConfig
from kyolo.config.model import ModelConfig as ModelConfig
from kyolo.config.model import NeckConfig as NeckConfig
from kyolo.config.model import WeightsConfig as WeightsConfig
from kyolo.config.schema import AugmentConfig as AugmentConfig
from kyolo.config.schema import Config as Config
from kyolo.config.schema import DataConfig as DataConfig
from kyolo.config.schema import EMAConfig as EMAConfig
from kyolo.config.schema import EvaluationConfig as EvaluationConfig
from kyolo.config.schema import OptimizerConfig as OptimizerConfig
from kyolo.config.schema import ScheduleConfig as ScheduleConfig
from kyolo.config.schema import TrainConfig as TrainConfig
from kyolo.config.schema import image_hw as image_hw
from kyolo.config.schema import training_hw as training_hw

__all__ = [
    "AssignerConfig",
    "AttentionConfig",
    "AugmentConfig",
    "BackboneConfig",
    "Block",
    "BoxLossConfig",
    "ClassificationLossConfig",
    "Config",
    "ConfigError",
    "DFLConfig",
    "DataConfig",
    "EMAConfig",
    "EvaluationConfig",
    "HeadConfig",
    "LossConfig",
    "ModelConfig",
    "NeckConfig",
    "OptimizerConfig",
    "ScheduleConfig",
    "TrainConfig",
    "WeightsConfig",
    "apply_overrides",
    "choices_of",
    "config_to_dict",
    "image_hw",
    "load_config",
    "load_variant",
    "one_of",
    "read_yaml",
    "save_config",
    "to_yaml",
    "training_hw",
]
