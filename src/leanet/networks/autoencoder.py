"""A convolutional auto-encoder of color images."""

from __future__ import annotations

from torch import Tensor, nn

from leanet.networks.colorizers.autoencoder import down, up
from leanet.networks.layers import SameConv2d, initialise

BOTTLENECK = 16
"""Channels of the bottleneck at stride 16: a 48th of the image's numbers."""


class Autoencoder(nn.Module):
    """Strided convolutions down, a bottleneck, transposed convolutions up.

    Takes and returns images (N, 3, H, W), sRGB in [0, 1]; 16 must divide H and W.
    """

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(down(3, 32, norm=False), down(32, 64), down(64, 128), down(128, 128))
        self.bottleneck = SameConv2d(128, BOTTLENECK, 1)
        self.decoder = nn.Sequential(up(BOTTLENECK, 128), up(128, 128), up(128, 64), up(64, 32, norm=False))
        self.last = SameConv2d(32, 3, 3)
        initialise(self, nn.init.xavier_uniform_)

    def forward(self, images: Tensor) -> Tensor:
        # In float32: a bfloat16 sigmoid has fewer steps than a color channel.
        painted: Tensor = self.last(self.decoder(self.bottleneck(self.encoder(images))))
        return painted.float().sigmoid()
