"""Training runs: from a configuration to a folder of weights and scores, and back to a detector."""

from kyolo.training.checkpoint import Checkpoint as Checkpoint
from kyolo.training.checkpoint import load_checkpoint as load_checkpoint
from kyolo.training.checkpoint import save_checkpoint as save_checkpoint
from kyolo.training.environment import describe_environment as describe_environment
from kyolo.training.fit import train as train
from kyolo.training.resolving import resolve as resolve
from kyolo.training.run_folder import Run as Run
from kyolo.training.run_folder import open_run as open_run
from kyolo.training.schedules import WarmupDecay as WarmupDecay
from kyolo.training.splits import load_split as load_split
from kyolo.training.splits import read_options as read_options

__all__ = [
    "Checkpoint",
    "Run",
    "WarmupDecay",
    "describe_environment",
    "load_checkpoint",
    "load_split",
    "open_run",
    "read_options",
    "resolve",
    "save_checkpoint",
    "train",
]
