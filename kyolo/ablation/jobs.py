"""Trainings side by side: each in a process of its own, with its own cores and as many threads."""

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from kyolo.ablation.runs import StudyRun
from kyolo.config import save_config

POLL = 0.2  # seconds
PATIENCE = 60  # seconds that an interrupted training has to write its last line


@dataclass
class _Slot:
    """Cores, and what runs on them."""

    cores: frozenset[int]
    run: StudyRun | None = None
    process: subprocess.Popen | None = None
    commands: list[list[str]] = field(default_factory=list)


def split_cores(jobs: int) -> list[frozenset[int]]:
    """Return the cores of each of `jobs` jobs: as many for each, and none in two.

    Raises:
        ValueError: there are more jobs than cores.
    """
    cores = sorted(os.sched_getaffinity(0))
    each = len(cores) // jobs
    if not each:
        raise ValueError(f"expected at most {len(cores)}, the number of cores, got {jobs}")
    return [frozenset(cores[i * each : (i + 1) * each]) for i in range(jobs)]


def train_runs(
    runs: Sequence[StudyRun], cores: Sequence[frozenset[int]], on_end: Callable[[StudyRun, int], None]
) -> None:
    """Train and evaluate runs, as many at a time as there are sets of cores.

    A run that was interrupted is resumed. On Ctrl-C or SIGTERM the trainings are stopped, and resume later.

    Args:
        runs: in the order in which they start.
        cores: cores of each job.
        on_end: called with each run that ends, and its exit code.
    """
    for run in runs:
        log_path(run).parent.mkdir(parents=True, exist_ok=True)
    waiting, slots = list(runs), [_Slot(each) for each in cores]
    try:
        while waiting or any(slot.run for slot in slots):
            for slot in slots:
                if slot.run is None and waiting:
                    slot.run = waiting.pop(0)
                    slot.commands = _commands(slot.run)
                _advance(slot, on_end)
            time.sleep(POLL)
    finally:
        _stop([slot.process for slot in slots if slot.process is not None])


def _advance(slot: _Slot, on_end: Callable[[StudyRun, int], None]) -> None:
    """Start the next command of a slot when the last one has ended; report the run after the last command."""
    if slot.run is None:
        return
    code = 0
    if slot.process is not None:
        ended = slot.process.poll()
        if ended is None:
            return
        code, slot.process = ended, None
    if code == 0 and slot.commands:
        slot.process = _start(slot.commands.pop(0), slot.run, slot.cores)
        return
    on_end(slot.run, code)
    slot.run = None


def _commands(run: StudyRun) -> list[list[str]]:
    """Return what is left to do for a run."""
    commands = []
    if not run.trained:
        train = [sys.executable, "-m", "kyolo", "train", "--output", str(run.path)]
        if (run.path / "config.yaml").is_file():
            train.append("--resume")
        else:
            config = log_path(run).with_suffix(".yaml")
            save_config(run.config, config)
            train += ["--config", str(config)]
        commands.append(train)
    if not run.scored:
        commands.append([sys.executable, "-m", "kyolo.ablation.score", str(run.path)])
    return commands


def log_path(run: StudyRun) -> Path:
    """Return the file that holds what a run printed."""
    return run.path.parent.parent / "logs" / f"{run.path.name}.log"


def _start(command: list[str], run: StudyRun, cores: frozenset[int]) -> subprocess.Popen:
    """Start a command on its cores. It leads a process group, so that Ctrl-C reaches only the study itself."""
    threads = str(len(cores))
    root = str(Path(__file__).resolve().parents[2])  # this kyolo, wherever the command is started
    paths = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = os.environ | {
        "TF_NUM_INTRAOP_THREADS": threads,
        "TF_NUM_INTEROP_THREADS": threads,
        "OMP_NUM_THREADS": threads,
        "TF_ENABLE_ONEDNN_OPTS": "1",  # as the command line has it
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "PYTHONPATH": os.pathsep.join(paths),
    }
    with open(log_path(run), "ab") as log:
        process = subprocess.Popen(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )
    with contextlib.suppress(ProcessLookupError):  # it has ended already; its exit code says why
        os.sched_setaffinity(process.pid, cores)
    return process


def _stop(processes: Sequence[subprocess.Popen]) -> None:
    for process in processes:
        process.terminate()
    for process in processes:
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
