"""What the benchmarks share that run Ultralytics, a program in an environment of its own, by its command line."""

import csv
import itertools
import os
import statistics
import subprocess
from pathlib import Path

import common

# On a CPU it computes with one thread fewer than the machine has cores, whatever OMP_NUM_THREADS says. Told of one core
# more, it takes all there are.
ON_ALL_CORES = """
import os, runpy, sys
cores = os.cpu_count() + 1
os.cpu_count = lambda: cores
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def write_set(source, folder):
    """Writes a data set as Ultralytics reads it, and returns the path of its `data.yaml`."""
    from kyolo.data import convert

    convert(source, folder, "yolo")
    return folder / "data.yaml"


def run(yolo, mode, output, *, all_cores=True, **settings):
    """Runs `yolo MODE` on the CPU; what it prints goes to a log beside its output, `output.log`.

    Args:
        yolo: the program.
        mode: "train", "val" or "export".
        output: the folder that it writes.
        all_cores: whether it computes with all cores, or with as many as it takes by itself.
        **settings: further arguments, as it names them.
    """
    fixed = {"device": "cpu", "plots": False, "project": output.parent.resolve(), "name": output.name, "exist_ok": True}
    command = [
        yolo,
        *([] if mode == "export" else ["detect"]),
        mode,
        *(f"{key}={value}" for key, value in (settings | fixed).items()),
    ]
    if all_cores:
        command = [Path(yolo).with_name("python"), "-c", ON_ALL_CORES, *command]
    environment = {**os.environ, "YOLO_OFFLINE": "true"}
    log = output.with_suffix(".log")
    log.parent.mkdir(parents=True, exist_ok=True)
    with open(log, "w", encoding="utf-8") as file:
        done = subprocess.run(command, stdout=file, stderr=subprocess.STDOUT, env=environment, check=False)
    if done.returncode:
        raise SystemExit(f"{yolo} ended with exit code {done.returncode}; see {log}")


def train(yolo, data, output, **settings):
    """Train v8-n from scratch, with its default recipe where `settings` say nothing else."""
    run(yolo, "train", output, model="yolov8n.yaml", data=data, pretrained=False, **settings)


def epoch_seconds(output):
    """Median wall time of the epochs of a training but the first."""
    return statistics.median(after - before for before, after in itertools.pairwise(epoch_ends(output)))


def epoch_ends(output):
    """Seconds from the begin of a training to the end of each epoch, as it keeps them itself."""
    with open(output / "results.csv", encoding="utf-8") as file:
        return [float(row["time"]) for row in csv.DictReader(file, skipinitialspace=True)]


def version(yolo):
    """Its version."""
    return subprocess.run([yolo, "version"], capture_output=True, text=True, check=True).stdout.split()[-1]


def command_line(yolo):
    """The command that this process was started with, with the program by the name that the docs have for it."""
    return common.command_line().replace(yolo, "ENV/bin/yolo")


def add_arguments(parser):
    """The arguments that all of these benchmarks take."""
    parser.add_argument("--yolo", required=True, help="its program, ENV/bin/yolo")
    parser.add_argument("--data", type=Path, required=True, help="folder of a data set")
    parser.add_argument("--image-size", type=int, default=320)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--output", type=Path, required=True, help="folder for the set as it reads it and its runs")
    parser.add_argument("--ledger", type=Path, help="file to append the line to, in benchmarks/results/")
