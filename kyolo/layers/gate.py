"""What all attention modules share: gates, where they start, how wide their hidden layers are, their batch norm."""

from keras import ops

from kyolo.errors import ArgumentError
from kyolo.layers.batch_norm import BatchNorm
from kyolo.layers.conv_bn_act import conv_initializer

INITS = ("identity", "paper")
NORM = {"momentum": 0.9, "epsilon": 1e-5}  # of the published PyTorch codes: 0.1 and 1e-5 there, and not the detector's
LEAST_HIDDEN = 8  # of one or two hidden channels, all may be dead behind a ReLU


def check_init(init):
    """Return `init`; raise ArgumentError for an unknown one."""
    if init not in INITS:
        raise ArgumentError("init", f"expected one of {', '.join(INITS)}, got {init!r}.")
    return init


def check_whole(name, value, odd=False):
    """Return `value`, an integer >= 1, odd if asked; raise ArgumentError otherwise."""
    if type(value) is not int or value < 1 or (odd and value % 2 == 0):
        raise ArgumentError(name, f"expected an {'odd ' if odd else ''}integer >= 1, got {value!r}.")
    return value


def gate(logits, init):
    """Factor for each logit: sigmoid in 0..1 as published, or twice that, which is exactly 1 at logits of 0."""
    factor = ops.sigmoid(logits)
    return 2 * factor if init == "identity" else factor


def last_initializer(init):
    """Initialiser of the kernel before a gate: zeros, so that the gate starts at 1, or that of other kernels."""
    return "zeros" if init == "identity" else conv_initializer()


def hidden_channels(channels, reduction):
    """Width of a hidden layer: channels / reduction, rounded down, 8 at least."""
    return max(channels // reduction, LEAST_HIDDEN)


def make_norm(name, dtype, gamma="ones"):
    """Batch norm of the published modules; `gamma` is the initialiser of its factor."""
    return BatchNorm(**NORM, gamma_initializer=gamma, dtype=dtype, name=name)
