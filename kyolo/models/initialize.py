"""Initial weights as a function of (seed, path of the variable)."""

import zlib

from kyolo.layers.conv_bn_act import conv_initializer


def seed_weights(model, seed):
    """Draws every random initial weight anew, each from its own seed.

    Two models that differ in one module then start equal everywhere else, whatever the order in which they were
    built: with one seed for all, one inserted layer would change every weight behind it. Layers of libraries keep
    their names and shapes and take the initialiser that kyolo's convolutions have.

    Args:
        model: a built Keras model.
        seed: whole number.
    """
    for layer in model._flatten_layers():
        initializer = getattr(layer, "kernel_initializer", None)
        if initializer is None or "seed" not in initializer.get_config():
            continue  # without a kernel, or one that starts at a constant
        kernel = layer.kernel
        path_seed = zlib.crc32(f"{seed}/{kernel.path}".encode())
        config = {**conv_initializer().get_config(), "seed": path_seed}
        kernel.assign(type(conv_initializer()).from_config(config)(kernel.shape, dtype=kernel.dtype))
