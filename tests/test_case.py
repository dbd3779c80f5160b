"""What the tests of several packages share."""

import contextlib
import io
import os
import pathlib
import tempfile

from absl.testing import parameterized

from kyolo import cli

ROOT = pathlib.Path(__file__).parents[1]


class TestCase(parameterized.TestCase):
    """A test with a folder of its own, the real data sets where they are, and the command line."""

    def setUp(self):
        super().setUp()
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)

    def real_data(self, name):
        """The folder of a real data set; without it the test is skipped."""
        folder = pathlib.Path(os.environ.get("KYOLO_DATA", ROOT.parent / "shared" / "data")) / name
        if not folder.is_dir():
            self.skipTest(f"needs the data set {name} in the folder that KYOLO_DATA names")
        return folder

    def run_kyolo(self, *arguments):
        """Run a command in this process; return its exit code, stdout and stderr."""
        stdout, stderr = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(stdout), contextlib.redirect_stderr(stderr):
            code = cli.main([str(argument) for argument in arguments])
        return code, stdout.getvalue(), stderr.getvalue()

    def assert_bad_input(self, arguments, *parts):
        """A command ends with exit code 2 and one line on stderr that says all `parts`."""
        code, stdout, stderr = self.run_kyolo(*arguments)
        self.assertEqual((code, stdout), (2, ""), stderr)
        self.assertRegex(stderr, r"^kyolo: error: [^\n]+\n$")
        for part in parts:
            self.assertIn(str(part), stderr)
