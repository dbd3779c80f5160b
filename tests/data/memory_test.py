import pathlib
import resource
from unittest import mock

import hypothesis
import hypothesis.strategies as st
from absl.testing import absltest, parameterized

from kyolo.data.images import fit_image
from kyolo.data.memory import fitted_bytes, free_memory
from tests.test_case import TestCase

KB = 1024
UNLIMITED = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)


class FreeMemoryTest(TestCase):
    def setUp(self):
        super().setUp()
        self.proc, self.groups = self.folder / "proc", self.folder / "cgroup"
        self.write(self.proc / "meminfo", "MemTotal:       900 kB\nMemFree:  7 kB\nMemAvailable:    500 kB\n")
        self.write(self.proc / "self/status", "Name:\tpython\nVmSize:\t  90 kB\nVmData:\t  40 kB\n")

    def write(self, file, text):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(str(text))

    def free(self, **limits):
        chosen = {getattr(resource, name): (limit, limit) for name, limit in limits.items()}
        with mock.patch.object(resource, "getrlimit", side_effect=lambda kind: chosen.get(kind, UNLIMITED)):
            return free_memory(self.proc, self.groups)

    def test_of_the_machine(self):
        self.assertEqual(self.free(), 500 * KB)

    def test_unknown(self):
        self.assertIsNone(free_memory(pathlib.Path("nowhere"), pathlib.Path("nowhere")))

    @parameterized.parameters(
        ({"RLIMIT_DATA": 100 * KB}, 60), ({"RLIMIT_AS": 100 * KB}, 10), ({"RLIMIT_AS": 50 * KB}, 0)
    )
    def test_limits_of_the_process(self, limits, expected):
        self.assertEqual(self.free(**limits), expected * KB)

    def test_control_groups_of_version_2(self):
        """The group above leaves less; files in its memory that the system can drop are free."""
        self.write(self.proc / "self/cgroup", "0::/jobs/1\n")
        self.write(self.groups / "jobs/1/memory.max", "max\n")
        self.write(self.groups / "jobs/1/memory.current", 300 * KB)
        self.write(self.groups / "jobs/memory.max", 400 * KB)
        self.write(self.groups / "jobs/memory.current", 300 * KB)
        self.write(self.groups / "jobs/memory.stat", f"anon 1\ninactive_file {50 * KB}\nactive_file {20 * KB}\n")
        self.assertEqual(self.free(), (400 - (300 - 50 - 20)) * KB)

    def test_control_groups_of_version_1(self):
        self.write(self.proc / "self/cgroup", "5:memory:/docker/abc\n3:cpu:/docker/abc\n")
        self.write(self.groups / "memory/memory.limit_in_bytes", 200 * KB)
        self.write(self.groups / "memory/memory.usage_in_bytes", 150 * KB)
        self.assertEqual(self.free(), 50 * KB)


class FittedBytesTest(parameterized.TestCase):
    @hypothesis.settings(max_examples=30, deadline=None)
    @hypothesis.given(
        size=st.tuples(st.integers(1, 300), st.integers(1, 300)),
        image_size=st.tuples(st.integers(32, 96), st.integers(32, 96)),
        fit=st.sampled_from(("letterbox", "stretch")),
    )
    def test_is_what_the_fitted_image_takes(self, size, image_size, fit):
        import numpy as np

        image = fit_image(np.zeros((*size, 3), np.uint8), image_size, fit).numpy()
        row = 3 * max(image.shape[:2])  # rounding may differ by one row or column
        self.assertAlmostEqual(fitted_bytes(size, image_size, fit), image.nbytes, delta=row)


if __name__ == "__main__":
    absltest.main()
