import contextlib
import errno
import os
import pathlib
import resource
from unittest import mock

from absl.testing import absltest

from kyolo.errors import InputError
from kyolo.files import new_output, replace_file, write_text
from tests.test_case import TestCase


class FilesTest(TestCase):
    def test_replaced_whole(self):
        path = self.folder / "a.txt"
        write_text(path, "old")
        write_text(path, "new")
        self.assertEqual(path.read_text(), "new")
        self.assertEqual(self.names(), ["a.txt"])

    def test_a_write_that_dies_half_way_leaves_the_old_file(self):
        path = self.folder / "a.txt"
        write_text(path, "old")
        with self.assertRaises(KeyboardInterrupt), replace_file(path) as file:
            file.write(b"half")
            raise KeyboardInterrupt
        self.assertEqual(path.read_text(), "old")
        self.assertEqual(self.names(), ["a.txt"])

    def test_a_full_disk_leaves_the_old_file(self):
        path = self.folder / "a.txt"
        write_text(path, "old")
        kept = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, kept[1]))  # Then a write fails, as on a full disk.
        try:
            with self.assertRaisesRegex(InputError, f"Cannot write {path}: .* room .* 'File too large'"):
                write_text(path, "x" * 1001)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, kept)
        self.assertEqual(path.read_text(), "old")
        self.assertEqual(self.names(), ["a.txt"])

    def test_a_loss_of_power_forgets_neither_content_nor_name(self):
        path = self.folder / "a.txt"
        calls = []

        def fsync(descriptor):
            calls.append(("fsync", os.readlink(f"/proc/self/fd/{descriptor}")))

        def replace(*paths):
            calls.append(("replace", *map(str, paths)))

        with mock.patch.multiple(os, fsync=fsync, replace=replace):
            write_text(path, "new")
        part = f"{path}.part"
        self.assertEqual(calls, [("fsync", part), ("replace", part, str(path)), ("fsync", str(self.folder))])

    @contextlib.contextmanager
    def folders_that_do_not_sync(self, number):
        sync = os.fsync

        def fsync(descriptor):
            if os.path.isdir(f"/proc/self/fd/{descriptor}"):
                raise OSError(number, os.strerror(number))
            sync(descriptor)

        with mock.patch.object(os, "fsync", fsync):
            yield

    def test_a_file_system_that_cannot_sync_folders_is_written_to(self):
        path = self.folder / "a.txt"
        with self.folders_that_do_not_sync(errno.EINVAL):
            write_text(path, "new")
        self.assertEqual(path.read_text(), "new")

    def test_a_disk_that_fails_to_sync_a_folder(self):
        path = self.folder / "a.txt"
        with (
            self.folders_that_do_not_sync(errno.EIO),
            self.assertRaisesRegex(InputError, f"names in {self.folder} .* received 'Input/output error'"),
        ):
            write_text(path, "new")
        self.assertEqual(path.read_text(), "new")

    def test_new_output_appears_when_it_is_whole(self):
        path = self.folder / "deep" / "out"
        with new_output(path) as temporary:
            temporary.mkdir()
            (temporary / "a").write_text("a")
            self.assertFalse(path.exists())
        self.assertEqual((path / "a").read_text(), "a")
        self.assertEqual(self.names("deep"), ["out"])

    def test_new_output_that_fails_leaves_nothing(self):
        with self.assertRaises(ValueError), new_output(self.folder / "out") as temporary:
            temporary.write_text("half")
            raise ValueError
        self.assertEmpty(self.names())

    def test_new_output_takes_the_place_of_an_empty_folder(self):
        (self.folder / "out").mkdir()
        with new_output(self.folder / "out", folder=True) as temporary:
            temporary.mkdir()
            (temporary / "a").write_text("a")
        self.assertEqual(self.names("out"), ["a"])

    def test_a_new_file_takes_the_place_of_nothing(self):
        (self.folder / "out").mkdir()
        with self.assertRaisesRegex(InputError, "exists"), new_output(self.folder / "out"):
            self.fail("entered")

    def test_new_output_where_one_stands(self):
        (self.folder / "out").mkdir()
        with contextlib.chdir(self.folder / "out"), new_output(".", folder=True) as temporary:
            temporary.mkdir()
        self.assertEqual(self.names(), ["out"])

    def test_new_output_that_exists_is_refused(self):
        write_text(self.folder / "a", "kept")
        with self.assertRaisesRegex(InputError, "exists"), new_output(self.folder):
            self.fail("entered")

    def names(self, folder="."):
        return [path.name for path in pathlib.Path(self.folder / folder).iterdir()]


if __name__ == "__main__":
    absltest.main()
