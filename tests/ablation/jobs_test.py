"""Processes side by side: cores, order, failures and interruptions."""

import os
import signal
import sys
import threading
import time
from pathlib import Path
from unittest import mock

from absl.testing import absltest

from kyolo import Config
from kyolo.ablation import StudyRun, jobs, split_cores, train_runs
from tests.test_case import TestCase

NOTE = """
import os, sys, time
with open(sys.argv[1], "a") as file:
    names = ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS")
    time.sleep(0.3)
    file.write(f"{sys.argv[2]} {len(os.sched_getaffinity(0))} {' '.join(os.environ[name] for name in names)}\\n")
"""


class JobsTest(TestCase):
    def setUp(self):
        super().setUp()
        self.notes, self.ended = self.folder / "notes", []

    def run_jobs(self, commands, cores):
        """Run commands by name of the run, several for each."""
        runs = [StudyRun(name, 0, Config(), self.folder / "study" / "runs" / name) for name in commands]
        with mock.patch.object(jobs, "_commands", lambda run: list(commands[run.variant])):
            train_runs(runs, cores, lambda run, code: self.ended.append((run.variant, code)))

    def note(self, name):
        return [sys.executable, "-c", NOTE, str(self.notes), name]

    def test_cores_and_threads(self):
        (core, *_) = sorted(os.sched_getaffinity(0))
        self.run_jobs({name: [self.note(name)] for name in "abc"}, [frozenset([core])] * 2)
        self.assertCountEqual(self.ended, [("a", 0), ("b", 0), ("c", 0)])
        self.assertCountEqual(self.notes.read_text().splitlines(), [f"{name} 1 1 1 1" for name in "abc"])

    def test_a_failure_ends_its_run_only(self):
        fails = [sys.executable, "-c", "import sys; print('what it says'); sys.exit(3)"]
        cores = split_cores(1)
        self.run_jobs({"a": [fails, self.note("never")], "b": [self.note("one"), self.note("two")]}, cores)
        self.assertEqual(self.ended, [("a", 3), ("b", 0)])
        self.assertEqual([line.split()[0] for line in self.notes.read_text().splitlines()], ["one", "two"])
        self.assertEqual((self.folder / "study" / "logs" / "a.log").read_text(), "what it says\n")

    def test_ctrl_c_stops_the_trainings(self):
        waits = [sys.executable, "-c", f"open({str(self.folder / 'pid')!r}, 'w').write(str(__import__('os').getpid()));"
                 "__import__('time').sleep(600)"]  # fmt: skip

        def interrupt():
            while not (self.folder / "pid").is_file() or not (self.folder / "pid").read_text():
                time.sleep(0.05)
            signal.raise_signal(signal.SIGINT)

        thread = threading.Thread(target=interrupt)
        thread.start()
        with self.assertRaises(KeyboardInterrupt):
            self.run_jobs({"a": [waits]}, split_cores(1))
        thread.join()
        self.assertFalse(Path("/proc", (self.folder / "pid").read_text()).exists())
        self.assertEmpty(self.ended)

    def test_what_is_left_of_a_run(self):
        run = StudyRun("a", 0, Config(), self.folder / "runs" / "key")
        run.path.mkdir(parents=True)
        (self.folder / "logs").mkdir()
        first, second = jobs._commands(run)
        self.assertEqual(first[1:4], ["-m", "kyolo", "train"])
        self.assertIn("--config", first)
        self.assertEqual(second[1:3], ["-m", "kyolo.ablation.score"])
        (run.path / "config.yaml").touch()
        self.assertEqual(jobs._commands(run)[0][-1], "--resume")
        (run.path / "metrics.json").touch()
        self.assertEqual(jobs._commands(run), [second])

    def test_cores_are_shared_out(self):
        with mock.patch.object(os, "sched_getaffinity", return_value={0, 1, 2, 3, 4}):
            self.assertEqual(split_cores(1), [frozenset({0, 1, 2, 3, 4})])
            self.assertEqual(split_cores(2), [frozenset({0, 1}), frozenset({2, 3})])
            with self.assertRaisesRegex(ValueError, "at most 5"):
                split_cores(6)


if __name__ == "__main__":
    absltest.main()
