"""Optimizer and frozen layers from the configuration."""

from collections.abc import Sequence

import keras
import tensorflow as tf

from kyolo import _compat
from kyolo.config import ConfigError, TrainConfig
from kyolo.errors import ArgumentError
from kyolo.models.detector import Detector
from kyolo.models.layer_paths import values_by_variable
from kyolo.training.schedules import WarmupDecay

DECAYED_RANK = 2  # kernels; biases, scales and norms have rank 1 or 0


class _DetectorOptimizer:
    """What both optimizers below have beside Keras': learning-rate factors, and accumulated gradients that sum.

    Keras updates by the mean of the accumulated gradients. Here it is their sum, which is clipped as a whole: the loss
    is a sum over images, so that n batches of B images make the update of one of n B. What stays a batch's own are the
    statistics of batch norm and the sum of target scores that the loss is divided by. Batches after the last whole
    group of a training change nothing.
    """

    def __init__(self, *args, learning_rate_factors=None, **kwargs):
        super().__init__(*args, **kwargs)
        self.learning_rate_factors = dict(learning_rate_factors or {})
        # Keras' own decay would follow the rate without factors, and compute the rate anew for each weight.
        self._decay, self.weight_decay = self.weight_decay, None

    def build(self, variables):
        factors = self.learning_rate_factors
        self._factors = {_compat.variable_key(self, v): factors[v.path] for v in variables if v.path in factors}
        super().build(variables)

    def apply(self, grads, trainable_variables=None):
        steps = self.gradient_accumulation_steps
        if steps is not None:
            grads = [None if grad is None else steps * grad for grad in grads]
        super().apply(grads, trainable_variables)

    def update_step(self, gradient, variable, learning_rate):
        rate = tf.cast(learning_rate, variable.dtype)
        factor = self._factors.get(_compat.variable_key(self, variable))
        if factor is not None:
            rate *= factor
        if self._decay and len(variable.shape) >= DECAYED_RANK:
            self.assign_sub(variable, variable * (self._decay * rate))
        self._move(variable, tf.cast(gradient, variable.dtype), rate)

    def get_config(self):
        factors = dict(self.learning_rate_factors)
        return {**super().get_config(), "weight_decay": self._decay, "learning_rate_factors": factors}


@keras.saving.register_keras_serializable("kyolo")
class AdamW(_DetectorOptimizer, keras.optimizers.AdamW):
    """AdamW with learning-rate factors and accumulated gradients that sum; only weights of rank 2 or more decay.

    Formula and state are Keras'. A step is one operation of TensorFlow's for each weight where Keras has thirty: a
    detector's first step, which builds and optimises the graph, takes a third less time.

    Args:
        *args: see `keras.optimizers.AdamW`.
        amsgrad: must be False, the default: TensorFlow has no such operation.
        learning_rate_factors: factor of the learning rate, and so of the decay, by path of the variable. Default 1.
        **kwargs: see `keras.optimizers.AdamW`.

    Reference:
        Loshchilov and Hutter, Decoupled Weight Decay Regularization, arXiv 1711.05101, algorithm 2.
    """

    def __init__(self, *args, amsgrad=False, **kwargs):
        if amsgrad:
            raise ArgumentError("amsgrad", "expected False, got True. Use keras.optimizers.AdamW for AMSGrad.")
        super().__init__(*args, **kwargs)

    def _move(self, variable, gradient, rate):
        first, second = _compat.adam_moments(self, variable)
        step = tf.cast(self.iterations + 1, variable.dtype)
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=first.value.handle,
            v=second.value.handle,
            beta1_power=self.beta_1**step,
            beta2_power=self.beta_2**step,
            lr=rate,
            beta1=self.beta_1,
            beta2=self.beta_2,
            epsilon=self.epsilon,
            grad=gradient,
        )


@keras.saving.register_keras_serializable("kyolo")
class SGD(_DetectorOptimizer, keras.optimizers.SGD):
    """SGD with learning-rate factors and accumulated gradients that sum; only weights of rank 2 or more decay.

    Args:
        *args: see `keras.optimizers.SGD`.
        learning_rate_factors: factor of the learning rate, and so of the decay, by path of the variable. Default 1.
        **kwargs: see `keras.optimizers.SGD`.
    """

    def _move(self, variable, gradient, rate):
        keras.optimizers.SGD.update_step(self, gradient, variable, rate)


def build_optimizer(
    config: TrainConfig, steps_per_epoch: int, detector: Detector | None = None
) -> keras.optimizers.Optimizer:
    """Builds the optimizer with its learning-rate schedule; only weights of rank 2 or more decay.

    Args:
        config: the block `train`.
        steps_per_epoch: batches in an epoch. Keras counts the schedule's steps in batches, also when gradients
            are accumulated.
        detector: whose layers `learning_rate_factors` names. Default None, where it names none.

    Raises:
        ConfigError: a factor is for layers that there are not.
    """
    settings, schedule = config.optimizer, config.schedule
    rate = WarmupDecay(
        peak=settings.learning_rate,
        total_steps=config.epochs * steps_per_epoch,
        warmup_steps=round(schedule.warmup_epochs * steps_per_epoch),
        final_fraction=schedule.final_fraction,
        kind=schedule.kind,
    )
    shared = {
        "name": "optimizer",  # a default name counts up within a process, and checkpoints go by names
        "weight_decay": settings.weight_decay,
        "global_clipnorm": settings.clip_norm,
        "gradient_accumulation_steps": settings.accumulate_steps if settings.accumulate_steps > 1 else None,
        "learning_rate_factors": _factors_by_variable(detector, settings.learning_rate_factors),
    }
    if settings.kind == "sgd":
        return SGD(rate, momentum=settings.momentum, nesterov=True, **shared)
    return AdamW(rate, beta_1=settings.momentum, **shared)


def _factors_by_variable(detector: Detector | None, factors: dict[str, float]) -> dict[str, float]:
    try:
        return values_by_variable(detector, factors)
    except ArgumentError as error:
        raise ConfigError(f"train.optimizer.learning_rate_factors.{error.argument}", error.problem) from None


def freeze_layers(detector: Detector, names: Sequence[str]) -> None:
    """Takes layers out of training.

    Args:
        detector: a detector that is not compiled yet.
        names: `train.freeze`.

    Raises:
        ConfigError: a name means no layer, or nothing is left to train.
    """
    for number, name in enumerate(names):
        try:
            detector.freeze(name)
        except ValueError as error:
            raise ConfigError(f"train.freeze.{number}", str(error)) from None
    if not detector.trainable_variables:
        raise ConfigError("train.freeze", f"expected layers left to train, received [{', '.join(names)}], all there is")
