"""The machines of a run: who they are, by TF_CONFIG, how they come together, and what is said when one is lost."""

import contextlib
import dataclasses
import json
import re
import signal
import sys
import threading
from collections.abc import Iterator, Mapping

import tensorflow as tf
from tqdm import tqdm

from kyolo.errors import InputError, WorkerLostError

LOST = (  # what TensorFlow raises when another worker is gone
    tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.CancelledError, tf.errors.DeadlineExceededError,
    tf.errors.FailedPreconditionError,
)  # fmt: skip
EXAMPLE = '{"cluster": {"worker": ["host-0:2222", "host-1:2222"]}, "task": {"type": "worker", "index": 0}}'
ADDRESS = re.compile(r"[^\s:]+:(\d{1,5})")


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
    """Reads TF_CONFIG; None where it is not set, or empty.

    A cluster may have one "chief" beside its workers, as TensorFlow's own scripts call the first.

    Raises:
        InputError: when it is not what TensorFlow expects for training on workers that compute in step.
    """
    text = environment.get("TF_CONFIG")
    if not text:
        return None
    try:
        document = json.loads(text)
        jobs, task = document["cluster"], document["task"]
        if unknown := set(jobs) - {"chief", "worker"}:
            raise ValueError(f"jobs {sorted(unknown)}, of which training in step has none")
        if len(jobs.get("chief", ())) > 1:
            raise ValueError("more than one chief")
        tasks = [(job, number) for job in ("chief", "worker") for number in range(len(jobs.get(job, ())))]
        workers = [jobs[job][number] for job, number in tasks]
        if (task["type"], task["index"]) not in tasks:
            raise ValueError("the task is none of the workers")
        if len(set(workers)) < len(workers) or not all(map(_is_address, workers)):
            raise ValueError("the addresses are not host:port, each once, with ports from 1 to 65535")
        return Cluster(tuple(workers), tasks.index((task["type"], task["index"])))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"TF_CONFIG: expected JSON such as {EXAMPLE}, received {text:.200} ({error})") from error


def _is_address(text: str) -> bool:
    found = ADDRESS.fullmatch(text)
    return found is not None and 0 < int(found[1]) < 2**16


def join(cluster: Cluster) -> tf.distribute.Strategy:
    """Waits, for an hour at most, until all workers are there; each takes all GPUs of its machine.

    Raises:
        InputError: another program has this worker's port.
        WorkerLostError: the others did not come, or went before all were there.
    """
    others = ", ".join(cluster.workers[: cluster.worker] + cluster.workers[cluster.worker + 1 :])
    waits = f"waits for {others}" if others else "is alone"
    tqdm.write(f"worker {cluster.worker} of {len(cluster.workers)} {waits}", file=sys.stderr)
    resolver = tf.distribute.cluster_resolver.SimpleClusterResolver(
        tf.train.ClusterSpec({"worker": cluster.workers}),
        task_type="worker",
        task_id=cluster.worker,
        rpc_layer="grpc",
        num_accelerators={"GPU": len(tf.config.get_visible_devices("GPU"))},
    )
    own = cluster.workers[cluster.worker]
    try:
        with _interrupt_ends_the_process():
            return tf.distribute.MultiWorkerMirroredStrategy(cluster_resolver=resolver)
    except tf.errors.OpError as error:
        if "Could not start gRPC server" in error.message:
            raise InputError(
                f"TF_CONFIG: expected in cluster.worker.{cluster.worker} a port that is free, received {own}; end what "
                f"uses it, or name another on all machines"
            ) from error
        raise WorkerLostError(
            f"worker {cluster.worker} ({own}) did not get together with {others}: look at theirs, and start all again "
            f"(TensorFlow: {_summary(error)})"
        ) from error


@contextlib.contextmanager
def _interrupt_ends_the_process() -> Iterator[None]:
    """Has Ctrl-C end the process at once, and SIGTERM do as before afterwards.

    While TensorFlow waits, no Python runs, handlers neither, and it has a handler of its own for SIGTERM by then.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    interrupt, terminate = signal.signal(signal.SIGINT, signal.SIG_DFL), signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, interrupt)
        signal.signal(signal.SIGTERM, terminate)


@contextlib.contextmanager
def lost_workers(cluster: Cluster) -> Iterator[None]:
    """Says in one line which worker has died: TensorFlow gives up what the others compute with it."""
    try:
        yield
    except LOST as error:
        named = {int(number) for number in re.findall(r"/task:(\d+)", error.message)} - {cluster.worker}
        who = ", ".join(f"worker {number} ({cluster.workers[number]})" for number in sorted(named))
        raise WorkerLostError(
            f"Lost {who or 'what the workers compute together'}, and with it this run: look for the messages of the "
            f"others, then start all workers again with --resume (TensorFlow: {_summary(error)})"
        ) from error


def _summary(error: tf.errors.OpError) -> str:
    """One line of what TensorFlow says in many: the one after a graph's stack of calls, if there is one."""
    lines = [line.strip() for line in error.message.splitlines() if line.strip()]
    telling = [line for line in lines if re.search("abort|unavailable|timeout|heartbeat|cancel", line, re.IGNORECASE)]
    return f"{type(error).__name__}: {(telling or lines or [''])[0]:.200}"
