"""Several replicas: the GPUs of one machine, or those of the machines that TF_CONFIG names."""

import contextlib
import dataclasses
import json
import re
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from tqdm import tqdm

from kyolo.config import Config, ConfigError, TrainConfig, config_to_dict
from kyolo.data import Index, Share
from kyolo.errors import InputError

LOST = (  # what TensorFlow raises when another worker is gone
    tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.CancelledError, tf.errors.DeadlineExceededError,
    tf.errors.FailedPreconditionError,
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Cluster:
    """The machines of a run, as TF_CONFIG names them.

    Attributes:
        workers: addresses, host:port; the first is the chief's.
        worker: number of this one among them.
    """

    workers: tuple[str, ...]
    worker: int


def read_cluster(environment: Mapping[str, str]) -> Cluster | None:
    """Reads TF_CONFIG; None where there is none.

    Raises:
        InputError: when it is not what TensorFlow expects for training on workers that compute in step.
    """
    text = environment.get("TF_CONFIG")
    if text is None:
        return None
    try:
        document = json.loads(text)
        ((job, workers),), task = document["cluster"].items(), document["task"]
        if (job, task["type"]) != ("worker", "worker") or task["index"] not in range(len(workers)):
            raise ValueError("the task is none of the workers")
        if len(set(workers)) < len(workers) or not all(re.fullmatch(r"[^\s:]+:\d+", address) for address in workers):
            raise ValueError("the addresses are not host:port, each once")
        return Cluster(tuple(workers), int(task["index"]))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        example = '{"cluster": {"worker": ["host-0:2222", "host-1:2222"]}, "task": {"type": "worker", "index": 0}}'
        raise InputError(f"TF_CONFIG: expected JSON such as {example}, received {text:.200} ({error})") from error


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
        if isinstance(config.batch_size, str) or config.batch_size % self.replicas:
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

    @contextlib.contextmanager
    def file_of_chief(self, path: Path) -> Iterator[Path]:
        """The chief's file, for the time of a `with` block: the others have a copy, if there is one."""
        if self.cluster is None:
            yield path
            return
        content = self._bytes_from_chief(path.read_bytes() if self.is_chief and path.exists() else b"")
        with tempfile.TemporaryDirectory() as folder:
            copy = path if self.is_chief else Path(folder) / path.name
            if content and not self.is_chief:
                copy.write_bytes(content)
            del content
            yield copy

    def share_config(self, config: Config | None) -> Config:
        """The chief's configuration, on every worker."""
        if self.cluster is None:
            return config
        return Config.from_mapping(self.from_chief(config and config_to_dict(config)))

    def check_same_data(self, index: Index) -> None:
        """Raises InputError on each worker that has read other data than the chief."""
        own = index.fingerprint()
        expected = self.from_chief(own)
        if own != expected:
            raise InputError(f"The data of the machines differ: expected {expected}, as the chief has, received {own}")

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
        ConnectionError: when another worker has died.
    """
    mirrored = config is not None and config.distribute == "mirrored"
    if cluster is None:
        yield Distribution(_mirrored_strategy() if mirrored else None)
        return
    if mirrored:
        problem = "expected null where TF_CONFIG is set, which has all GPUs of every machine, received mirrored"
        raise ConfigError("train.distribute", problem)
    others = ", ".join(cluster.workers[: cluster.worker] + cluster.workers[cluster.worker + 1 :])
    tqdm.write(f"worker {cluster.worker} of {len(cluster.workers)} waits for {others}", file=sys.stderr)
    with _lost_workers(cluster):
        distribution = Distribution(tf.distribute.MultiWorkerMirroredStrategy(), cluster)
        yield distribution
        distribution.from_chief(None)  # TensorFlow takes a process that ends early for one that has died


def _mirrored_strategy() -> tf.distribute.Strategy:
    devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
    if len(devices) < 2:
        problem = f"expected null, or mirrored on a machine with several GPUs, received mirrored with {devices[0].name}"
        raise ConfigError("train.distribute", problem)
    return tf.distribute.MirroredStrategy([device.name for device in devices])


@contextlib.contextmanager
def _lost_workers(cluster: Cluster) -> Iterator[None]:
    """Says in one line which worker has died: TensorFlow gives up what the others were computing together."""
    try:
        yield
    except LOST as error:
        named = {int(number) for number in re.findall(r"/task:(\d+)", error.message)} - {cluster.worker}
        who = ", ".join(f"worker {number} ({cluster.workers[number]})" for number in sorted(named)) or "another worker"
        raise ConnectionError(
            f"Lost {who}, and with it this run: look for its own message, then start all workers again with --resume"
        ) from error
