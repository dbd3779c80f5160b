"""Initial weights as a function of the seed."""

import contextlib
import random
import zlib

import keras

from kyolo import _compat
from kyolo.layers.conv_bn_act import conv_initializer


@contextlib.contextmanager
def drawn_from(*seed):
    """A `with` block in which initialisers without a seed, and dropout, take theirs from this one.

    Keras draws such seeds from Python's generator, which goes on behind the block as if nothing had been.

    Args:
        *seed: numbers and texts.
    """
    kept = random.getstate()
    random.seed("/".join(map(str, seed)))
    try:
        yield
    finally:
        random.setstate(kept)


def is_random_state(variable):
    """Whether a variable is the state of a random generator, as of dropout; its path is another in each build."""
    return variable.name == "seed_generator_state"


def finalize_states(model):
    """Lets layers that keep what they computed from their weights, as `Normalization`, compute it anew."""
    for layer in _compat.flatten_layers(model):
        if layer.built and hasattr(layer, "finalize_state"):
            layer.finalize_state()


def seed_weights(model, seed, leave_out=()):
    """Draws the kernels of convolutions and dense layers anew, each from its own seed.

    Two models that differ in one module then start equal everywhere else, whatever the order in which they were
    built: with one seed for all, one inserted layer would change every weight behind it. Layers of libraries keep
    their names and shapes and take the initialiser that kyolo's convolutions have: uniform within +-1 / sqrt(fan_in).

    Args:
        model: a built Keras model.
        seed: whole number.
        leave_out: layers in it that keep the weights that they have. Default none.
    """
    left_out = {id(inner) for layer in leave_out for inner in _compat.flatten_layers(layer)}
    for layer in _compat.flatten_layers(model):
        if id(layer) in left_out:
            continue
        depthwise = isinstance(layer, keras.layers.DepthwiseConv2D)
        initializer = getattr(layer, "depthwise_initializer" if depthwise else "kernel_initializer", None)
        if not isinstance(initializer, keras.Initializer) or "seed" not in initializer.get_config():
            continue  # without a kernel, or one that starts at a constant
        kernel = layer.kernel
        path_seed = zlib.crc32(f"{seed}/{kernel.path}".encode())
        config = {**conv_initializer().get_config(), "seed": path_seed}
        # A depthwise kernel (k, k, C, m) looks at one channel each: its fan-in is that of (k, k, 1, C m).
        shape = (*kernel.shape[:2], 1, kernel.shape[2] * kernel.shape[3]) if depthwise else kernel.shape
        values = type(conv_initializer()).from_config(config)(shape, dtype=kernel.dtype)
        kernel.assign(keras.ops.reshape(values, kernel.shape))
