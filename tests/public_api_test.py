"""What users see: names that resolve, are documented, and are there at once."""

import importlib
import inspect
import pkgutil
import subprocess
import sys
import types

import pytest
from absl.testing import absltest, parameterized

import kyolo

PACKAGES = sorted(f"kyolo.{module.name}" for module in pkgutil.iter_modules(kyolo.__path__) if module.ispkg)


class PublicApiTest(parameterized.TestCase):
    def run_python(self, code):
        return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout

    @parameterized.parameters(*kyolo.__all__)
    def test_name_resolves_and_is_documented(self, name):
        value = getattr(kyolo, name)
        self.assertTrue(inspect.getdoc(value))
        self.assertIn(name, dir(kyolo))

    @parameterized.parameters(*PACKAGES)
    def test_package_hands_on_what_it_lists(self, package):
        module = importlib.import_module(package)
        names = [name for name in dir(module) if not name.startswith("_")]
        self.assertContainsSubset(getattr(module, "__all__", []), names)
        for name in names:
            value = getattr(module, name)
            if isinstance(value, type | types.FunctionType):
                self.assertTrue(value.__doc__, f"{package}.{name} has no docstring")
                self.assertTrue(value.__module__.startswith("kyolo."), f"{package}.{name} is not of this project")

    def test_every_package_is_reached_from_the_top(self):
        self.assertContainsSubset({package.removeprefix("kyolo.") for package in PACKAGES} - {"cli"}, kyolo.__all__)

    def test_unknown_name_is_an_attribute_error(self):
        with self.assertRaisesRegex(AttributeError, "kyolo.*build_detectors"):
            kyolo.build_detectors  # noqa: B018

    def test_import_and_config_need_no_tensorflow(self):
        code = "import sys, kyolo; kyolo.Config(); print({'tensorflow', 'keras', 'numpy'} & set(sys.modules))"
        self.assertEqual(self.run_python(code).strip(), "set()")

    @pytest.mark.slow
    def test_import_of_everything_is_quick(self):
        # Processor time: TensorFlow alone takes 3.8 s of it, and other programs may hold the machine.
        code = (
            "import time, kyolo; start = time.process_time(); kyolo.build_detector; print(time.process_time() - start)"
        )
        self.assertLess(float(self.run_python(code)), 15)


if __name__ == "__main__":
    absltest.main()
