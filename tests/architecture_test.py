"""The plan of the house, read from the source: which module may import which, and how long things may be."""

import ast
import pathlib

from absl.testing import absltest, parameterized

ROOT = pathlib.Path(__file__).parents[1]
MODULES = sorted((ROOT / "kyolo").rglob("*.py"))

# Every part of the package and the parts that it may import.
LEVELS = {
    "_compat": 0,
    "errors": 0,
    "_environment": 0,
    "fit_progress": 0,
    "files": 0,
    "registry": 0,
    "replicas": 0,
    "config": 0,
    "boxes": 0,
    "layers": 1,
    "assigner": 1,
    "losses": 2,
    "models": 3,
    "weights": 3,
    "data": 3,
    "evaluation": 3,
    "callbacks": 4,
    "training": 4,
    "export": 4,
    "report": 5,
    "ablation": 6,
    "cli": 7,
    "__main__": 8,
}
NEVER = [  # (part, what it must not import)
    *[(part, "config") for part in ("boxes", "layers", "assigner", "losses", "data")],
    ("data", "models"),
    ("models", "data"),
]
MAX_MODULE_LINES = 350
MAX_FUNCTION_LINES = 60


def name_of(path):
    return str(path.relative_to(ROOT))


def part_of(path):
    """ "kyolo/models/neck.py" and "kyolo/assigner.py" belong to the parts "models" and "assigner"."""
    return path.relative_to(ROOT / "kyolo").parts[0].removesuffix(".py")


def imports_of(tree):
    """Every module that a file names in an import, inside functions and for type checkers too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def parts_imported(tree):
    return {name.split(".")[1] for name in imports_of(tree) if name.startswith("kyolo.")} & set(LEVELS)


class ArchitectureTest(parameterized.TestCase):
    def test_every_part_has_a_level(self):
        parts = {part_of(path) for path in MODULES} - {"__init__"}
        self.assertContainsSubset(parts, LEVELS)

    @parameterized.named_parameters((name_of(path), path) for path in MODULES)
    def test_module(self, path):
        text = path.read_text(encoding="utf-8")
        tree = ast.parse(text)
        self.assertTrue(ast.get_docstring(tree), "a module says what it is for")
        self.assertLessEqual(len(text.splitlines()), MAX_MODULE_LINES)
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom):
                self.assertEqual(node.level, 0, f"relative import in line {node.lineno}")
            if isinstance(node, ast.FunctionDef):
                self.assertLessEqual(
                    node.end_lineno - node.lineno, MAX_FUNCTION_LINES + docstring_lines(node), node.name
                )
        if part_of(path) != "__init__":
            self.check_arrows(part_of(path), parts_imported(tree))
        if path.parent.name != "backbones":
            self.assertNotIn("keras_cv", {name.split(".")[0] for name in imports_of(tree)})

    def check_arrows(self, part, imported):
        for other in imported - {part}:
            self.assertLessEqual(LEVELS[other], LEVELS[part], f"{part} imports {other}, which stands above it")
            self.assertNotIn((part, other), NEVER)

    @parameterized.named_parameters((name_of(path), path) for path in MODULES if path.parent != ROOT / "kyolo")
    def test_package_file_only_hands_names_on(self, path):
        if path.name != "__init__.py":
            return
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            is_docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
            is_all = isinstance(node, ast.Assign) and node.targets[0].id == "__all__"
            self.assertTrue(is_docstring or is_all or isinstance(node, ast.ImportFrom), f"line {node.lineno}")

    def test_no_two_parts_import_each_other(self):
        arrows = {part: set() for part in LEVELS}
        for path in MODULES:
            if part_of(path) in LEVELS:
                arrows[part_of(path)] |= parts_imported(ast.parse(path.read_text(encoding="utf-8"))) - {part_of(path)}
        for part, others in arrows.items():
            for other in others:
                self.assertNotIn(part, arrows[other], f"{part} and {other} import each other")


def docstring_lines(function):
    """A long docstring makes no function long."""
    docstring = ast.get_docstring(function, clean=False)
    return len(docstring.splitlines()) if docstring else 0


if __name__ == "__main__":
    absltest.main()
