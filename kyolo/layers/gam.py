"""GAM: global attention over channels, then over space."""

import keras
from keras import ops

from kyolo.errors import ArgumentError
from kyolo.layers.conv_bn_act import conv_initializer
from kyolo.layers.gate import check_init, check_whole, gate, last_initializer, make_norm

CHANNEL_GATES = ("sigmoid", "none")


@keras.saving.register_keras_serializable("kyolo")
class GAM(keras.layers.Layer):
    """Global Attention Mechanism: a gate for each channel of each pixel, then one from 7x7 surroundings.

    `x = x * g(channel(x))`, `x = x * g(spatial(x))`, where `channel` is a per-pixel perceptron C -> C / reduction -> C
    with ReLU, and `spatial` is conv 7x7 C -> C / reduction, batch norm, ReLU, conv 7x7 -> C, batch norm.
    `init` says what the gate is and where it starts:

    - "paper": `g = sigmoid`. Each gate starts near 0.5, so the module multiplies its input by about 0.25, and a
      pretrained or partly trained network behind it gets features that it has never seen.
    - "identity": `g = 2 sigmoid`, and the last layer of each branch starts at 0, so both gates start at exactly 1 and
      inserting the module changes no output. The last layer of each branch learns from the first step on, the layers
      before it from the second; the biases of the 7x7 convolutions learn nothing, as a batch norm follows.

    The module costs about 25 C^2 weights at `reduction=4`, nearly all in the 7x7 convolutions; 6.6 C^2 with `groups=4`.

    Args:
        reduction: how much narrower the hidden layers are than the input. Default 4, the paper's.
        groups: groups of both 7x7 convolutions, with a channel shuffle between them. Default 1, no groups.
        init: "identity" or "paper". Default "identity".
        channel_gate: "sigmoid", or "none" for studies: the channel branch multiplies as it is, as in public ports that
            leave the sigmoid out; with "identity" 1 is added, so that it starts at 1 too. Default "sigmoid".

    Input shape:
        `(B, H, W, C)`, C divisible by `reduction`, C / reduction by `groups`.

    Output shape:
        The input's.

    Raises:
        ValueError: on an unknown `init` or `channel_gate`, a `reduction` or `groups` below 1, or when the channels
            cannot be divided as asked.

    Example:
        >>> x = keras.random.normal((1, 8, 8, 16))
        >>> bool(keras.ops.all(GAM()(x) == x))
        True

    Reference:
        Liu et al., Global Attention Mechanism, arXiv 2112.05561, equations 1 and 2. Many public ports leave out the
        sigmoid after the channel branch, which the equations have.
    """

    def __init__(self, reduction=4, groups=1, init="identity", channel_gate="sigmoid", **kwargs):
        super().__init__(**kwargs)
        if channel_gate not in CHANNEL_GATES:
            raise ArgumentError("channel_gate", f"expected one of {', '.join(CHANNEL_GATES)}, got {channel_gate!r}.")
        self.reduction = check_whole("reduction", reduction)
        self.groups = check_whole("groups", groups)
        self.init = check_init(init)
        self.channel_gate = channel_gate

    def build(self, input_shape):
        channels = input_shape[-1]
        hidden = channels // self.reduction
        if channels % self.reduction or hidden % self.groups:
            raise ValueError(
                f"channels must be divisible by reduction, and channels / reduction by groups. "
                f"Received: {channels} channels, reduction={self.reduction}, groups={self.groups}"
            )
        self.channel_squeeze = self._conv(hidden, 1, 1, "channel_squeeze", activation="relu")
        self.channel_expand = self._conv(channels, 1, 1, "channel_expand", kernel=last_initializer(self.init))
        self.spatial_squeeze = self._conv(hidden, 7, self.groups, "spatial_squeeze")
        self.squeeze_norm = make_norm("squeeze_norm", self.dtype_policy)
        self.spatial_expand = self._conv(channels, 7, self.groups, "spatial_expand")
        self.expand_norm = make_norm("expand_norm", self.dtype_policy, "zeros" if self.init == "identity" else "ones")
        narrow = (*input_shape[:-1], hidden)
        for layer, shape in (
            (self.channel_squeeze, input_shape),
            (self.channel_expand, narrow),
            (self.spatial_squeeze, input_shape),
            (self.squeeze_norm, narrow),
            (self.spatial_expand, narrow),
            (self.expand_norm, input_shape),
        ):
            layer.build(shape)

    def _conv(self, filters, kernel_size, groups, name, activation=None, kernel=None):
        return keras.layers.Conv2D(
            filters,
            kernel_size,
            padding="same",
            groups=groups,
            activation=activation,
            kernel_initializer=kernel or conv_initializer(),
            dtype=self.dtype_policy,
            name=name,
        )

    def compute_output_shape(self, input_shape):
        return tuple(input_shape)

    def call(self, inputs):
        x = inputs * self._channel_factor(self.channel_expand(self.channel_squeeze(inputs)))
        hidden = ops.relu(self.squeeze_norm(self.spatial_squeeze(x)))
        if self.groups > 1:
            hidden = self._shuffle(hidden)
        return x * gate(self.expand_norm(self.spatial_expand(hidden)), self.init)

    def _channel_factor(self, logits):
        if self.channel_gate == "sigmoid":
            return gate(logits, self.init)
        return 1 + logits if self.init == "identity" else logits

    def _shuffle(self, x):
        """Deals the channels of each group out over all groups, so that the second convolution mixes them."""
        batch, height, width = ops.shape(x)[:3]
        channels = x.shape[-1]
        x = ops.reshape(x, (batch, height, width, self.groups, channels // self.groups))
        return ops.reshape(ops.swapaxes(x, 3, 4), (batch, height, width, channels))

    def get_config(self):
        return {
            **super().get_config(),
            "reduction": self.reduction,
            "groups": self.groups,
            "init": self.init,
            "channel_gate": self.channel_gate,
        }
