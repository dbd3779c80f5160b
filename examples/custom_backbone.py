"""A backbone of one's own, for `--import examples.custom_backbone`.

Separable convolutions with shortcuts around them, after MobileNets (Howard et al., arXiv 1704.04861).
"""

import keras

import kyolo
from kyolo.layers import ConvBNAct, SeparableConvBNAct


@kyolo.register("backbone", "separable_net")
def separable_net(width=16, depth=1):
    """Maps of strides 4, 8, 16 and 32 with 1, 2, 4 and 8 times `width` channels.

    Args:
        width: channels at stride 4. Default 16.
        depth: residual blocks behind each downsampling. Default 1.
    """
    image = keras.Input((None, None, 3), name="image")
    x = keras.layers.Rescaling(1 / 255, name="scale")(image)
    x = ConvBNAct(width, strides=2, name="stem")(x)
    maps = {}
    for number, level in enumerate(("P2", "P3", "P4", "P5")):
        channels = width * 2**number
        x = SeparableConvBNAct(channels, strides=2, name=f"{level}_downsample")(x)
        for block in range(depth):
            inner = SeparableConvBNAct(channels, name=f"{level}_block_{block}")(x)
            x = keras.layers.Add(name=f"{level}_sum_{block}")([x, inner])
        maps[level] = x
    return keras.Model(image, maps, name="separable_net")
