"""What all attention modules share: gates, where they start, and how wide their hidden layers are."""

from keras import ops

from kyolo.layers.conv_bn_act import conv_initializer

INITS = ("identity", "paper")
LEAST_HIDDEN = 8  # of one or two hidden channels, all may be dead behind a ReLU


def check_init(init):
    """Return `init`; raise ValueError for one that there is not."""
    if init not in INITS:
        raise ValueError(f"init: expected one of {', '.join(INITS)}, received {init!r}")
    return init


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
