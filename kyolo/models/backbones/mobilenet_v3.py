"""MobileNetV3 from keras.applications: for phones, and in a form of plain convolutions and ReLU only."""

import keras

from kyolo.models.backbones.keras_models import application
from kyolo.models.backbones.taps import ends, tap

# Where the stages of strides 4, 8, 16 and 32 end: in the paper's tables 1 and 2, before the next stride.
STAGES = {
    "small": ("expanded_conv_project_bn", "expanded_conv_2_add", "expanded_conv_7_add", "expanded_conv_10_add"),
    "large": ("expanded_conv_2_add", "expanded_conv_5_add", "expanded_conv_11_add", "expanded_conv_14_add"),
}
MINIMALISTIC = "_minimalistic"


def mobilenet_v3_backbone(levels, size, weights=None):
    """Builds the backbone up to the last block of its coarsest level.

    Args:
        levels: names of the levels wanted; those above P5 are not the backbone's.
        size: "small", "large", or one of them with "_minimalistic" behind: without squeeze-and-excitation, hard swish
            and 5x5 kernels, which some accelerators lack.
        weights: None for random weights; "imagenet", which Keras fetches; or the path of a file with the weights of
            this model of keras.applications without its top. Default None.

    Returns:
        `Taps`.

    Raises:
        InputError: the weights cannot be loaded.

    Reference:
        Howard et al., Searching for MobileNetV3, arXiv 1905.02244.
    """
    form = size.removesuffix(MINIMALISTIC)
    make = {"small": keras.applications.MobileNetV3Small, "large": keras.applications.MobileNetV3Large}[form]
    full = application(make, weights, minimalistic=size.endswith(MINIMALISTIC))
    return tap(full, ends(full, STAGES[form]), levels, pretrained=weights is not None)
