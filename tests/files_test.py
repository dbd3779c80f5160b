import contextlib
import errno
import os
import pathlib
import resource
from unittest import mock

from absl.testing import absltest, parameterized

from kyolo.errors import InputError
from kyolo.files import disk_problem, new_output, replace_file, write_text
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
            with self.assertRaisesRegex(InputError, f"Cannot write {path}: .* disk space .* 'File too large'"):
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
            self.assertRaisesRegex(InputError, f"names in {self.folder} .* got 'Input/output error'"),
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

    @parameterized.named_parameters(
        ("without_a_name", lambda _: OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), "No space left"),
        ("of_a_file_inside", lambda inside: PermissionError(13, "Permission denied", str(inside)), "Permission denied"),
        ("as_h5py_says_it", lambda _: RuntimeError("write failed: 'No space left on device'"), "No space left"),
        ("as_numpy_says_it", lambda _: OSError("4096 requested and 512 written"), "No space left"),
        ("as_opencv_is_reported", lambda inside: OSError(f"{inside}: expected a finished video"), "finished video"),
    )
    def test_a_disk_that_fails_is_named_by_the_path_of_the_user(self, error, part):
        with (
            contextlib.chdir(self.folder),
            self.assertRaises(InputError) as caught,
            new_output("deep/out", folder=True) as temporary,
        ):
            temporary.mkdir()
            raise error(temporary / "a.bin")
        self.assertStartsWith(str(caught.exception), "Cannot write deep/out: ")
        self.assertIn(part, str(caught.exception))
        self.assertNotIn(".out.", str(caught.exception))
        self.assertEmpty(self.names())

    def test_a_full_disk_within_a_text_file_of_the_output(self):
        kept = resource.getrlimit(resource.RLIMIT_FSIZE)
        with self.assertRaises(InputError) as caught, new_output(self.folder / "out", folder=True) as temporary:
            temporary.mkdir()
            resource.setrlimit(resource.RLIMIT_FSIZE, (1000, kept[1]))
            try:
                write_text(temporary / "a.txt", "x" * 1001)
            finally:
                resource.setrlimit(resource.RLIMIT_FSIZE, kept)
        self.assertStartsWith(str(caught.exception), f"Cannot write {self.folder}/out/a.txt: ")
        self.assertEmpty(self.names())

    def test_errors_about_other_files_are_left_as_they_are(self):
        error = PermissionError(13, "Permission denied", "/elsewhere/image.jpg")
        with self.assertRaises(PermissionError) as caught, new_output(self.folder / "out"):
            raise error
        self.assertIs(caught.exception, error)

    def test_errors_of_the_output_keep_their_kind_and_lose_the_temporary_name(self):
        with self.assertRaises(KeyError) as caught, new_output(self.folder / "out") as temporary:
            raise KeyError(f"{temporary}/1 has no signature")
        self.assertEqual(caught.exception.args, (f"{self.folder}/out/1 has no signature",))

    @parameterized.parameters("file/out", "/proc/kyolo/out", "/proc/out", "link/out", "x" * 300)
    def test_a_place_where_nothing_can_be_written(self, place):
        (self.folder / "file").touch()
        (self.folder / "link").symlink_to("nowhere")
        with contextlib.chdir(self.folder), self.assertRaises(InputError) as caught, new_output(place):
            self.fail("entered")
        self.assertStartsWith(str(caught.exception), f"Cannot write {place}: expected")
        self.assertCountEqual(self.names(), ["file", "link"])

    def test_a_link_to_nothing_is_not_replaced(self):
        (self.folder / "out").symlink_to("nowhere")
        problem = "out: expected a new path, .* link to nowhere"
        with self.assertRaisesRegex(InputError, problem), new_output(self.folder / "out", folder=True):
            self.fail("entered")
        self.assertTrue((self.folder / "out").is_symlink())

    def test_a_link_to_an_empty_folder_is_written_through(self):
        (self.folder / "there").mkdir()
        (self.folder / "out").symlink_to("there")
        with new_output(self.folder / "out", folder=True) as temporary:
            temporary.mkdir()
            (temporary / "a").touch()
        self.assertTrue((self.folder / "out").is_symlink())
        self.assertEqual(self.names("there"), ["a"])

    def test_a_mounted_volume_is_written_into(self):
        (self.folder / "out").mkdir()
        inode = (self.folder / "out").stat().st_ino
        with (
            mock.patch.object(os.path, "ismount", return_value=True),
            new_output(self.folder / "out", folder=True) as temporary,
        ):
            temporary.mkdir()
            (temporary / "a").touch()
        self.assertEqual(((self.folder / "out").stat().st_ino, self.names("out")), (inode, ["a"]))

    @parameterized.parameters(
        (OSError(errno.ENOENT, "No such file or directory", "a"), None),
        (ValueError("No space left on device"), None),
        (OSError("No space left on device"), "No space left on device"),
        (OSError(errno.EROFS, "Read-only file system"), "Read-only file system"),
    )
    def test_what_is_a_problem_of_the_disk(self, error, problem):
        self.assertEqual(disk_problem(error), problem)

    def names(self, folder="."):
        return [path.name for path in pathlib.Path(self.folder / folder).iterdir()]


if __name__ == "__main__":
    absltest.main()
