"""Train variants of a configuration with several seeds each, and report which differences are real."""

import argparse
import contextlib
import importlib.util
import io
import json
import os
import sys
import time
import typing
from collections.abc import Iterator, Sequence
from pathlib import Path

from kyolo.cli.options import CheckFailed, import_tensorflow, stderr_discarded
from kyolo.config import ConfigError, training_hw
from kyolo.errors import InputError

if typing.TYPE_CHECKING:
    from kyolo.ablation import Plan, StudyRun

LATENCY_RUNS = 100
NEEDED = ("matplotlib", "scipy")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command."""
    parser.add_argument("--plan", required=True, metavar="FILE", help="YAML file, such as configs/ablation/gam.yaml")
    parser.add_argument("--data", required=True, metavar="SET", help="folder of the data set")
    parser.add_argument("--output", metavar="DIR", help="directory of the study; a new one unless --resume")
    parser.add_argument(
        "--jobs", type=int, default=1, metavar="N", help="trainings side by side, each with its share of the cores"
    )
    parser.add_argument("--resume", action="store_true", help="continue the study in --output")
    parser.add_argument("--dry-run", action="store_true", help="print runs, expected hours and detectable effect")
    parser.add_argument(
        "--exclude", action="append", default=[], metavar="VARIANT:SEED", help="leave a run out; may be repeated"
    )
    parser.add_argument(
        "--spread", type=float, metavar="S", help="standard deviation of the paired differences, for --dry-run"
    )
    parser.add_argument("--pilot", metavar="DIR", help="an earlier study whose spread --dry-run uses")
    parser.add_argument("--no-latency", action="store_true", help="do not measure .tflite latency")


def run(arguments: argparse.Namespace) -> Iterator[dict]:
    """Train what is left of the study, write its report, and yield the results; or describe the study."""
    if arguments.output is None and not arguments.dry_run:
        raise InputError("--output: expected the directory of the study, got nothing. Pass --output DIR.")
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise InputError(f"kyolo ablate: expected {' and '.join(missing)}. Install kyolo-tf[ablation].")
    cores = _cores(arguments.jobs)
    os.environ["TF_NUM_INTRAOP_THREADS"] = str(len(cores[0]))  # as the trainings have it
    from kyolo.ablation import load_plan

    plan = load_plan(arguments.plan)
    spread = _spread(arguments)
    import_tensorflow()
    if arguments.dry_run:
        yield _describe(plan, arguments, len(cores), spread)
        return
    from kyolo import ablation

    folder = Path(arguments.output)
    runs = ablation.list_runs(plan, arguments.data, folder, len(cores[0]))
    unknown = set(arguments.exclude) - {each.name for each in runs}
    if unknown:
        raise InputError(f"--exclude: expected runs such as {runs[0].name}, got {', '.join(sorted(unknown))}.")
    _build_detectors(plan, arguments.data)  # hours of training may come before the variant that cannot be built
    with ablation.open_study(folder, plan, runs, resume=arguments.resume):
        included = [each for each in runs if each.name not in arguments.exclude]
        _train(included, cores)
        problems = ablation.find_problems(included)
        if problems:
            listed = "; ".join(f"{name}: {problem}" for name, problem in problems.items())
            raise CheckFailed(
                f"No report: {len(problems)} of {len(included)} runs cannot be compared: {listed}. See "
                f"{folder / 'logs'}. Pass --resume to run them again, or --exclude to leave them out."
            )
        latency = None if arguments.no_latency else _latency(plan, arguments.data, folder, len(cores[0]))
        document = ablation.summarize(plan, runs, set(arguments.exclude), latency)
        paths = ablation.write_report(document, folder)
    print(document["answer"])
    print("\n".join(map(str, paths)))
    yield document


def _cores(jobs: int) -> list[frozenset[int]]:
    from kyolo.ablation import split_cores

    if jobs < 1:
        raise InputError(f"--jobs: expected 1 or more, got {jobs}.")
    try:
        return split_cores(jobs)
    except ValueError as error:
        raise InputError(f"--jobs: {error}.") from None


def _spread(arguments: argparse.Namespace) -> float | None:
    """Return the standard deviation of the differences that --spread or --pilot names; the largest of a pilot's."""
    if arguments.pilot is None:
        if arguments.spread is not None and not 0 <= arguments.spread < 1:
            raise InputError(f"--spread: expected a difference in AP from 0 to 1, got {arguments.spread}.")
        return arguments.spread
    path = Path(arguments.pilot) / "report.json"
    try:
        variants = json.loads(path.read_text())["variants"]
        return max(variant["comparison"]["spread"] for variant in variants if variant["comparison"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: expected the report of a study, got {error}. Check --pilot.") from None


def _describe(plan: "Plan", arguments: argparse.Namespace, jobs: int, spread: float | None) -> dict:
    """Print and return the size of a study."""
    from kyolo import ablation

    seconds = {}
    for name in plan.variants:
        with stderr_discarded():
            seconds[name] = ablation.run_seconds(plan.config(name, plan.seeds[0], arguments.data))
    pairs, comparisons = len(plan.seeds), plan.comparisons
    least = ablation.least_pairs(comparisons)
    hours = sum(seconds.values()) * pairs / jobs / 3600
    document = {
        "question": plan.question,
        "plan_sha256": plan.digest(),
        "runs": pairs * len(plan.variants),
        "hours": hours,
        "run_seconds": seconds,
        "least_pairs": least,
        "detectable_effect": None if spread is None else ablation.detectable_effect(spread, pairs),
    }
    print(plan.question)
    print(f"{document['runs']} runs: {len(plan.variants)} variants, {pairs} seeds; plan {document['plan_sha256']}")
    print(f"{hours:.1f} hours with {jobs} jobs, from measured steps:")
    for name, each in seconds.items():
        print(f"  {name}: {each:.0f} s per run")
    if pairs < least:
        print(f"Nothing can be significant at 5 %: {comparisons} comparisons need {least} seeds, the plan has {pairs}.")
    if spread is None:
        print("Smallest detectable effect: unknown. Pass --spread S or --pilot DIR.")
    else:
        print(f"Smallest detectable effect: {document['detectable_effect']:.4f} AP (80 % power, spread {spread:.4f})")
    return document


def _train(runs: Sequence["StudyRun"], cores: Sequence[frozenset[int]]) -> None:
    """Train and evaluate what is left, with a line on stderr for each run that ends."""
    from kyolo.ablation import train_runs

    different: dict[Path, StudyRun] = {}
    for each in runs:
        different.setdefault(each.path, each)
    left = [each for each in different.values() if not each.scored]
    done, start, total = 0, time.monotonic(), len(different)

    def report(ended: "StudyRun", code: int) -> None:
        nonlocal done
        done += 1
        gone = time.monotonic() - start
        result = f"failed with exit code {code}"
        if code == 0:
            ap = ended.scores()["ap"]
            result = "AP undefined" if ap is None else f"AP {ap:.4f}"
        remaining = gone / done * (len(left) - done)
        count = total - len(left) + done
        print(f"{count}/{total}  {ended.name}  {result}  {_duration(remaining)} left", file=sys.stderr, flush=True)

    if left:
        train_runs(left, cores, report)


def _duration(seconds: float) -> str:
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min"


def _build_detectors(plan: "Plan", data: str) -> list:
    """Build the detector of each variant as its training does; return them.

    Raises:
        ConfigError: a setting that only the model, the loss or the optimizer can check; the message names the variant.
        InputError: weights to start from cannot be read.
    """
    from kyolo.models import build_loss
    from kyolo.training import load_split, resolve
    from kyolo.training.optimizers import build_optimizer
    from kyolo.training.start import start_detector

    detectors = []
    for name in plan.variants:
        config = plan.config(name, plan.seeds[0], data)
        try:
            with contextlib.redirect_stderr(io.StringIO()):  # the log of each training has these lines
                config = resolve(config, load_split(config.data, "train", check_images=False))
                detector = start_detector(config)
                build_optimizer(config.train, 1, detector)
                build_loss(config.model.loss, training_hw(config))
        except ConfigError as error:
            raise error.under(f"variants.{name}") from None
        detectors.append(detector)
    return detectors


def _latency(plan: "Plan", data: str, folder: Path, threads: int) -> dict[str, dict[str, float]]:
    """Return the milliseconds of every variant; measured once per study, on detectors as training starts with."""
    from kyolo import export
    from kyolo.files import write_text

    path = folder / "latency.json"
    if path.is_file():
        return json.loads(path.read_text())
    print("measuring latency ...", file=sys.stderr)
    with stderr_discarded():
        times = export.time_forms(_build_detectors(plan, data), threads=threads, runs=LATENCY_RUNS)
    found = dict(zip(plan.variants, times, strict=True))
    write_text(path, json.dumps(found, indent=2) + "\n")
    return found
