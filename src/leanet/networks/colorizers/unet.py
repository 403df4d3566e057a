"""A U-Net as colorizer, like pix2pix's generator."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from leanet.networks.contract import Colorizer
from leanet.networks.layers import LEAK, DoublingConvTranspose2d, batch_norm, initialise
from leanet.networks.registry import register_colorizer

WIDTHS = (64, 128, 256, 512, 512, 512, 512, 512)
"""Channels after each halving; a side with fewer halvings omits the innermost levels."""

DROPOUTS = 3
"""How many of the innermost up blocks have dropout."""


@register_colorizer("Unet")
class Unet(Colorizer):
    """Down by 4x4 convolutions of stride 2, up by 2x2 transposed ones, with skips at every level.

    It has one level for each even halving of the side, at most 8; 256 pixels give 8.

    Source: Isola et al. (2017), arXiv 1611.07004, sec. 6.1, in the LEA-Net authors' variant.
    """

    def __init__(self, image_size: int) -> None:
        super().__init__(image_size)
        widths = WIDTHS[: _halvings(image_size)]
        self.down = nn.ModuleList(_down(i, o) for i, o in zip((1, *widths), widths, strict=False))
        self.up = nn.ModuleList()
        inputs = widths[-1]
        for level, outputs in enumerate(reversed(widths[:-1])):
            self.up.append(_up(inputs, outputs, dropout=level < DROPOUTS))
            inputs = 2 * outputs
        self.last = DoublingConvTranspose2d(inputs, 2)
        initialise(self, nn.init.xavier_uniform_)
        initialise(self.up, lambda weight: nn.init.kaiming_uniform_(weight, nonlinearity="relu"))

    def forward(self, lightness: Tensor) -> Tensor:
        x, skips = lightness, []
        for down in self.down:
            x = down(x)
            skips.append(x)
        x = skips.pop()
        for up in self.up:
            x = torch.cat([up(x), skips.pop()], 1)
        # In float32: a bfloat16 sigmoid has fewer steps than a color channel.
        chrominance: Tensor = self.last(x.relu())
        return chrominance.float().sigmoid()


def _halvings(image_size: int) -> int:
    """How many times 2 divides a side."""
    return (image_size & -image_size).bit_length() - 1


def _down(inputs: int, outputs: int) -> nn.Module:
    convolution = nn.Conv2d(inputs, outputs, 4, 2, padding=1)
    # The outermost level reads the image itself, which needs no activation or normalization.
    return convolution if inputs == 1 else nn.Sequential(nn.LeakyReLU(LEAK), convolution, batch_norm(outputs))


def _up(inputs: int, outputs: int, dropout: bool) -> nn.Sequential:
    layers = [nn.ReLU(), DoublingConvTranspose2d(inputs, outputs), batch_norm(outputs)]
    return nn.Sequential(*layers, *([nn.Dropout(0.5)] if dropout else []))
