"""SegNet as colorizer: unpooling restores each value to its position before pooling."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from leanet.networks.colorizers.residual import bottom
from leanet.networks.contract import Colorizer
from leanet.networks.layers import conv_bn_relu, initialise
from leanet.networks.registry import register_colorizer

ENCODER = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
DECODER = ((512, 512, 512), (512, 512, 256), (256, 256, 128), (128, 64), (64, 64))
"""Widths of the convolutions between two (un)poolings."""


@register_colorizer("SegNet")
class SegNet(Colorizer):
    """VGG16's convolutions with BatchNorm down, five residual blocks, the mirror image up.

    Source: Badrinarayanan, Kendall & Cipolla (2017), arXiv 1511.00561, in the LEA-Net authors' variant.
    """

    def __init__(self, image_size: int) -> None:
        super().__init__(image_size)
        self.encoder = _stages(1, ENCODER)
        self.bottom = bottom()
        self.decoder = _stages(512, DECODER)
        self.last = nn.Conv2d(64, 2, 1)
        initialise(self, nn.init.xavier_uniform_)

    def forward(self, lightness: Tensor) -> Tensor:
        x, peaks = lightness, []
        for stage in self.encoder:
            x, peak = max_pool_with_peaks(stage(x))
            peaks.append(peak)
        x = self.bottom(x)
        for stage in self.decoder:
            x = stage(max_unpool(x, peaks.pop()))
        # In float32: a bfloat16 sigmoid has fewer steps than a color channel.
        chrominance: Tensor = self.last(x)
        return chrominance.float().sigmoid()


def max_pool_with_peaks(x: Tensor) -> tuple[Tensor, Tensor]:
    """2x2 max-pool that also returns the positions of the maxima.

    It uses plain tensor operations, because compilers and exporters do not support max_unpool2d.

    Args:
        x: float (N, C, H, W), H and W even.
    Returns:
        The maxima (N, C, H/2, W/2), and a bool mask like x that marks each window's maximum. Of equal values, the
        first in row order is marked (after a ReLU, windows of four zeros are common).
    """
    pooled = F.max_pool2d(x, 2)
    taken = torch.zeros_like(pooled, dtype=torch.bool)
    rows = []
    for i in (0, 1):
        pair = []
        for j in (0, 1):
            pair.append((x[:, :, i::2, j::2] == pooled) & ~taken)
            taken = taken | pair[-1]
        rows.append(torch.stack(pair, 4).flatten(3))
    return pooled, torch.stack(rows, 3).flatten(2, 3)


def max_unpool(x: Tensor, peaks: Tensor) -> Tensor:
    """Undo a 2x2 max-pool: (N, C, h, w) -> (N, C, 2h, 2w), each value at its window's peak among zeros."""
    return F.interpolate(x, scale_factor=2.0, mode="nearest") * peaks


def _stages(inputs: int, widths: tuple[tuple[int, ...], ...]) -> nn.ModuleList:
    stages = nn.ModuleList()
    for stage in widths:
        pairs = zip((inputs, *stage), stage, strict=False)
        stages.append(nn.Sequential(*(conv_bn_relu(i, o, 3) for i, o in pairs)))
        inputs = stage[-1]
    return stages
