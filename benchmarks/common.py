"""What the benchmarks share: timing of training steps, and who measured what with which versions."""

import importlib.metadata
import os
import platform
import resource
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # as the command line has it

PACKAGES = ("tensorflow", "keras", "keras-cv", "numpy")


def environment():
    """The commit, the versions and the processor that a figure belongs to."""
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return {
        "commit": commit.stdout.strip() or None,
        "python": platform.python_version(),
        "versions": {name: importlib.metadata.version(name) for name in PACKAGES},
        "processor": processor(),
        "cores": os.cpu_count(),
    }


def processor():
    """Name of the processor."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.processor())


def peak_memory_gb():
    """The most memory that this process has held so far, in 10^9 bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9  # Linux counts KiB


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
