"""EfficientNet-Lite from KerasCV: EfficientNet for processors and phones, of ReLU6 and without squeezes.

The numbers of each size stand here: KerasCV's own size names would fetch the architecture from a hub.
"""

import keras_cv

from kyolo.models.backbones.taps import ends, loaded, tap

# Width and depth of b0 to b4, by which the numbers of b0 below are multiplied.
SIZES = {"b0": (1.0, 1.0), "b1": (1.0, 1.1), "b2": (1.1, 1.2), "b3": (1.2, 1.4), "b4": (1.4, 1.8)}
B0 = {
    "stackwise_kernel_sizes": [3, 3, 5, 3, 5, 5, 3],
    "stackwise_num_repeats": [1, 2, 2, 3, 3, 4, 1],
    "stackwise_input_filters": [32, 16, 24, 40, 80, 112, 192],
    "stackwise_output_filters": [16, 24, 40, 80, 112, 192, 320],
    "stackwise_expansion_ratios": [1, 6, 6, 6, 6, 6, 6],
    "stackwise_strides": [1, 2, 2, 2, 1, 2, 1],
}
LAST_STACKS = (2, 3, 5, 7)  # of strides 4, 8, 16 and 32


def efficientnet_lite_backbone(levels, size, weights=None):
    """Builds the backbone up to the last block of its coarsest level.

    Dropping whole blocks at random, as in the training for ImageNet, is left out: a detector of few images is trained
    for few steps.

    Args:
        levels: names of the levels wanted; those above P5 are not the backbone's.
        size: "b0" to "b4".
        weights: None for random weights, or the path of a `.weights.h5` file of KerasCV's `EfficientNetLiteBackbone` of
            this size. KerasCV publishes none. Default None.

    Returns:
        `Taps`.

    Raises:
        InputError: the weights cannot be loaded.

    Reference:
        Tan and Le, EfficientNet, arXiv 1905.11946; Lite: tensorflow/tpu, models/official/efficientnet/lite.
    """
    width, depth = SIZES[size]
    full = keras_cv.models.EfficientNetLiteBackbone(
        **B0,
        width_coefficient=width,
        depth_coefficient=depth,
        drop_connect_rate=0.0,
        include_rescaling=True,
        input_shape=(None, None, 3),
    )
    names = [_last_layer(full, f"block{stack}") for stack in LAST_STACKS]
    return tap(loaded(full, weights), ends(full, names), levels, pretrained=weights is not None)


def _last_layer(model, prefix):
    """Name of the last layer of a stack of blocks: its sum, or its norm where there is one block only."""
    return [layer.name for layer in model.layers if layer.name.startswith(prefix)][-1]
