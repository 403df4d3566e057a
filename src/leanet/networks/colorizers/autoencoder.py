"""A convolutional autoencoder as colorizer."""

from __future__ import annotations

from torch import Tensor, nn

from leanet.networks.colorizers.residual import MOMENTUM, bottom
from leanet.networks.contract import Colorizer
from leanet.networks.layers import LEAK, SameConv2d, batch_norm, initialise
from leanet.networks.registry import register_colorizer


@register_colorizer("AE")
class AE(Colorizer):
    """Four strided convolutions down, five residual blocks, four transposed convolutions up.

    Source: the authors' program for arXiv 2109.05493.
    """

    def __init__(self, image_size: int) -> None:
        super().__init__(image_size)
        self.encoder = nn.Sequential(
            down(1, 32, kernel=1, stride=1, norm=False),
            down(32, 64, norm=False),
            down(64, 128),
            down(128, 256),
            down(256, 512),
        )
        self.bottom = bottom()
        self.decoder = nn.Sequential(up(512, 256), up(256, 128), up(128, 64), up(64, 32, norm=False))
        self.last = SameConv2d(32, 2, 4)
        initialise(self, nn.init.xavier_uniform_)

    def forward(self, lightness: Tensor) -> Tensor:
        # In float32: a bfloat16 sigmoid has fewer steps than a color channel.
        chrominance: Tensor = self.last(self.decoder(self.bottom(self.encoder(lightness))))
        return chrominance.float().sigmoid()


def down(inputs: int, outputs: int, kernel: int = 4, stride: int = 2, norm: bool = True) -> nn.Sequential:
    """A convolution with activation: (N, inputs, H, W) -> (N, outputs, H / stride, W / stride)."""
    return nn.Sequential(SameConv2d(inputs, outputs, kernel, stride), *_activation(outputs, norm))


def up(inputs: int, outputs: int, norm: bool = True) -> nn.Sequential:
    """A transposed convolution with activation: (N, inputs, H, W) -> (N, outputs, 2H, 2W)."""
    return nn.Sequential(nn.ConvTranspose2d(inputs, outputs, 4, 2, padding=1), *_activation(outputs, norm))


def _activation(channels: int, norm: bool) -> list[nn.Module]:
    return [*([batch_norm(channels, MOMENTUM)] if norm else []), nn.LeakyReLU(LEAK)]
