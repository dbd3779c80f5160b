"""Reads the golden files that make_torch_golden.py writes, in the layout of Keras."""

import pathlib

import numpy as np

_LAYOUTS = {4: (2, 3, 1, 0), 2: (1, 0), 1: (0,)}  # OIHW to HWIO, OI to IO


def load(name):
    """Returns "x", "y_eval" and "y_train", of GAM "y_identity_..." too, as NHWC, and the weights by PyTorch's names."""
    with np.load(pathlib.Path(__file__).parent / f"{name}.npz") as file:
        arrays = {key: file[key] for key in file.files}
    tensors = {key: value.transpose(0, 2, 3, 1) for key, value in arrays.items() if not key.startswith("weights/")}
    weights = {
        key.removeprefix("weights/"): value.transpose(_LAYOUTS[value.ndim])
        for key, value in arrays.items()
        if key.startswith("weights/")
    }
    return tensors, weights


def conv_bn(weights, prefix=""):
    """The five weights of a ConvBNAct, named as the oracles name them."""
    names = {"gamma": "weight", "beta": "bias", "mean": "running_mean", "variance": "running_var"}
    return {
        "kernel": weights[f"{prefix}conv.weight"],
        **{ours: weights[f"{prefix}bn.{theirs}"] for ours, theirs in names.items()},
    }


def set_conv_bn(layer, values):
    """Sets the weights of a built kyolo ConvBNAct."""
    layer.conv.kernel.assign(values["kernel"])
    for variable, name in (
        (layer.norm.gamma, "gamma"),
        (layer.norm.beta, "beta"),
        (layer.norm.moving_mean, "mean"),
        (layer.norm.moving_variance, "variance"),
    ):
        variable.assign(values[name])
