"""What `import kyolo` and the command line make of the environment and of Keras' own settings file."""

import json
import os
import subprocess
import sys
from unittest import mock

from absl.testing import absltest, parameterized

from kyolo import _environment
from kyolo.errors import InputError
from tests.test_case import ROOT, TestCase


class EnvironmentTest(TestCase):
    def run_python(self, code, **environment):
        """Run Python code in another process; return its exit code, stdout and the last line of stderr."""
        kept = {name: value for name, value in os.environ.items() if name not in ("KERAS_BACKEND", "KERAS_HOME")}
        environment = {**kept, "PYTHONPATH": str(ROOT), **environment}
        done = subprocess.run(
            [sys.executable, "-c", code], env=environment, cwd=self.folder, capture_output=True, text=True, check=False
        )
        return done.returncode, done.stdout, (done.stderr.splitlines() or [""])[-1]

    def test_import_selects_keras_3_on_tensorflow_and_loads_neither(self):
        code = (
            "import kyolo, os, sys; print(os.environ['TF_USE_LEGACY_KERAS'], os.environ['KERAS_BACKEND'], "
            "{'keras', 'tensorflow', 'numpy'} & set(sys.modules))"
        )
        self.assertEqual(self.run_python(code, TF_USE_LEGACY_KERAS="1"), (0, "0 tensorflow set()\n", ""))

    @parameterized.parameters("jax", "torch")
    def test_another_backend_is_refused_at_import(self, backend):
        code, _, line = self.run_python("import kyolo", KERAS_BACKEND=backend)
        self.assertEqual(code, 1)
        self.assertRegex(line, f"^ImportError: KERAS_BACKEND: expected tensorflow, .* got {backend}. Set .*")

    def test_another_backend_that_runs_is_refused(self):
        # Keras stands in for itself: neither JAX nor PyTorch is installed.
        fake = "import sys, types; config = types.SimpleNamespace(backend=lambda: 'jax'); "
        fake += "sys.modules['keras'] = types.SimpleNamespace(config=config); import kyolo"
        code, _, line = self.run_python(fake)
        self.assertEqual(code, 1)
        self.assertRegex(line, "^ImportError: KERAS_BACKEND: expected tensorflow, .* got jax")

    def test_legacy_keras_that_runs_is_refused(self):
        code, _, line = self.run_python(
            "import sys, types; sys.modules['tensorflow'] = types.ModuleType('tensorflow'); import kyolo",
            TF_USE_LEGACY_KERAS="True",
        )
        self.assertEqual(code, 1)
        self.assertRegex(line, "^ImportError: TF_USE_LEGACY_KERAS: expected it unset, .* Unset it")

    def test_the_command_line_sets_the_backend_itself(self):
        done = subprocess.run(
            [sys.executable, str(ROOT / "tools" / "describe.py"), "--config", "no.yaml"],
            env={**os.environ, "KERAS_BACKEND": "jax"},
            capture_output=True,
            text=True,
            check=False,
        )
        self.assertEqual(done.returncode, 2)
        self.assertRegex(done.stderr, r"^kyolo: error: no.yaml[^\n]*\n$")

    @parameterized.parameters(
        ({"floatx": "int8"}, "floatx: expected float16 or float32 or float64, got 'int8'"),
        ({"image_data_format": "first"}, "image_data_format: expected channels_last or channels_first, got 'first'"),
        ({"epsilon": 1}, "epsilon: expected a float, got 1"),
        (["floatx"], "expected a JSON object, got list"),
    )
    def test_settings_that_keras_does_not_take(self, settings, problem):
        path = self.folder / "keras.json"
        path.write_text(json.dumps(settings))
        refused = self.assertRaisesRegex(InputError, f"^{path}: {problem}. Correct the file or remove it.$")
        with mock.patch.dict(os.environ, {"KERAS_HOME": str(self.folder)}), refused:
            _environment.check_keras_json()

    def test_settings_that_are_a_folder(self):
        (self.folder / ".keras" / "keras.json").mkdir(parents=True)
        with mock.patch.dict(os.environ, {"HOME": str(self.folder)}):
            os.environ.pop("KERAS_HOME", None)
            with self.assertRaisesRegex(InputError, "keras.json: expected a readable file, got 'Is a directory'"):
                _environment.check_keras_json()

    @parameterized.parameters('{"floatx": "float64", "image_data_format": "channels_first"}', "{broken")
    def test_settings_that_do_not_matter(self, text):
        (self.folder / "keras.json").write_text(text)
        code = (
            "from kyolo.cli.options import import_tensorflow; import_tensorflow(); import keras; "
            "print(keras.config.image_data_format(), keras.config.floatx())"
        )
        expected = (0, "channels_last float32\n", "")
        self.assertEqual(self.run_python(code, KERAS_HOME=str(self.folder)), expected)

    def test_layers_are_built_channels_last_from_python(self):
        (self.folder / "keras.json").write_text('{"image_data_format": "channels_first"}')
        code = "import kyolo, keras; kyolo.layers; print(keras.config.image_data_format())"
        self.assertEqual(self.run_python(code, KERAS_HOME=str(self.folder))[:2], (0, "channels_last\n"))


if __name__ == "__main__":
    absltest.main()
