"""The residual block at the bottom of the SegNet and of the autoencoder."""

from __future__ import annotations

from torch import Tensor, nn

from leanet.networks.layers import LEAK, SameConv2d, batch_norm

MOMENTUM = 0.2
"""BatchNorm's momentum in these blocks and in the autoencoder (Keras' 0.8)."""


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions with BatchNorm, added to their input: (N, C, H, W) -> the same shape."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            SameConv2d(channels, channels, 3),
            batch_norm(channels, MOMENTUM),
            nn.LeakyReLU(LEAK),
            SameConv2d(channels, channels, 3),
            batch_norm(channels, MOMENTUM),
        )

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.body(x)
        return y + x


def bottom(channels: int = 512, depth: int = 5) -> nn.Sequential:
    """The five residual blocks between encoder and decoder."""
    return nn.Sequential(*(ResidualBlock(channels) for _ in range(depth)))
