"""What a run says about where it was made."""

import json
import subprocess
from unittest import mock

import keras
import tensorflow as tf
from absl.testing import absltest

import kyolo
from kyolo.training import describe_environment
from tests.test_case import TestCase


class EnvironmentTest(TestCase):
    def test_names_what_runs(self):
        found = json.loads(json.dumps(describe_environment()))
        self.assertEqual(found["kyolo"], kyolo.__version__)
        self.assertEqual(found["versions"]["tensorflow"], tf.__version__)
        self.assertEqual(found["versions"]["keras"], keras.__version__)
        self.assertGreaterEqual(found["cores"], 1)

    def test_commit_of_a_clone_and_changes_to_it(self):
        package = self.folder / "kyolo" / "__init__.py"
        package.parent.mkdir()
        package.write_text("")
        with mock.patch.object(kyolo, "__file__", str(package)):
            self.assertIsNone(describe_environment()["commit"])
            self.git("init", "--quiet")
            self.git("add", "kyolo")
            self.git("-c", "user.name=a", "-c", "user.email=a@b.c", "commit", "--quiet", "--message", "one")
            head = self.git("rev-parse", "--short", "HEAD")
            self.assertEqual(describe_environment()["commit"], head)
            package.write_text("changed = True")
            self.assertEqual(describe_environment()["commit"], f"{head}+changes")

    def git(self, *arguments):
        result = subprocess.run(["git", *arguments], cwd=self.folder, capture_output=True, text=True, check=True)
        return result.stdout.strip()


if __name__ == "__main__":
    absltest.main()
