"""Studies whose runs are written by hand, without any training."""

import json

import numpy as np

from kyolo.ablation import load_plan
from kyolo.ablation.matches import match
from kyolo.ablation.runs import StudyRun
from kyolo.ablation.score import MATCHES, SCORES
from tests.ablation.matches_test import random_split

PLAN = """question: Does it matter?
base: base.yaml
seeds: 6
smallest_effect: 0.005
variants:
  baseline: {}
  gam: {model.attention: [{kind: gam}]}
  small: {model.backbone.size: p}
"""
BASE = "model: {backbone: {size: n}}\ntrain: {epochs: 2}\n"
ENVIRONMENT = {"commit": "0123abc", "processor": "a CPU", "threads": 1, "versions": {"keras": "3.15.1"}}


def write_plan(folder, text=PLAN):
    (folder / "base.yaml").write_text(BASE)
    (folder / "plan.yaml").write_text(text)
    return folder / "plan.yaml"


def write_run(path, ap, seed=0, **environment):
    """What a training and its evaluation leave, with this AP."""
    path.mkdir(parents=True)
    scores = {
        **dict.fromkeys(("ap50", "ap75", "ap_small", "ap_medium"), 0.5),
        "ap": ap,
        "ap_large": None,
        "per_class": {"cell": ap},
        "epochs": 2,
        "parameters": 1000,
        "gflop": 0.5,
        "train_seconds": 60.0 + seed,
        "curve": {"1": ap / 2, "2": ap},
    }
    (path / "config.yaml").write_text("")
    (path / "metrics.json").write_text("{}")
    (path / "environment.json").write_text(json.dumps(ENVIRONMENT | environment))
    (path / SCORES).write_text(json.dumps(scores))
    match(*random_split(seed)).save(path / MATCHES)


def write_study(folder, effects, spread=0.001):
    """The plan, and its runs with a mean difference of each variant from the baseline."""
    plan = load_plan(write_plan(folder))
    random, runs = np.random.default_rng(0), []
    for seed in plan.seeds:
        shared = random.normal(0.5, 0.02)
        for variant in plan.variants:
            run = StudyRun(variant, seed, plan.config(variant, seed, folder), folder / "runs" / f"{variant}{seed}")
            write_run(run.path, shared + effects.get(variant, 0.0) + random.normal(0, spread))
            runs.append(run)
    return plan, runs
