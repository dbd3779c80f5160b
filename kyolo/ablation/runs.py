"""The runs of a study: which there are, what identifies them, and whether each one can be compared."""

import dataclasses
import hashlib
import json
import math
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from kyolo.ablation.plan import Plan
from kyolo.ablation.score import MATCHES, SCORES
from kyolo.config import Config, config_to_dict

_NO_INFLUENCE = ("path", "cache", "allow_outside")  # settings of the data block that change no result
_COMPARED = ("commit", "processor", "threads", "versions")  # of the environment


@dataclasses.dataclass(frozen=True)
class StudyRun:
    """One training of a study.

    Attributes:
        variant: the variant that it belongs to.
        seed: its `train.seed`.
        config: its configuration.
        path: its run directory, `runs/KEY`. The key is a hash of configuration, data, code and threads, so that
            variants and studies that need the same training share it.
    """

    variant: str
    seed: int
    config: Config
    path: Path

    @property
    def name(self) -> str:
        """The variant and the seed, for messages."""
        return f"{self.variant}:{self.seed}"

    @property
    def trained(self) -> bool:
        """Whether the training has ended."""
        return (self.path / "metrics.json").is_file()

    @property
    def scored(self) -> bool:
        """Whether the run has been evaluated."""
        return (self.path / SCORES).is_file() and (self.path / MATCHES).is_file()

    def scores(self) -> dict[str, Any]:
        """Return what `score_run` wrote."""
        return json.loads((self.path / SCORES).read_text())

    def environment(self) -> dict[str, Any]:
        """Return what the run was made with."""
        return json.loads((self.path / "environment.json").read_text())


def list_runs(plan: Plan, data: str | os.PathLike, folder: Path, threads: int) -> list[StudyRun]:
    """Return all runs of a plan, seed after seed, so that an interrupted study has whole pairs.

    Args:
        plan: the plan.
        data: the data set.
        folder: the study's directory.
        threads: threads of each training.

    Raises:
        ConfigError: a variant's settings do not fit.
        InputError: the data cannot be read.
    """
    from kyolo.training import describe_environment

    environment = describe_environment()
    code = {name: environment[name] for name in ("kyolo", "commit", "versions")}
    fingerprints: dict[str, dict[str, str]] = {}
    runs = []
    for seed in plan.seeds:
        for variant in plan.variants:
            config = plan.config(variant, seed, data)
            block = json.dumps(config_to_dict(config.data))
            if block not in fingerprints:
                fingerprints[block] = _fingerprints(config)
            identity = {"config": _what_matters(config), "data": fingerprints[block], "threads": threads, **code}
            key = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:12]
            runs.append(StudyRun(variant, seed, config, folder / "runs" / key))
    return runs


def _what_matters(config: Config) -> dict[str, Any]:
    document = config_to_dict(config)
    document["data"] = {key: value for key, value in document["data"].items() if key not in _NO_INFLUENCE}
    return document


def _fingerprints(config: Config) -> dict[str, str]:
    from kyolo.training import load_split
    from kyolo.training.splits import validation_split

    splits = ("train", validation_split(config))
    return {split: load_split(config.data, split, check_images=False).fingerprint() for split in splits}


def find_problems(runs: Iterable[StudyRun]) -> dict[str, str]:
    """Return why runs cannot be compared, by name of the run; empty if all can.

    A run must be trained and evaluated, have a finite AP and all of its epochs, and come from the same commit, CPU,
    number of threads and package versions as the first run.
    """
    problems: dict[str, str] = {}
    expected: dict[str, Any] | None = None
    for run in runs:
        problem = _problem(run)
        if problem is None:
            environment = {name: run.environment().get(name) for name in _COMPARED}
            expected = expected or environment
            different = [name for name in _COMPARED if environment[name] != expected[name]]
            if different:
                name = different[0]
                problem = f"{name}: expected {expected[name]}, as in the first run, got {environment[name]}"
        if problem is not None:
            problems[run.name] = problem
    return problems


def _problem(run: StudyRun) -> str | None:
    if not (run.path / "config.yaml").is_file():
        return "missing"
    if not run.trained:
        return "not finished"
    if not run.scored:
        return "not evaluated"
    scores = run.scores()
    if scores["ap"] is None or not math.isfinite(scores["ap"]):
        return "AP is undefined"
    if scores["epochs"] != run.config.train.epochs:
        return f"stopped after epoch {scores['epochs']} of {run.config.train.epochs}"
    return None
