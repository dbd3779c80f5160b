"""Change one operator or constant of a module at a time and run its tests: a change that they do not notice survives.

python tools/mutants.py                         # every module below; hours
python tools/mutants.py --only boxes --sample 40

A mutant that the tests of its module do not fail on is printed with its line. TensorFlow is imported once; every
mutant runs in a fork of that process, on a copy of the package.
"""

import argparse
import ast
import contextlib
import copy
import itertools
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
COPIED = ("kyolo", "tests", "configs", "examples", "setup.cfg", "conftest.py")
TESTS = {  # by module, without .py
    "assigner": ["assigner_test.py"],
    "boxes/anchor_points": ["boxes/anchor_points_test.py"],
    "boxes/distances": ["boxes/distances_test.py"],
    "boxes/formats": ["boxes/formats_test.py"],
    "boxes/iou": ["boxes/iou_test.py"],
    "boxes/nms": ["boxes/nms_test.py"],
    "boxes/pair": ["boxes/iou_test.py", "losses/iou_losses_test.py"],
    "data/mosaic": ["data/mosaic_test.py"],
    "data/transforms": ["data/transforms_test.py"],
    "losses/classification": ["losses/classification_test.py", "losses/every_loss_test.py"],
    "losses/detection": ["losses/detection_test.py"],
    "losses/dfl": ["losses/dfl_test.py"],
    "losses/iou_losses": ["losses/iou_losses_test.py", "losses/every_loss_test.py"],
    "losses/settings": ["losses/every_loss_test.py", "losses/detection_test.py"],
    "losses/wiou": ["losses/wiou_test.py", "losses/every_loss_test.py"],
    "models/ema": ["models/ema_test.py", "models/detector_test.py"],
    "training/checkpoint": ["training/checkpoint_test.py"],
    "training/schedules": ["training/schedules_test.py"],
}
SWAPPED: dict[type, type] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult, ast.Mod: ast.Mult,
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In, ast.And: ast.Or, ast.Or: ast.And,
    ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd, ast.USub: ast.UAdd,
}  # fmt: skip
RENAMED = {"maximum": "minimum", "minimum": "maximum", "max": "min", "min": "max", "floor": "ceil", "ceil": "floor"}
KILLED, SURVIVED = 1, 0


def main() -> int:
    """Print the survivors and how many mutants were killed; return 1 if one survived."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="modules whose path begins so (default: all)")
    parser.add_argument("--sample", type=int, help="mutants per module, drawn at random (default: all)")
    parser.add_argument("--timeout", type=int, default=180, help="seconds after which a mutant counts as killed")
    parser.add_argument("--output", type=Path, help="file for one JSON line per mutant")
    arguments = parser.parse_args()
    totals = [0, 0]
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        for name in COPIED:
            (shutil.copytree if (ROOT / name).is_dir() else shutil.copy)(ROOT / name, place / name)
        _import_heavy(place)
        for module in (module for module in TESTS if module.startswith(arguments.only)):
            for line, change, killed in run_module(place, module, arguments.sample, arguments.timeout):
                totals[killed] += 1
                if not killed:
                    print(f"survived: kyolo/{module}.py:{line}: {change}", flush=True)
                if arguments.output:
                    with open(arguments.output, "a", encoding="utf-8") as file:
                        row = {"module": module, "line": line, "change": change, "killed": killed}
                        file.write(json.dumps(row) + "\n")
            print(f"{module}: {totals[KILLED]} killed, {totals[SURVIVED]} survived so far", flush=True)
    return int(totals[SURVIVED] > 0)


def run_module(place: Path, module: str, sample: int | None, timeout: int) -> Iterator[tuple[int, str, bool]]:
    """Yield the line, the change and whether the tests failed for the mutants of one module."""
    path = place / "kyolo" / f"{module}.py"
    source = path.read_text(encoding="utf-8")
    tests = [str(place / "tests" / name) for name in TESTS[module]]
    if _fails(place, tests, 10 * timeout):
        raise SystemExit(f"{module}: expected tests that pass without a mutant, got a failure. Run pytest on {tests}.")
    mutants = list(mutants_of(source))
    if sample is not None and sample < len(mutants):
        mutants = random.Random(0).sample(mutants, sample)
    for line, change, mutated in mutants:
        path.write_text(mutated, encoding="utf-8")
        yield line, change, _fails(place, tests, timeout)
    path.write_text(source, encoding="utf-8")


def mutants_of(source: str) -> Iterator[tuple[int, str, str]]:
    """Yield the line, the change and the source of every mutant.

    Example:
        >>> [change for _, change, _ in mutants_of("x = a < 2")]
        ['a < 2 -> a <= 2', '2 -> 3']
    """
    tree = ast.parse(source)
    skipped = {id(inner) for node in ast.walk(tree) if _is_text(node) for inner in ast.walk(node)}
    for number, node in enumerate(ast.walk(tree)):
        if id(node) in skipped or _change(copy.deepcopy(node)) is None:
            continue
        mutated = copy.deepcopy(tree)
        twin = next(itertools.islice(ast.walk(mutated), number, None))
        before = ast.unparse(twin)
        _change(twin)
        yield getattr(node, "lineno", 0), f"{before} -> {ast.unparse(twin)}", ast.unparse(mutated)


def _is_text(node: ast.AST) -> bool:
    """Return whether mutants of a node would change messages, docstrings or annotations only."""
    docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    return docstring or isinstance(node, ast.Raise | ast.JoinedStr | ast.Import | ast.ImportFrom)


def _change(node: ast.AST) -> ast.AST | None:
    """Change a node in place and return it, or None for a node without a mutant."""
    if isinstance(node, ast.BinOp | ast.BoolOp | ast.UnaryOp) and type(node.op) in SWAPPED:
        node.op = SWAPPED[type(node.op)]()
    elif isinstance(node, ast.Compare) and type(node.ops[0]) in SWAPPED:
        node.ops[0] = SWAPPED[type(node.ops[0])]()
    elif isinstance(node, ast.Attribute) and node.attr in RENAMED:
        node.attr = RENAMED[node.attr]
    elif isinstance(node, ast.Name) and node.id in RENAMED:
        node.id = RENAMED[node.id]
    elif isinstance(node, ast.Constant) and isinstance(node.value, bool):
        node.value = not node.value
    elif isinstance(node, ast.Constant) and isinstance(node.value, int | float):
        node.value = node.value + 1 if isinstance(node.value, int) else 2 * node.value + 0.5
    else:
        return None
    return node


def _import_heavy(place: Path) -> None:
    """Import what is not mutated, once. No operation runs here: TensorFlow starts its threads in the forks."""
    os.environ |= {"KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "3"}
    import keras  # noqa: F401
    import pytest  # noqa: F401
    import tensorflow  # noqa: F401

    sys.path[:] = [str(place), *(entry for entry in sys.path if Path(entry or ".").resolve() != ROOT)]
    os.chdir(place)


def _fails(place: Path, tests: list[str], timeout: int) -> bool:
    """Return whether the tests fail, or take longer than `timeout` seconds, in a fork of this process."""
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        os.setsid()
        silent = os.open(os.devnull, os.O_WRONLY)
        os.dup2(silent, 1), os.dup2(silent, 2)
        import pytest

        options = ["-x", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", f"--rootdir={place}"]
        os._exit(int(pytest.main([*options, *tests]) != 0))
    end = time.monotonic() + timeout
    while time.monotonic() < end:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return status != 0
        time.sleep(0.05)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return True


if __name__ == "__main__":
    sys.exit(main())
