"""What a run was made with: the code, the versions of what lies under it, and the machine."""

import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path

import kyolo

PACKAGES = ("tensorflow", "keras", "keras-cv", "numpy")


def describe_environment() -> dict:
    """Describes what this process runs with; all of it can be written as JSON.

    Returns:
        `kyolo` (version), `commit` (of the clone that kyolo is imported from, with "+changes" if its files differ from
        that commit; None where it is no clone), `python`, `versions` of the packages that results depend on,
        `processor`, `cores`, `threads` (of one TensorFlow operation: on a CPU, results depend on it).
    """
    return {
        "kyolo": kyolo.__version__,
        "commit": _commit(Path(kyolo.__file__).resolve().parents[1]),
        "python": platform.python_version(),
        "versions": {name: importlib.metadata.version(name) for name in PACKAGES},
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": int(os.environ.get("TF_NUM_INTRAOP_THREADS") or 0) or len(os.sched_getaffinity(0)),
    }


def _commit(root: Path) -> str | None:
    if not (root / ".git").exists():
        return None
    try:
        head = _git(root, "rev-parse", "--short", "HEAD")
        return f"{head}+changes" if _git(root, "status", "--porcelain", "--untracked-files=no") else head
    except (OSError, subprocess.CalledProcessError):  # Without git, or a clone that git does not trust.
        return None


def _git(root: Path, *arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, check=True).stdout.strip()


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.processor())
