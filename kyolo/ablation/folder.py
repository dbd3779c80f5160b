"""The directory of a study."""

import contextlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from kyolo.ablation.plan import Plan
from kyolo.ablation.runs import StudyRun
from kyolo.config import config_to_dict
from kyolo.errors import InputError
from kyolo.files import write_text

FILE = "plan.json"


@contextlib.contextmanager
def open_study(folder: Path, plan: Plan, runs: Sequence[StudyRun], *, resume: bool) -> Iterator[None]:
    """Write the plan and its hash before the first run, and keep other processes out during a `with` block.

    Args:
        folder: the study's directory: `plan.json`, `runs/`, `logs/`, the report.
        plan: the plan.
        runs: all its runs.
        resume: whether the study was begun before.

    Raises:
        InputError: the directory is in use, or holds another study, or the study was begun with other code, data or
            number of threads.
    """
    from kyolo.training import describe_environment
    from kyolo.training.run_folder import locked

    environment = describe_environment()
    document = {
        "question": plan.question,
        "plan_sha256": plan.digest(),
        "smallest_effect": plan.smallest_effect,
        "seeds": list(plan.seeds),
        "variants": {name: config_to_dict(plan.config(name, plan.seeds[0], "/")) for name in plan.variants},
        **{name: environment[name] for name in ("commit", "versions", "threads")},
        "runs": {run.name: run.path.name for run in runs},
    }
    file = folder / FILE
    if resume:
        _check_same(file, document)
    elif folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"--output: expected a new directory, got {folder}. Choose another, or pass --resume.")
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder):
        if not resume:
            write_text(file, json.dumps(document, indent=2) + "\n")
        yield


def _check_same(file: Path, document: dict[str, Any]) -> None:
    names = ("plan_sha256", "commit", "threads", "versions", "runs")
    try:
        begun = json.loads(file.read_text())
        begun = {name: begun[name] for name in names}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{file}: expected the plan of a study that was begun, got {error}. Check --output.") from None
    for name in names[:-1]:
        if begun[name] != document[name]:
            raise InputError(
                f"{file}: expected {name} {begun[name]}, with which the study was begun, got {document[name]}. "
                f"Restore it, or start a new study."
            )
    if begun["runs"] != document["runs"]:
        raise InputError(f"{file}: expected the data that the study was begun with, got other data. Restore it.")
