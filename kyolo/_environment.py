"""What kyolo needs of the process before Keras is imported: the TensorFlow backend, Keras 3, images channels last."""

import json
import os
import pathlib
import sys

from kyolo.errors import InputError

_LEGACY = "TF_USE_LEGACY_KERAS"
_ON = ("1", "true", "True")  # values with which TensorFlow routes tf.keras to the package tf_keras
_CHOICES = {
    "floatx": ("float16", "float32", "float64"),
    "image_data_format": ("channels_last", "channels_first"),
}


def select_keras() -> None:
    """Select Keras 3 on TensorFlow through the environment, or refuse what is imported already. Imports nothing.

    Raises:
        ImportError: Keras runs on another backend, or TensorFlow was imported with TF_USE_LEGACY_KERAS set.
    """
    _select_backend()
    if os.environ.get(_LEGACY) in _ON:
        if "tensorflow" in sys.modules:
            raise ImportError(
                f"{_LEGACY}: expected it unset, as kyolo needs Keras 3, got {os.environ[_LEGACY]!r} when TensorFlow "
                f"was imported. Unset it, or import kyolo before TensorFlow."
            )
        os.environ[_LEGACY] = "0"


def _select_backend() -> None:
    config = getattr(sys.modules.get("keras"), "config", None)
    if config is None:
        backend = "tensorflow" if _is_command_line() else os.environ.get("KERAS_BACKEND") or "tensorflow"
    else:
        backend = config.backend()
    if backend != "tensorflow":
        raise ImportError(
            f"KERAS_BACKEND: expected tensorflow, the only backend that kyolo supports, got {backend}. "
            f"Set KERAS_BACKEND=tensorflow before Keras is imported."
        )
    os.environ["KERAS_BACKEND"] = "tensorflow"


def _is_command_line() -> bool:
    """Return whether the program is kyolo's own, where nothing else uses Keras: `kyolo`, or a script in `tools/`."""
    program = pathlib.Path(sys.argv[0] if sys.argv else "").absolute()
    return program.stem == "kyolo" or program.parent == pathlib.Path(__file__).absolute().parents[1] / "tools"


def use_channels_last() -> None:
    """Make channels_last Keras' image data format, whatever keras.json says: kyolo's layers know no other."""
    import keras

    keras.config.set_image_data_format("channels_last")


def use_default_types() -> None:
    """Make Keras' float type and epsilon its defaults, whatever keras.json says: each run names its precision."""
    import keras

    keras.config.set_floatx("float32")
    keras.config.set_epsilon(1e-7)


def check_keras_json() -> None:
    """Refuse a keras.json that Keras cannot be imported with.

    Raises:
        InputError: the file cannot be read, or holds what Keras does not accept.
    """
    home = os.environ.get("KERAS_HOME") or os.path.join(os.path.expanduser("~"), ".keras")
    path = os.path.expanduser(os.path.join(home, "keras.json"))
    if not os.path.exists(path):
        return
    remedy = "Correct the file or remove it."
    try:
        with open(path, encoding="utf-8") as file:
            settings = json.load(file)
    except OSError as error:
        raise InputError(f"{path}: expected a readable file, got {error.strerror!r}. {remedy}") from error
    except ValueError:  # which Keras ignores
        return
    if not isinstance(settings, dict):
        raise InputError(f"{path}: expected a JSON object, got {type(settings).__name__}. {remedy}")
    for name, choices in _CHOICES.items():
        if name in settings and settings[name] not in choices:
            raise InputError(f"{path}: {name}: expected {' or '.join(choices)}, got {settings[name]!r}. {remedy}")
    if not isinstance(settings.get("epsilon", 1e-7), float):
        raise InputError(f"{path}: epsilon: expected a float, got {settings['epsilon']!r}. {remedy}")
