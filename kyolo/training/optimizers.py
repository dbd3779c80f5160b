"""Optimizer and precision from the configuration."""

from pathlib import Path

import keras
import tensorflow as tf

from kyolo.config import TrainConfig
from kyolo.training.schedules import WarmupDecay

FAST_BFLOAT16 = {"avx512_bf16", "amx_bf16"}  # processor flags
FAST_BFLOAT16_GPU = (8, 0)  # compute capability
FAST_FLOAT16_GPU = (7, 0)


@keras.saving.register_keras_serializable("kyolo")
class AdamW(keras.optimizers.AdamW):
    """`keras.optimizers.AdamW` whose step is one operation of TensorFlow's for each weight, where Keras has thirty.

    The formula and its state are Keras'; a detector's first step, which builds and optimises the graph, takes a third
    less time.

    Args:
        *args: see `keras.optimizers.AdamW`.
        amsgrad: must be False, the default: TensorFlow has no such operation.
        **kwargs: see `keras.optimizers.AdamW`.

    Reference:
        Loshchilov and Hutter, Decoupled Weight Decay Regularization, arXiv 1711.05101, algorithm 2.
    """

    def __init__(self, *args, amsgrad=False, **kwargs):
        if amsgrad:
            raise ValueError("amsgrad: expected False, received True; keras.optimizers.AdamW has it")
        super().__init__(*args, **kwargs)

    def update_step(self, gradient, variable, learning_rate):
        index = self._get_variable_index(variable)
        step = tf.cast(self.iterations + 1, variable.dtype)
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=self._momentums[index].value.handle,
            v=self._velocities[index].value.handle,
            beta1_power=self.beta_1**step,
            beta2_power=self.beta_2**step,
            lr=tf.cast(learning_rate, variable.dtype),
            beta1=self.beta_1,
            beta2=self.beta_2,
            epsilon=self.epsilon,
            grad=tf.cast(gradient, variable.dtype),
        )


def build_optimizer(config: TrainConfig, steps_per_epoch: int) -> keras.optimizers.Optimizer:
    """Builds the optimizer with its learning-rate schedule; only kernels decay.

    Args:
        config: the block `train`.
        steps_per_epoch: batches in an epoch. Keras counts the schedule's steps in batches, also when gradients
            are accumulated.
    """
    settings, schedule = config.optimizer, config.schedule
    rate = WarmupDecay(
        peak=settings.learning_rate,
        total_steps=config.epochs * steps_per_epoch,
        warmup_steps=round(schedule.warmup_epochs * steps_per_epoch),
        final_fraction=schedule.final_fraction,
        kind=schedule.kind,
    )
    common = {
        "name": "optimizer",  # a default name counts up within a process, and checkpoints go by names
        "weight_decay": settings.weight_decay,
        "global_clipnorm": settings.clip_norm,
        "gradient_accumulation_steps": settings.accumulate_steps if settings.accumulate_steps > 1 else None,
    }
    if settings.kind == "sgd":
        optimizer = keras.optimizers.SGD(rate, momentum=settings.momentum, nesterov=True, **common)
    else:
        optimizer = AdamW(rate, beta_1=settings.momentum, **common)
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    return optimizer


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
