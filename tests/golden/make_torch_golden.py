"""Writes the golden vectors of GAM, C2f, SPPF and ConvBNAct from small PyTorch modules.

The modules are written from the definitions, in the layout of PyTorch (NCHW, kernels OIHW). The files hold the weights
before the training pass, the input, and the output in evaluation and in training mode. PyTorch is needed only here:

    python tests/golden/make_torch_golden.py
"""

import pathlib

import numpy as np
import torch
from torch import nn


class ConvBNAct(nn.Module):
    """Convolution without bias, batch norm, SiLU."""

    def __init__(self, inputs, outputs, kernel=1, stride=1, groups=1):
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, groups=groups, bias=False)
        self.bn = nn.BatchNorm2d(outputs, eps=1e-3, momentum=0.03)

    def forward(self, x):
        return nn.functional.silu(self.bn(self.conv(x)))


class C2f(nn.Module):
    """Split, blocks of two 3x3 convolutions in a row, everything concatenated."""

    def __init__(self, inputs, outputs, depth, shortcut):
        super().__init__()
        half = outputs // 2
        self.shortcut = shortcut
        self.pre = ConvBNAct(inputs, 2 * half)
        self.blocks = nn.ModuleList(
            nn.ModuleList([ConvBNAct(half, half, 3), ConvBNAct(half, half, 3)]) for _ in range(depth)
        )
        self.post = ConvBNAct((2 + depth) * half, outputs)

    def forward(self, x):
        parts = list(self.pre(x).chunk(2, dim=1))
        for first, second in self.blocks:
            y = second(first(parts[-1]))
            parts.append(parts[-1] + y if self.shortcut else y)
        return self.post(torch.cat(parts, dim=1))


class SPPF(nn.Module):
    """Half the channels, three chained 5x5 pools, all four concatenated."""

    def __init__(self, inputs, outputs):
        super().__init__()
        self.pre = ConvBNAct(inputs, inputs // 2)
        self.post = ConvBNAct(inputs * 2, outputs)

    def forward(self, x):
        parts = [self.pre(x)]
        for _ in range(3):
            parts.append(nn.functional.max_pool2d(parts[-1], kernel_size=5, stride=1, padding=2))
        return self.post(torch.cat(parts, dim=1))


class ChannelShuffle(nn.Module):
    """Takes one channel of each group in turn."""

    def __init__(self, groups):
        super().__init__()
        self.groups = groups

    def forward(self, x):
        b, c, h, w = x.shape
        return x.view(b, self.groups, c // self.groups, h, w).transpose(1, 2).reshape(b, c, h, w)


class GAM(nn.Module):
    """Global attention mechanism: per-pixel channel gate, then spatial gate, each of `gain` times a sigmoid."""

    def __init__(self, channels, rate=4, groups=1):
        super().__init__()
        self.gain = 1
        hidden = channels // rate
        self.channel_attention = nn.Sequential(
            nn.Linear(channels, hidden), nn.ReLU(inplace=True), nn.Linear(hidden, channels)
        )
        self.spatial_attention = nn.Sequential(
            nn.Conv2d(channels, hidden, kernel_size=7, padding=3, groups=groups),
            nn.BatchNorm2d(hidden),
            nn.ReLU(inplace=True),
            ChannelShuffle(groups) if groups > 1 else nn.Identity(),
            nn.Conv2d(hidden, channels, kernel_size=7, padding=3, groups=groups),
            nn.BatchNorm2d(channels),
        )

    def forward(self, x):
        attention = self.channel_attention(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        x = x * (self.gain * attention.sigmoid())
        return x * (self.gain * self.spatial_attention(x).sigmoid())


def randomize(module):
    """Gives every weight and statistic a value that no mistake leaves without trace."""
    for name, tensor in module.state_dict().items():
        if "num_batches" in name:
            continue
        if name.endswith("running_var"):
            tensor.uniform_(0.5, 2.0)
        elif tensor.ndim == 1:
            tensor.normal_(0.3, 0.5)
        else:
            tensor.normal_(0.0, tensor[0].numel() ** -0.5)


def write(name, module, channels):
    """Runs the module in both modes and writes tests/golden/<name>.npz."""
    randomize(module)
    state = {
        key: value.clone() for key, value in module.state_dict().items() if not key.endswith("num_batches_tracked")
    }
    x = torch.randn(2, channels, 9, 6)
    with torch.no_grad():
        arrays = {"x": x, "y_eval": module.eval()(x), "y_train": module.train()(x)}
        if isinstance(module, GAM):
            module.gain = 2
            module.load_state_dict(state, strict=False)
            arrays |= {"y_identity_eval": module.eval()(x), "y_identity_train": module.train()(x)}
    arrays |= {f"weights/{key}": value for key, value in state.items()}
    path = pathlib.Path(__file__).parent / f"{name}.npz"
    np.savez_compressed(path, **{key: value.numpy() for key, value in arrays.items()})


def main():
    """Writes all golden files from one seed."""
    torch.manual_seed(2024)
    torch.use_deterministic_algorithms(True)
    write("conv_bn_act", ConvBNAct(6, 8, kernel=3, stride=2), 6)
    write("conv_bn_act_groups", ConvBNAct(6, 8, kernel=3, groups=2), 6)
    write("c2f", C2f(8, 12, depth=2, shortcut=False), 8)
    write("c2f_shortcut", C2f(8, 12, depth=2, shortcut=True), 8)
    write("sppf", SPPF(8, 12), 8)
    write("gam", GAM(16), 16)
    # 8 hidden channels in 2 groups: the smallest shuffle that is not its own inverse.
    write("gam_groups", GAM(32, groups=2), 32)


if __name__ == "__main__":
    main()
