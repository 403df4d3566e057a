"""An ADN of three stages, registered from outside the package."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn

from leanet import ADN, register_adn


class Pooled(nn.Module):
    """The mean of the features over the image."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean((2, 3))


def stage(channels_in: int, channels: int, stride: int) -> nn.Sequential:
    """A convolution with BatchNorm and ReLU."""
    convolution = nn.Conv2d(channels_in, channels, stride + 1, stride, stride // 2)
    return nn.Sequential(convolution, nn.BatchNorm2d(channels), nn.ReLU())


@register_adn("ToyADN")
class ToyADN(ADN):
    """Features at strides 4, 8 and 16, which are the attention points 2, 3 and 4."""

    channels: ClassVar[tuple[int, ...]] = (4, 8, 8)
    strides: ClassVar[tuple[int, ...]] = (4, 8, 16)

    def __init__(self, image_size: int) -> None:
        super().__init__(image_size)
        self.stages = nn.ModuleList([stage(3, 4, 4), stage(4, 8, 2), stage(8, 8, 2)])
        self.head = nn.Sequential(Pooled(), nn.Linear(8, 2))
