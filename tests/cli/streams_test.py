"""Streams that cannot take what a command prints: another encoding, closed, without a reader, on a full disk."""

import os
import subprocess
import sys

from absl.testing import absltest, parameterized

from tests.test_case import ROOT, TestCase

NAMES = "红细胞 é \udcff"  # the last one is a byte of a file's name that is no UTF-8
# A command that prints names, without TensorFlow. `{body}` says what it does.
PROGRAM = f"""
import sys
from kyolo.cli import convert, main
def run(_):
    {{body}}
    print({NAMES!r})
    print({NAMES!r}, file=sys.stderr)
    yield {{{{"names": {NAMES!r}}}}}
convert.run = run
sys.exit(main(["convert", "x", "--to", "coco", "--output", "y", *sys.argv[1:]]))
"""


class StreamsTest(TestCase):
    def run_program(self, redirection="", *, body="pass", arguments="", environment=()):
        """Run the command in a shell; return its exit code, stdout and stderr, as bytes."""
        script = self.folder / "program.py"
        script.write_text(PROGRAM.format(body=body))
        done = subprocess.run(
            ["bash", "-c", f"{sys.executable} {script} {arguments} {redirection}"],
            cwd=self.folder,
            env={**os.environ, "PYTHONPATH": str(ROOT), **dict(environment)},
            capture_output=True,
            check=False,
        )
        return done.returncode, done.stdout, done.stderr

    @parameterized.parameters(
        ({"PYTHONIOENCODING": "ascii"}, rb"\u7ea2\u7ec6\u80de \xe9 \udcff"),
        ({"PYTHONIOENCODING": "latin-1"}, rb"\u7ea2\u7ec6\u80de " + b"\xe9" + rb" \udcff"),
        ({"PYTHONIOENCODING": "utf-8"}, "红细胞 é ".encode() + rb"\udcff"),
        ({"PYTHONIOENCODING": "ascii:replace"}, b"??? ? ?"),  # as the user wants it
        ({"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}, rb"\u7ea2\u7ec6\u80de \xe9 \udcff"),
    )
    def test_names_are_escaped_where_the_encoding_lacks_them(self, environment, expected):
        code, stdout, stderr = self.run_program(environment=environment)
        self.assertEqual((code, stdout), (0, expected + b"\n"))
        self.assertNotIn(b"Traceback", stderr)

    @parameterized.parameters(">&-", "2>&-", ">&- 2>&-", "<&- >&- 2>&-")
    def test_closed_streams(self, redirection):
        # The next file opened must not become the stream: what is printed would land in it.
        body = "file = open('data', 'w')"
        code, stdout, stderr = self.run_program(redirection, body=body)
        self.assertEqual(code, 0, stderr)
        self.assertNotIn(b"Traceback", stderr)
        self.assertIn(b"" if ">&-" in redirection else NAMES.encode(errors="backslashreplace"), stdout)
        self.assertEqual((self.folder / "data").read_bytes(), b"")

    def test_json_of_a_closed_stdout(self):
        self.assertEqual(self.run_program("2>/dev/null >&-", arguments="--json"), (0, b"", b""))

    @parameterized.parameters("", "--json", "--help")
    def test_a_reader_that_is_gone(self, arguments):
        body = "import time; time.sleep(0.3)"
        program = "; exit ${PIPESTATUS[0]}"
        code, _, stderr = self.run_program(f"| true {program}", body=body, arguments=arguments)
        self.assertIn(code, (0, 130) if arguments == "--help" else (130,))  # help may come before the reader is gone
        self.assertNotIn(b"Traceback", stderr)
        self.assertNotIn(b"Exception", stderr)

    @parameterized.parameters("", "--json")
    def test_a_full_disk(self, arguments):
        code, _, stderr = self.run_program("> /dev/full", arguments=arguments)
        self.assertEqual(code, 2)
        self.assertRegex(stderr.decode(), r"kyolo: error: [^\n]*No space left on device[^\n]*\n$")
        self.assertNotIn(b"Traceback", stderr)

    def test_an_error_without_a_reader(self):
        body = "raise OSError('x')"
        self.assertEqual(self.run_program("2> /dev/full", body=body)[0], 2)

    def test_a_file_name_that_the_system_cannot_write(self):
        environment = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
        code, _, stderr = self.run_program(body="open('\\u7ea2')", environment=environment)
        self.assertEqual(code, 2)
        self.assertRegex(stderr.decode(), r"^kyolo: error: '\\u7ea2': expected a name .* PYTHONUTF8=1\.\n$")


if __name__ == "__main__":
    absltest.main()
