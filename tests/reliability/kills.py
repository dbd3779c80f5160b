"""Kills trainings at random moments, resumes them until they are done, and compares with one that nobody disturbed.

python tests/reliability/kills.py --tries 20          # what `make reliability TRIES=20` runs
python tests/reliability/kills.py --tries 1 --seed 7  # repeats the try that printed seed 7

Half of the kills come from outside after a random time, half are planted before a random call (`planted_kill.py`).
"""

import argparse
import csv
import dataclasses
import json
import os
import random
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = Path(__file__).with_name("planted_kill.py")
MOST_KILLS = 3  # of one training
VARIANTS = {  # the data, and the settings beside those below
    "float32": ("data", ()),
    "tfrecord": ("records", ()),
    "accumulated": ("data", ("train.optimizer.accumulate_steps=2", "train.optimizer.kind=sgd")),
    "sampled": ("data", ("data.repeat_threshold=0.4", "augment.multi_scale=0.5")),
    "mixed_bfloat16": ("data", ("train.precision=mixed_bfloat16",)),
    "mixed_float16": ("data", ("train.precision=mixed_float16",)),
}
SETTINGS = (  # Three epochs of three steps; checkpoints after steps 2, 3, 4, 6, 8 and 9.
    "model.backbone.size=p", "model.levels=[P2, P3]", "model.loss.box.kind=wiou",
    "data.image_size=32", "train.epochs=3", "train.batch_size=4", "train.precision=float32", "train.checkpoint_every=2",
    "train.schedule.warmup_epochs=0.5", "augment.close_mosaic=1", "train.tensorboard=false",
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Kill:
    """When a training is killed: before the n-th of a call, or seconds after it took its lock. By default never."""

    call: str = "step"
    number: int = 0
    delay: float | None = None


def write_data(folder):
    from kyolo.data import convert, write_shapes

    write_shapes(folder / "data", train=10, val=4, image_size=32)
    convert(folder / "data", folder / "records", "tfrecord", shards=2)


def start(run, variant, kill=Kill()):
    """Starts a training on the data beside its folder, or goes on with it: returns the process."""
    arguments = ["--resume"]
    if not (run / "config.yaml").exists():
        data, more = VARIANTS[variant]
        settings = [argument for setting in (*SETTINGS, *more) for argument in ("--set", setting)]
        arguments = ["--config", ROOT / "configs" / "yolov8_n.yaml", "--data", run.parent / data, *settings]
    return subprocess.Popen(
        [sys.executable, PROGRAM, kill.call, str(kill.number), "train", "--output", run, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process):
    """Waits for a training: the counts of its calls if it came to its end, None if it was killed."""
    stdout, stderr = process.communicate()
    if process.returncode not in (0, -signal.SIGKILL):
        command = shlex.join(map(str, process.args))
        raise RuntimeError(f"{command}\nended with {process.returncode}:\n{stderr}")
    return json.loads(stdout.splitlines()[-1]) if process.returncode == 0 else None


def train(run, variant, kill=Kill()):
    """Starts or resumes a training and waits for its end or its kill, as `finish` does."""
    lock = run / "run.lock"
    before = lock.stat().st_mtime_ns if lock.exists() else None
    process = start(run, variant, kill)
    if kill.delay is not None:
        while process.poll() is None and (not lock.exists() or lock.stat().st_mtime_ns == before):
            time.sleep(0.01)
        try:
            process.wait(kill.delay)
        except subprocess.TimeoutExpired:
            process.kill()
    return finish(process)


def differences(reference, run):
    """What differs between two runs that are done, to the last bit; what took how long does not count."""
    found = [f"left behind: {path.name}" for path in run.rglob("*") if path.suffix in (".part", ".lock")]
    for name in ("last.npz", "best.npz"):
        one, other = (dict(np.load(folder / "weights" / name)) for folder in (reference, run))
        states = [_without_time(json.loads(arrays.pop("state").tobytes())) for arrays in (one, other)]
        found += [f"{name}: state: {states[0]} {states[1]}"] * (states[0] != states[1])
        found += [f"{name}: {key}" for key in one.keys() ^ other.keys()]
        found += [f"{name}: {key}" for key in one.keys() & other.keys() if one[key].tobytes() != other[key].tobytes()]
    histories = [_read_history(folder / "history.csv") for folder in (reference, run)]
    found += ["history.csv"] * (histories[0] != histories[1])
    texts = [(folder / "metrics.json").read_text() for folder in (reference, run)]
    return found + ["metrics.json"] * (texts[0] != texts[1])


def _without_time(state):
    return {**state, "history": [{**row, "seconds": None} for row in state.get("history", [])]}


def _read_history(path):
    with open(path, newline="") as file:
        return [{**row, "seconds": None} for row in csv.DictReader(file)]


def choose(seed, calls, seconds):
    """The kills of one try: a function of the seed, of the calls that a training makes, and of the time it takes."""
    chance = random.Random(seed)
    for _ in range(chance.randint(1, MOST_KILLS)):
        call = chance.choice(sorted(calls))
        planted = Kill(call, chance.randint(1, calls[call]))
        timed = Kill(delay=chance.uniform(0, seconds))
        yield chance.choice([planted, timed])


def try_once(folder, seed, variant, calls, seconds):
    """Trains with kills in `folder/SEED`; returns what differs from `folder/VARIANT`, which nobody disturbed."""
    run = folder / str(seed)
    for kill in choose(seed, calls, seconds):
        print(f"  {kill}", flush=True)
        if train(run, variant, kill) is not None:  # the call did not come again, or the end came first
            break
    else:
        train(run, variant)
    return differences(folder / variant, run)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tries", type=int, default=10)
    parser.add_argument(
        "--seed", type=int, default=int(time.time()), help="of the first try; the next has the next one"
    )
    args = parser.parse_args()
    failed = []
    undisturbed = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_data(folder)
        for seed in range(args.seed, args.seed + args.tries):
            variant = list(VARIANTS)[seed % len(VARIANTS)]
            print(f"seed {seed}: {variant}", flush=True)
            if variant not in undisturbed:
                begin = time.monotonic()
                undisturbed[variant] = train(folder / variant, variant), time.monotonic() - begin
            different = try_once(folder, seed, variant, *undisturbed[variant])
            print(f"  {different or 'equal'}", flush=True)
            failed += [seed] * bool(different)
    print(f"{args.tries - len(failed)} of {args.tries} trainings equal; seeds that failed: {failed or 'none'}")
    return 1 if failed else 0


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    sys.path.insert(0, str(ROOT))
    sys.exit(main())
