"""What the benchmarks share: timing of training steps, memory, and the ledgers."""

import hashlib
import json
import os
import resource
import shlex
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # as the command line has it

RESULTS = ROOT / "benchmarks" / "results"


def publish(line, ledger):
    """Print the line of a measurement as JSON; append it to a ledger where one is given."""
    text = json.dumps(line)
    if ledger is not None:
        with open(ledger, "a", encoding="utf-8") as file:
            file.write(text + "\n")
    print(text)


def describe_run(path):
    """What a ledger says of a run: its configuration, how it ended, and what it was made with."""
    from kyolo.training import load_checkpoint, open_run

    run = open_run(path)
    metrics = json.loads((run.path / "metrics.json").read_text())
    history = load_checkpoint(run.weights_path("last")).state["history"]
    return {
        "config_sha256": hashlib.sha256((run.path / "config.yaml").read_bytes()).hexdigest()[:16],
        "data": Path(run.config.data.path).name,
        "seed": run.config.train.seed,
        "precision": run.config.train.precision,
        "epochs": run.config.train.epochs,
        "epochs_done": len(history),
        "best": {key: metrics[key] for key in ("epoch", "ap", "ap50", "ap75", "per_class")},
        "last": {key: history[-1][f"val_{key}"] for key in ("ap", "ap50", "ap75")},
        "train_s": round(sum(row["seconds"] for row in history)),
        **json.loads((run.path / "environment.json").read_text()),
    }


def command_line():
    """The command that this process was started with, with the folder of the data sets by its variable's name."""
    command = shlex.join(["python", str(Path(sys.argv[0]).resolve().relative_to(ROOT)), *sys.argv[1:]])
    folder = os.environ.get("KYOLO_DATA")
    return command.replace(folder, "$KYOLO_DATA") if folder else command


def peak_memory_gb():
    """The most memory that this process has held so far, in 10^9 bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9  # Linux counts KiB


def resident_memory_mb():
    """The memory that this process holds now, in 10^6 bytes."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return round(pages * os.sysconf("SC_PAGE_SIZE") / 1e6, 1)


def step_timer():
    """A Keras callback whose `seconds` are the wall times of the training steps, the first with tracing."""
    import keras

    class StepTimer(keras.callbacks.Callback):
        def __init__(self):
            super().__init__()
            self.seconds = []

        def on_train_batch_begin(self, batch, logs=None):  # noqa: ARG002 (Keras' signature)
            self._start = time.perf_counter()

        def on_train_batch_end(self, batch, logs=None):  # noqa: ARG002
            self.seconds.append(time.perf_counter() - self._start)

    return StepTimer()


def epoch_timer():
    """A Keras callback whose `seconds` are the wall times of the epochs, waiting for data included."""
    import keras

    class EpochTimer(keras.callbacks.Callback):
        def __init__(self):
            super().__init__()
            self.seconds = []

        def on_epoch_begin(self, epoch, logs=None):  # noqa: ARG002
            self._start = time.perf_counter()

        def on_epoch_end(self, epoch, logs=None):  # noqa: ARG002
            self.seconds.append(time.perf_counter() - self._start)

    return EpochTimer()
