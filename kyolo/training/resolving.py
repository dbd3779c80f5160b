"""What the data and the machine decide: classes, precision, batch size, warm-up."""

import dataclasses
import math
import sys
from pathlib import Path

import tensorflow as tf
from tqdm import tqdm

from kyolo.config import Config, ConfigError
from kyolo.data import Index, ShardedIndex
from kyolo.training.batch_size import resolve_batch_size

FAST_BFLOAT16 = {"avx512_bf16", "amx_bf16"}  # processor flags
FAST_BFLOAT16_GPU = (8, 0)  # compute capability
FAST_FLOAT16_GPU = (7, 0)


def resolve(config: Config, index: Index, replicas: int = 1) -> Config:
    """Fill in what the data and the machine decide: classes, precision, batch size and a warm-up that is too long.

    Args:
        config: the configuration.
        index: the data that is trained on.
        replicas: number of them, on all machines.

    Raises:
        ConfigError: when the configuration names other classes than the data, or accumulates more batches than there
            are.
    """
    names, count = config.data.class_names, config.model.num_classes
    if names not in (None, index.class_names):
        raise ConfigError(
            "data.class_names", f"expected {list(index.class_names)} as in the data, received {list(names)}"
        )
    if count not in (None, len(index.class_names)):
        raise ConfigError("model.num_classes", f"expected {len(index.class_names)} as in the data, received {count}")
    if config.data.repeat_threshold is not None and isinstance(index, ShardedIndex):
        raise ConfigError(
            "data.repeat_threshold",
            f"expected null with TFRecords, which are read in the order of their files, received "
            f"{config.data.repeat_threshold}",
        )
    fitted = fit_warmup(config)
    if fitted != config:
        epochs = fitted.train.schedule.warmup_epochs
        tqdm.write(f"train.schedule.warmup_epochs: {epochs:g}, half of train.epochs\n", file=sys.stderr)
    config = dataclasses.replace(
        fitted,
        model=dataclasses.replace(config.model, num_classes=len(index.class_names)),
        data=dataclasses.replace(config.data, class_names=index.class_names),
        train=dataclasses.replace(config.train, precision=resolve_precision(config.train.precision)),
    )
    batch_size = resolve_batch_size(config, index, replicas)
    accumulated = config.train.optimizer.accumulate_steps
    steps = config.train.epochs * math.ceil(index.num_images / batch_size)
    if accumulated > steps:
        problem = f"expected at most {steps}, the batches of the whole training, or no update would be made"
        raise ConfigError("train.optimizer.accumulate_steps", f"{problem}; received {accumulated}")
    return dataclasses.replace(config, train=dataclasses.replace(config.train, batch_size=batch_size))


def fit_warmup(config: Config) -> Config:
    """Return the config with a warm-up that ends within the training: half of its epochs if it would not.

    Args:
        config: the configuration.

    Example:
        >>> fit_warmup(kyolo.Config(train={"epochs": 1})).train.schedule.warmup_epochs
        0.5
    """
    train = config.train
    if train.schedule.warmup_epochs < train.epochs:
        return config
    schedule = dataclasses.replace(train.schedule, warmup_epochs=train.epochs / 2)
    return dataclasses.replace(config, train=dataclasses.replace(train, schedule=schedule))


def resolve_precision(precision: str) -> str:
    """Turns "auto" into what this machine computes fastest without harm: the name of a Keras dtype policy.

    A GPU of compute capability 8 and a CPU with AVX512-BF16 or AMX get mixed_bfloat16, an older GPU with half-precision
    units mixed_float16, everything else float32.
    """
    if precision != "auto":
        return precision
    gpus = tf.config.list_physical_devices("GPU")
    if gpus:
        capability = tf.config.experimental.get_device_details(gpus[0]).get("compute_capability", (0, 0))
        if capability >= FAST_BFLOAT16_GPU:
            return "mixed_bfloat16"
        return "mixed_float16" if capability >= FAST_FLOAT16_GPU else "float32"
    return "mixed_bfloat16" if FAST_BFLOAT16 & _processor_flags() else "float32"


def _processor_flags() -> set[str]:
    description = Path("/proc/cpuinfo")
    if not description.is_file():  # not Linux
        return set()
    lines = description.read_text().splitlines()
    return next((set(line.split(":")[1].split()) for line in lines if line.startswith("flags")), set())
