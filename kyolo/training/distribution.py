"""Several replicas: the GPUs of one machine, or those of the machines that TF_CONFIG names."""

import contextlib
import dataclasses
import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kyolo.config import Config, ConfigError, TrainConfig, config_to_dict
from kyolo.data import Share
from kyolo.errors import InputError
from kyolo.replicas import local_copies
from kyolo.training.cluster import Cluster, join, lost_workers

SENT_AT_ONCE = 64  # variables: fewer calls, without a second copy of the whole model in memory


@dataclasses.dataclass(frozen=True)
class Distribution:
    """The replicas of a run, and what their processes tell each other.

    Attributes:
        strategy: of `tf.distribute`; None for one replica.
        cluster: the machines; None for one.
    """

    strategy: tf.distribute.Strategy | None = None
    cluster: Cluster | None = None

    @property
    def replicas(self) -> int:
        """Number of replicas on all machines."""
        return 1 if self.strategy is None else self.strategy.num_replicas_in_sync

    @property
    def is_chief(self) -> bool:
        """Whether this process is the one that writes, scores and decides."""
        return self.cluster is None or self.cluster.worker == 0

    def scope(self) -> contextlib.AbstractContextManager:
        """A `with` block for what makes variables: each replica gets a copy."""
        return contextlib.nullcontext() if self.strategy is None else self.strategy.scope()

    def check(self, config: TrainConfig) -> None:
        """Raises ConfigError for settings that several replicas cannot have."""
        if self.replicas == 1:
            return
        if isinstance(config.batch_size, int) and config.batch_size % self.replicas:
            problem = f"expected a multiple of the {self.replicas} replicas, received {config.batch_size}"
            raise ConfigError("train.batch_size", problem)
        if config.jit_compile:
            raise ConfigError("train.jit_compile", f"expected false with {self.replicas} replicas, received true")

    def distribute(self, make_batches: Callable[..., tf.data.Dataset]) -> Any:
        """The batches of all replicas of this process, from a function that makes those of a `share`."""
        if self.strategy is None:
            return make_batches(share=Share())
        workers = 1 if self.cluster is None else len(self.cluster.workers)
        count = self.replicas // workers
        first = 0 if self.cluster is None else self.cluster.worker * count
        share = Share(self.replicas, first, count)
        return self.strategy.distribute_datasets_from_function(lambda context: make_batches(share=share))  # noqa: ARG005

    def from_chief(self, document: Any) -> Any:
        """The chief's JSON document, on every worker; all of them must call it."""
        if self.cluster is None:
            return document
        return json.loads(self._bytes_from_chief(json.dumps(document).encode()))

    def share_variables(self, variables: Sequence[keras.Variable]) -> None:
        """Gives variables the values that they have on the chief; all workers must call it."""
        if self.cluster is None:
            return
        for start in range(0, len(variables), SENT_AT_ONCE):
            some = variables[start : start + SENT_AT_ONCE]
            values = [local_copies(variable)[0].numpy() for variable in some]
            received = self._bytes_from_chief(b"".join(value.tobytes() for value in values))
            for variable, value in zip(some, values, strict=True):
                own, received = received[: value.nbytes], received[value.nbytes :]
                variable.assign(np.frombuffer(own, value.dtype).reshape(value.shape))

    def share_config(self, config: Config | None) -> Config:
        """The chief's configuration, on every worker."""
        if self.cluster is None:
            return config
        return Config.from_mapping(self.from_chief(config and config_to_dict(config)))

    def check_same_data(self, fingerprints: dict[str, str]) -> None:
        """Raises InputError on each worker that has read other data than the chief: the fingerprint of each split."""
        for (split, own), expected in zip(fingerprints.items(), self.from_chief([*fingerprints.values()]), strict=True):
            if own != expected:
                raise InputError(
                    f"The data of the machines differ: expected in {split} {expected}, as the chief has, received {own}"
                )

    def _bytes_from_chief(self, content: bytes) -> bytes:
        size = int(self._from_first_replica(np.array([len(content)]))[0])
        padded = np.zeros(size // 8 + 1, np.int64)  # never of size 0, which TensorFlow cannot sum
        if self.is_chief:
            padded.view(np.uint8)[:size] = np.frombuffer(content, np.uint8)
        return self._from_first_replica(padded).tobytes()[:size]

    def _from_first_replica(self, values: np.ndarray) -> np.ndarray:
        """The values of the first replica of all, int64: the others add 0."""
        own = self.strategy.experimental_distribute_values_from_function(
            lambda context: tf.constant(values if context.replica_id_in_sync_group == 0 else np.zeros_like(values))
        )
        return self.strategy.reduce("SUM", own, axis=None).numpy()


@contextlib.contextmanager
def start_distribution(config: TrainConfig | None, cluster: Cluster | None) -> Iterator[Distribution]:
    """The replicas that a run has, for the time of a `with` block. TensorFlow must not have been used before.

    Args:
        config: the block `train`; None where only the chief knows it.
        cluster: the machines; None for one.

    Raises:
        ConfigError: for `train.distribute` on one device, or on several machines.
        InputError: when another program has this worker's port.
        WorkerLostError: when another worker has died, or did not come.
    """
    mirrored = config is not None and config.distribute == "mirrored"
    if cluster is None:
        yield Distribution(_mirrored_strategy() if mirrored else None)
        return
    if mirrored:
        problem = "expected null where TF_CONFIG is set, which has all GPUs of every machine, received mirrored"
        raise ConfigError("train.distribute", problem)
    distribution = Distribution(join(cluster), cluster)
    with lost_workers(cluster):
        yield distribution
        distribution.from_chief(None)  # TensorFlow takes a process that ends early for one that has died


def _mirrored_strategy() -> tf.distribute.Strategy:
    devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
    if len(devices) < 2:
        problem = f"expected null, or mirrored on a machine with several GPUs, received mirrored with {devices[0].name}"
        raise ConfigError("train.distribute", problem)
    return tf.distribute.MirroredStrategy([device.name for device in devices])
