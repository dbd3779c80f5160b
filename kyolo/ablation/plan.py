"""The plan of an ablation study: a question, a base configuration, variants of it, and seeds."""

import hashlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kyolo.config import Config, ConfigError, config_to_dict, load_variant, one_of, read_yaml

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,39}")
MAX_SEEDS = 1000
MAX_SEED = 2**31 - 1  # as of train.seed
_KEYS = ("question", "base", "seeds", "smallest_effect", "variants")


@dataclass(frozen=True)
class Plan:
    """A study as its plan file describes it. The first variant is the baseline of all comparisons.

    Attributes:
        question: what the study shall answer.
        base: the configuration file that all variants start from.
        seeds: each is one pair per comparison: `train.seed` of a run of each variant.
        smallest_effect: a difference in AP of at most this size counts as equal.
        variants: settings by dotted path, by name of the variant.
        folder: the plan's folder; paths among the settings are relative to it.
    """

    question: str
    base: Path
    seeds: tuple[int, ...]
    smallest_effect: float
    variants: Mapping[str, Mapping[str, Any]]
    folder: Path

    @property
    def baseline(self) -> str:
        """Name of the variant that the others are compared with."""
        return next(iter(self.variants))

    @property
    def comparisons(self) -> int:
        """Number of variants that are compared with the baseline."""
        return len(self.variants) - 1

    def config(self, variant: str, seed: int, data: str | os.PathLike) -> Config:
        """Return the configuration of one run.

        Args:
            variant: name of the variant.
            seed: `train.seed`: initial weights, order of the images and augmentation follow from it.
            data: the data set.

        Raises:
            ConfigError: a setting of the variant is wrong; the message names the variant.
        """
        fixed = {"train.seed": seed, "data.path": os.path.abspath(data), "train.tensorboard": False}
        settings = self.variants[variant] | fixed
        try:
            return load_variant(self.base, settings, self.folder)
        except ConfigError as error:
            raise error.under(f"variants.{variant}") from None

    def digest(self) -> str:
        """Return the hash of all that the plan fixes: 16 hexadecimal digits.

        The base counts by its settings, not by its name, so that a plan that moves keeps its hash.
        """
        configs = {name: config_to_dict(self.config(name, 0, "/")) for name in self.variants}
        document = {
            "question": self.question,
            "seeds": list(self.seeds),
            "smallest_effect": self.smallest_effect,
            "variants": configs,
        }
        return hashlib.sha256(json.dumps(document).encode()).hexdigest()[:16]


def load_plan(path: str | os.PathLike) -> Plan:
    """Read a plan file.

    ```yaml
    question: Does GAM before SPPF change AP?
    base: ../yolov8_n_320.yaml
    seeds: 10                # 0 to 9, or a list
    smallest_effect: 0.005   # AP
    variants:
      baseline: {}
      gam: {model.attention: [{kind: gam}]}
    ```

    Args:
        path: the YAML file.

    Raises:
        ConfigError: the file cannot be read, a key is unknown, missing or wrong, or a variant's settings are.
    """
    path = Path(path)
    document = read_yaml(path)
    try:
        plan = _plan(document, path.absolute().parent)
        for name in plan.variants:
            plan.config(name, plan.seeds[0], "/")
    except ConfigError as error:
        raise ConfigError(f"{path}: {error.path}" if error.path else str(path), error.problem) from None
    return plan


def _plan(document: Any, folder: Path) -> Plan:
    document = document or {}
    for key in document:
        if key not in _KEYS:
            raise ConfigError(str(key), f"unknown key; expected {one_of(_KEYS, key)}")
    for key in ("question", "base", "variants"):
        if key not in document:
            raise ConfigError(key, "missing; a plan needs a question, a base and variants")
    for key in ("question", "base"):
        if not isinstance(document[key], str) or not document[key].strip():
            raise ConfigError(key, f"expected text, got {document[key]!r:.60}")
    effect = document.get("smallest_effect", 0.005)
    if isinstance(effect, bool) or not isinstance(effect, int | float) or not 0 < effect < 1:
        raise ConfigError("smallest_effect", f"expected a difference in AP, above 0 and below 1, got {effect!r:.60}")
    return Plan(
        question=" ".join(document["question"].split()),
        base=Path(os.path.abspath(folder / document["base"])),
        seeds=_seeds(document.get("seeds", 10)),
        smallest_effect=float(effect),
        variants=_variants(document["variants"]),
        folder=folder,
    )


def _seeds(value: Any) -> tuple[int, ...]:
    problem = f"expected a number of seeds from 2 to {MAX_SEEDS} or a list of different seeds, got {value!r:.60}"
    if isinstance(value, int) and not isinstance(value, bool):
        value = list(range(value)) if value <= MAX_SEEDS else []
    if not isinstance(value, list) or not 2 <= len(value) <= MAX_SEEDS or len(set(map(str, value))) < len(value):
        raise ConfigError("seeds", problem)
    if not all(isinstance(seed, int) and not isinstance(seed, bool) and 0 <= seed <= MAX_SEED for seed in value):
        raise ConfigError("seeds", problem)
    return tuple(value)


def _variants(value: Any) -> dict[str, dict[str, Any]]:
    if not isinstance(value, dict) or len(value) < 2:
        raise ConfigError("variants", "expected a mapping of two or more variants, the baseline first")
    for name, settings in value.items():
        if not NAME.fullmatch(str(name)):
            raise ConfigError("variants", f"expected names of letters, digits, _ and -, got {name!r:.60}")
        if not isinstance(settings, dict | None):
            example = "{model.backbone.size: s}"
            raise ConfigError(f"variants.{name}", f"expected settings such as {example}, got {settings!r:.60}")
        for key in settings or {}:
            if key in ("train.seed", "data.path"):
                raise ConfigError(f"variants.{name}.{key}", "expected other settings: the plan and --data set this one")
    return {str(name): dict(settings or {}) for name, settings in value.items()}
