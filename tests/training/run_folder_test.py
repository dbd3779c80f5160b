"""A run's folder after a kill, wherever it came."""

import os
from unittest import mock

from absl.testing import absltest

from kyolo.config import Config, apply_overrides
from kyolo.errors import InputError
from kyolo.training.run_folder import check_new, complete_run, create_run, locked, open_run, training_folder
from tests.test_case import TestCase


class RunFolderTest(TestCase):
    def setUp(self):
        super().setUp()
        self.run_folder = self.folder / "run"
        self.config = apply_overrides(Config(), ["model.num_classes=1", "data.class_names=[a]"])

    def names(self):
        return sorted(path.name for path in self.run_folder.iterdir())

    def test_killed_before_its_configuration_was_there(self):
        self.run_folder.mkdir()
        (self.run_folder / "config.yaml.part").write_text("mod")
        with self.assertRaisesRegex(
            InputError, "expected a run directory, .* start a run that was killed there without --resume"
        ):
            open_run(self.run_folder)
        create_run(self.run_folder, self.config)
        self.assertEqual(self.names(), ["config.yaml", "environment.json", "weights"])

    def test_killed_when_it_had_only_its_lock(self):
        self.run_folder.mkdir()
        (self.run_folder / "run.lock").touch()
        with training_folder(self.run_folder, self.config, {}, resume=False):
            self.assertEqual(
                self.names(), ["config.yaml", "data_report.json", "environment.json", "run.lock", "weights"]
            )

    def test_files_of_others_are_left_alone(self):
        self.run_folder.mkdir()
        download = self.run_folder / "film.mkv.part"
        download.write_text("half")
        with self.assertRaisesRegex(InputError, "holds other files"):
            create_run(self.run_folder, self.config)
        download.rename(self.folder / download.name)
        create_run(self.run_folder, self.config)
        (self.folder / download.name).rename(download)
        complete_run(self.run_folder)
        self.assertEqual(download.read_text(), "half")

    def test_places_where_no_run_can_be_made(self):
        (self.folder / "file").touch()
        (self.folder / "link").symlink_to("nowhere")
        places = {
            "file": "a file",
            "file/run": "a file",
            "link": "a link to a missing",
            "link/run": "a link to a missing",
        }
        for place, problem in places.items():
            with self.assertRaisesRegex(InputError, f"Cannot write a run to .*{place}: expected a folder .* {problem}"):
                check_new(self.folder / place)
        # Root may write everywhere, so that the answer of the system is given.
        with (
            mock.patch.object(os, "access", return_value=False),
            self.assertRaisesRegex(InputError, f"expected write permission in {self.folder}, got none"),
        ):
            check_new(self.folder / "new" / "run")
        check_new(self.folder / "new" / "run")

    def test_of_two_that_start_at_once_the_second_waits_for_no_one(self):
        self.run_folder.mkdir()
        with (
            locked(self.run_folder),  # as the first is, before it has written anything
            self.assertRaisesRegex(InputError, "being trained by another process"),
            training_folder(self.run_folder, self.config, {}, resume=False),
        ):
            pass

    def test_of_two_that_start_at_once_the_second_finds_the_run_of_the_first(self):
        create_run(self.run_folder, self.config)
        with (
            self.assertRaisesRegex(InputError, "holds another run"),
            training_folder(self.run_folder, self.config, {}, resume=False),
        ):
            pass
        self.assertEqual(self.names(), ["config.yaml", "environment.json", "weights"])

    def test_killed_when_its_configuration_was_there(self):
        create_run(self.run_folder, self.config)
        (self.run_folder / "environment.json").unlink()
        (self.run_folder / "environment.json.part").write_text("{")
        (self.run_folder / "weights").rmdir()
        complete_run(self.run_folder)
        self.assertEqual(self.names(), ["config.yaml", "environment.json", "weights"])

    def test_killed_within_a_checkpoint(self):
        create_run(self.run_folder, self.config)
        (self.run_folder / "weights" / "last.npz.part").write_text("PK")
        environment = (self.run_folder / "environment.json").read_text()
        complete_run(self.run_folder)
        self.assertEmpty(list((self.run_folder / "weights").iterdir()))
        self.assertEqual((self.run_folder / "environment.json").read_text(), environment)


if __name__ == "__main__":
    absltest.main()
