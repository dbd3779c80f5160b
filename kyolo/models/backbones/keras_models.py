"""Backbones from any Keras model: one of keras.applications, a `.keras` file, or a model that a program hands in."""

import os
import sys
import types
import zipfile

import keras

from kyolo.errors import ArgumentError, InputError, did_you_mean
from kyolo.models.backbones.taps import first_line, loaded, stride_of, tap
from kyolo.models.pyramid import BACKBONE_TOP, LEVELS, level_stride

IMAGENET = "imagenet"
LEVEL_OF = {level_stride(level): level for level in LEVELS if level <= BACKBONE_TOP}
BROKEN_FILE = (OSError, ValueError, KeyError, TypeError, AttributeError, zipfile.BadZipFile)


def keras_backbone(levels, model, layers, weights=None):
    """Builds a backbone from a model of keras.applications, or from a `.keras` file, tapped at layers.

    Args:
        levels: names of the levels wanted; those above P5 are not the backbone's.
        model: name of a model in keras.applications, such as "ResNet50V2", which gets pixels as its own
            `preprocess_input` makes them; or the path of a `.keras` file: a functional model from RGB images, 0..255.
        layers: names of layers of strides 4, 8, 16 and 32, in any order; those of the levels wanted suffice.
        weights: None: random weights, or those of the `.keras` file; "imagenet", which Keras fetches; or the path of a
            file with the weights of this model, that of keras.applications without its top. Default None.

    Returns:
        `Taps`.

    Raises:
        ValueError: there is no such model or layer, or no level has a layer's stride.
        InputError: a file cannot be loaded, or a level wanted has no layer.
    """
    from_file = model.endswith(".keras")
    full = loaded(_saved(model), weights) if from_file else application(_named(model), weights)
    pretrained = from_file or weights is not None
    return tap(full, _by_stride(full, layers), levels, pretrained=pretrained, from_file=from_file)


def pyramid_backbone(model, levels):
    """Taps a model that tells its own pyramid. It is taken as it is: its layers are the detector's, with their weights.

    Args:
        model: a functional `keras.Model` from RGB images, 0..255, with a dict of maps by level name as its output, with
            `pyramid_outputs` as KerasHub's backbones, or with `pyramid_level_inputs` as KerasCV's.
        levels: names of the levels wanted; those above P5 are not the backbone's.

    Returns:
        `Taps`.

    Raises:
        InputError: it is not functional, lacks a level wanted, or has it at another stride.
    """
    _check_images(model, "model.backbone")
    if hasattr(model, "pyramid_outputs"):
        pyramid = model.pyramid_outputs
    elif hasattr(model, "pyramid_level_inputs"):
        pyramid = {level: model.get_layer(name).output for level, name in model.pyramid_level_inputs.items()}
    else:
        output = getattr(model, "output", None)
        pyramid = output if isinstance(output, dict) else {}
    return tap(model, pyramid, levels, pretrained=True, own_parts=False)


def application(make, weights, **arguments):
    """A model of keras.applications without its top, from RGB images, 0..255.

    Args:
        make: the function of keras.applications.
        weights: None, "imagenet" or the path of a file.
        **arguments: of `make`.

    Raises:
        InputError: the weights cannot be loaded.
    """
    image = keras.Input((None, None, 3))
    preprocess = sys.modules[make.__module__].preprocess_input  # to what this model was trained on
    arguments |= {"include_top": False, "input_tensor": preprocess(image)}
    if weights == IMAGENET and make.__name__.startswith("EfficientNetB"):
        # Keras scales images once more with these weights only: as a run is loaded, it would be another network.
        expected = f"expected null or a file for {make.__name__}"
        raise ArgumentError("weights", f"{expected}, got {weights}. Use EfficientNetV2B0 for ImageNet weights.")
    if weights != IMAGENET:
        return loaded(make(**arguments, weights=None), weights)
    try:
        return make(**arguments, weights=IMAGENET)
    except Exception as error:
        if type(error) is not Exception and not isinstance(error, OSError | ValueError):
            raise  # a download that fails is a bare Exception of Keras', a file that is damaged one of the others
        raise InputError(
            f"model.backbone.weights: expected to fetch {IMAGENET}, which Keras keeps in ~/.keras/models, received "
            f"{type(error).__name__}: {first_line(error)}; without a network put the file there, or name its path"
        ) from error


def _named(name):
    models = {key: value for key, value in vars(keras.applications).items() if isinstance(value, types.FunctionType)}
    if name not in models:
        expected = "expected a .keras file or a model of keras.applications, e.g. ResNet50V2"
        raise ArgumentError("model", f"{expected}, got {name!r}{did_you_mean(name, models)}.")
    return models[name]


def _saved(path):
    try:
        if not zipfile.is_zipfile(path):
            raise ValueError("a file of another kind" if os.path.isfile(path) else "no such file")
        model = keras.models.load_model(path, compile=False)
    except BROKEN_FILE as error:
        raise InputError(
            f"model.backbone.model: cannot load {path!r}; expected a .keras file of layers that Keras, or a module of "
            f"--import, knows. Received: {first_line(error)}"
        ) from error
    _check_images(model, f"model.backbone.model: {path}")
    return model


def _check_images(model, where):
    """Raises InputError where a model has other inputs than images of any size."""
    expected = [(None, None, None, 3)]
    shapes = [tuple(x.shape) for x in getattr(model, "inputs", None) or ()]
    if shapes != expected:
        received = f"a {type(model).__name__} of {shapes or 'none'}"
        raise InputError(f"{where}: expected a functional Keras model of the inputs {expected}, received {received}")


def _by_stride(model, names):
    """The outputs of layers by the level whose stride they have."""
    outputs = {}
    for name in names:
        layer = next((layer for layer in model.layers if layer.name == name), None)
        if layer is None or isinstance(layer, keras.Model):
            received = f"{name!r}{did_you_mean(name, [layer.name for layer in model.layers])}"
            expected = f"expected layers of {model.name}, none of them a model"
            raise ArgumentError("layers", f"{expected}, got {received}.")
        stride = stride_of(model, layer.output)
        if stride not in LEVEL_OF or LEVEL_OF[stride] in outputs:
            expected = f"expected one layer for each of the strides {', '.join(map(str, LEVEL_OF))}"
            again = ", which another layer has" * (stride in LEVEL_OF)
            raise ArgumentError("layers", f"{expected}, got {name!r} of stride {stride:g}{again}.")
        outputs[LEVEL_OF[stride]] = layer.output
    return outputs
