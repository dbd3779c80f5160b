"""The layers that detectors are built from."""

from kyolo.layers.batch_norm import BatchNorm as BatchNorm
from kyolo.layers.c2f import C2f as C2f
from kyolo.layers.cbam import CBAM as CBAM
from kyolo.layers.control_conv import ControlConv as ControlConv
from kyolo.layers.conv_bn_act import ConvBNAct as ConvBNAct
from kyolo.layers.coord_attention import CoordAttention as CoordAttention
from kyolo.layers.eca import ECA as ECA
from kyolo.layers.gam import GAM as GAM
from kyolo.layers.se import SE as SE
from kyolo.layers.separable_conv import SeparableConvBNAct as SeparableConvBNAct
from kyolo.layers.simam import SimAM as SimAM
from kyolo.layers.sppf import SPPF as SPPF

__all__ = [
    "BatchNorm",
    "C2f",
    "CBAM",
    "ControlConv",
    "ConvBNAct",
    "CoordAttention",
    "ECA",
    "GAM",
    "SE",
    "SPPF",
    "SeparableConvBNAct",
    "SimAM",
]
