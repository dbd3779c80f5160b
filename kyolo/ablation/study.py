"""The results of a study: what every variant reached, and what its difference from the baseline is worth."""

import dataclasses
import statistics as stats
from collections.abc import Mapping, Sequence, Set
from typing import Any

import numpy as np

from kyolo.ablation.matches import Matches
from kyolo.ablation.plan import Plan
from kyolo.ablation.runs import StudyRun
from kyolo.ablation.score import MATCHES
from kyolo.ablation.statistics import ALPHA, MAX_PAIRS, Comparison, Interval, compare, least_pairs
from kyolo.errors import InputError

IMAGE_RESAMPLES = 1000
FIGURES = ("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large")


def summarize(
    plan: Plan,
    runs: Sequence[StudyRun],
    excluded: Set[str] = frozenset(),
    latency: Mapping[str, Mapping[str, float]] | None = None,
) -> dict[str, Any]:
    """Return the results of a study as a JSON document, the same for the same runs but for times.

    Args:
        plan: the plan.
        runs: all runs of the plan, trained and evaluated, but for the excluded ones.
        excluded: names of runs that are left out, and with each its pair.
        latency: milliseconds by form (`float32`, `int8`) by variant. Default: not measured.

    Raises:
        InputError: fewer than two pairs are left for a variant.
    """
    used = {(run.variant, run.seed): run for run in runs if run.name not in excluded}
    scores = {key: run.scores() for key, run in used.items()}
    others = [name for name in plan.variants if name != plan.baseline]
    pairs = {name: _pairs(plan, name, used) for name in others}
    differences = [
        [scores[name, seed]["ap"] - scores[plan.baseline, seed]["ap"] for seed in pairs[name]] for name in others
    ]
    compared = dict(zip(others, compare(differences, plan.smallest_effect), strict=True))
    over_images = _over_images(plan, used, pairs)
    first = next(iter(used.values())).environment()
    document = {
        "question": plan.question,
        "answer": "",
        "plan_sha256": plan.digest(),
        "baseline": plan.baseline,
        "seeds": list(plan.seeds),
        "smallest_effect": plan.smallest_effect,
        "comparisons": len(others),
        "least_pairs": least_pairs(len(others)),
        "excluded": sorted(excluded),
        "environment": {name: first.get(name) for name in ("commit", "processor", "threads", "versions")},
        "variants": [
            {
                **_variant(plan, name, scores),
                "latency_ms": None if latency is None else dict(latency[name]),
                "comparison": _comparison(compared[name], pairs[name], over_images[name]) if name in compared else None,
            }
            for name in plan.variants
        ],
    }
    return document | {"answer": answer(document)}


def _pairs(plan: Plan, variant: str, used: Mapping[tuple[str, int], StudyRun]) -> list[int]:
    seeds = [seed for seed in plan.seeds if {(variant, seed), (plan.baseline, seed)} <= used.keys()]
    if len(seeds) < 2:
        problem = f"expected at least 2 pairs with {plan.baseline}, got {len(seeds)}"
        raise InputError(f"{variant}: {problem}. Run more seeds.")
    return seeds


def _variant(plan: Plan, name: str, scores: Mapping[tuple[str, int], dict]) -> dict[str, Any]:
    own = {seed: scores[name, seed] for seed in plan.seeds if (name, seed) in scores}
    every = list(own.values())
    ap = [each["ap"] for each in every]
    epochs = every[0]["curve"]
    return {
        "name": name,
        "settings": dict(plan.variants[name]),
        "ap_by_seed": {str(seed): each["ap"] for seed, each in own.items()},
        "spread": stats.stdev(ap) if len(ap) > 1 else None,
        **{figure: _mean(each[figure] for each in every) for figure in FIGURES},
        "per_class": {label: _mean(each["per_class"][label] for each in every) for label in every[0]["per_class"]},
        "parameters": every[0]["parameters"],
        "gflop": every[0]["gflop"],
        "train_seconds": _mean(each["train_seconds"] for each in every),
        "curve": {epoch: _mean(each["curve"].get(epoch) for each in every) for epoch in epochs},
    }


def _mean(values) -> float | None:
    """Return the mean; None if a value is undefined."""
    values = list(values)
    return None if None in values else stats.fmean(values)


def _comparison(compared: Comparison, seeds: list[int], over_images: dict[str, Interval]) -> dict[str, Any]:
    document = dataclasses.asdict(compared)
    document["differences"] = dict(zip(map(str, seeds), compared.differences, strict=True))
    return {"pairs": len(seeds), **document, **over_images}


def _over_images(
    plan: Plan, used: Mapping[tuple[str, int], StudyRun], pairs: Mapping[str, list[int]]
) -> dict[str, dict[str, Interval]]:
    """Return two 95 % percentile intervals of each mean difference in AP.

    `image_interval` resamples the validation images and keeps the seeds: how much the result depends on these images.
    `combined_interval` resamples seeds and images: what to expect of other seeds on other images.
    """
    random, weights = np.random.default_rng(0), None
    ap: dict[tuple[str, int], np.ndarray] = {}
    for key, run in used.items():
        matches = Matches.load(run.path / MATCHES)
        if weights is None:
            count = len(matches.images)
            weights = random.multinomial(count, np.full(count, 1 / count), size=IMAGE_RESAMPLES)
        ap[key] = matches.average_precision(weights)
    intervals = {}
    for name, seeds in pairs.items():
        rows = np.stack([ap[name, seed] - ap[plan.baseline, seed] for seed in seeds])
        drawn = np.random.default_rng(1).integers(0, len(seeds), (IMAGE_RESAMPLES, len(seeds)))
        combined = rows[drawn, np.arange(IMAGE_RESAMPLES)[:, None]].mean(axis=1)
        intervals[name] = {
            "image_interval": _percentiles(rows.mean(axis=0)),
            "combined_interval": _percentiles(combined),
        }
    return intervals


def _percentiles(values: np.ndarray) -> Interval:
    low, high = np.nanquantile(values, [ALPHA / 2, 1 - ALPHA / 2])
    return float(low), float(high)


def answer(document: Mapping[str, Any]) -> str:
    """Return the result in plain words, one clause per variant."""
    effect, baseline = document["smallest_effect"], document["baseline"]
    clauses = []
    for variant in document["variants"]:
        found = variant["comparison"]
        if found is None:
            continue
        low, high = found["t_interval"]
        interval = f"95 % interval {low:+.3f} to {high:+.3f}, {found['pairs']} pairs"
        name, verdict = variant["name"], found["verdict"]
        if verdict in ("better", "worse"):
            clauses.append(f"{name} is {verdict} than {baseline} by {abs(found['mean']):.3f} AP ({interval})")
        elif verdict == "equal":
            clauses.append(f"{name} equals {baseline} within {effect:g} AP ({interval})")
        else:
            needed = found["pairs_needed"] or f"more than {MAX_PAIRS:,}"
            clauses.append(f"{name} against {baseline} is undecided ({interval}; needs about {needed} more pairs)")
    return "; ".join(clauses) + "."
