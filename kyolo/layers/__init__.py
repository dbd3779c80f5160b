"""The layers that detectors are built from."""

from kyolo.layers.batch_norm import BatchNorm as BatchNorm
from kyolo.layers.c2f import C2f as C2f
from kyolo.layers.conv_bn_act import ConvBNAct as ConvBNAct
from kyolo.layers.gam import GAM as GAM
from kyolo.layers.sppf import SPPF as SPPF

__all__ = [
    "BatchNorm",
    "C2f",
    "ConvBNAct",
    "GAM",
    "SPPF",
]
