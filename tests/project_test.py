"""The files around the code agree with it and with each other."""

import pathlib
import re
import subprocess

import yaml
from absl.testing import absltest, parameterized

import kyolo

ROOT = pathlib.Path(__file__).parents[1]
FILES = ("README.md", "LICENSE", "CONTRIBUTING.md", "CHANGELOG.md", "CITATION.cff", "SECURITY.md")
FILES += (".pre-commit-config.yaml", "Makefile", "setup.cfg", "pyproject.toml")
PAGES = sorted(str(path.relative_to(ROOT)) for pattern in ("*.md", "docs/*.md") for path in ROOT.glob(pattern))


def read(name):
    return (ROOT / name).read_text(encoding="utf-8")


class ProjectTest(parameterized.TestCase):
    @parameterized.parameters(*FILES)
    def test_file_is_there(self, name):
        self.assertNotEmpty(read(name).strip())

    def test_changelog_begins_with_this_version(self):
        versions = re.findall(r"^## \[(.+?)\] - (Unreleased|\d{4}-\d\d-\d\d)$", read("CHANGELOG.md"), re.MULTILINE)
        self.assertEqual(versions[0][0], kyolo.__version__)

    def test_citation(self):
        """The keys that version 1.2.0 of the format requires, and ours."""
        citation = yaml.safe_load(read("CITATION.cff"))
        self.assertEqual((citation["cff-version"], citation["version"]), ("1.2.0", kyolo.__version__))
        self.assertEqual(citation["authors"], [{"name": "The kyolo authors"}])
        self.assertEqual((citation["license"], citation["type"]), ("Apache-2.0", "software"))
        self.assertContainsSubset({"message", "title"}, citation)

    def test_hooks_are_the_tools_of_make_lint(self):
        """Both run what `.venv` holds, so that a commit and CI see the same versions."""
        (repository,) = yaml.safe_load(read(".pre-commit-config.yaml"))["repos"]
        self.assertEqual(repository["repo"], "local")
        lint = re.search(r"^lint:.*\n((?:\t.*\n)+)", read("Makefile"), re.MULTILINE)[1].replace("$(BIN)", ".venv/bin")
        for hook in repository["hooks"]:
            self.assertEqual(hook["language"], "system")
            self.assertIn(" ".join(hook["entry"].split()[:2]), lint)

    @parameterized.parameters(*PAGES)
    def test_links_lead_to_files(self, name):
        for target in re.findall(r"\]\(([^)#]+)", read(name)):
            if not target.startswith("https://"):
                self.assertTrue(((ROOT / name).parent / target).exists(), target)

    def test_nobody_is_sent_to_the_package_of_that_name(self):
        """`kyolo` on the package index is somebody else's: ours is `kyolo-tf`."""
        tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False)
        if tracked.returncode:
            self.skipTest("needs the git repository")
        wrong = re.compile(rb"pip3? install[^\n]*[ \t\"'`]kyolo(?!-tf)(?![\w/.-])")
        package = b"kyolo[gpu]"
        self.assertRegex(b"pip install -U " + package, wrong)
        for name in filter(None, tracked.stdout.split(b"\0")):
            file = ROOT / name.decode()
            if file.is_file():
                self.assertNotRegex(file.read_bytes(), wrong, str(file))


if __name__ == "__main__":
    absltest.main()
