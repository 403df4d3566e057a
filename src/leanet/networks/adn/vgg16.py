"""VGG16 with its full head."""

from __future__ import annotations

from torch import nn

from leanet.networks.contract import ADN
from leanet.networks.layers import FlattenHWC, Logits, SameConv2d, he_normal_, initialise
from leanet.networks.registry import register_adn

DEPTHS = (2, 2, 3, 3, 3)
"""Convolutions in each stage."""

DENSE = 4096
"""Width of the two hidden dense layers."""


@register_adn("VGG16")
class VGG16(ADN):
    """Five stages of 3x3 convolutions, each ending in a 2x2 max-pool, and three dense layers.

    Source: Simonyan & Zisserman (2015), arXiv 1409.1556, table 1, D; dense layers without dropout.
    """

    activation = "softmax"
    channels = (64, 128, 256, 512, 512)

    def __init__(self, image_size: int) -> None:
        super().__init__(image_size)
        inputs = (3, *self.channels)
        self.stages = nn.ModuleList(
            _stage(i, o, depth) for i, o, depth in zip(inputs, self.channels, DEPTHS, strict=False)
        )
        side = image_size // self.strides[-1]
        self.head = nn.Sequential(
            FlattenHWC(),
            nn.Linear(side * side * self.channels[-1], DENSE),
            nn.ReLU(),
            nn.Linear(DENSE, DENSE),
            nn.ReLU(),
            Logits(DENSE, 2),
        )
        initialise(self, he_normal_)


def _stage(inputs: int, outputs: int, depth: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for i in range(depth):
        layers += [SameConv2d(outputs if i else inputs, outputs, 3), nn.ReLU()]
    return nn.Sequential(*layers, nn.MaxPool2d(2))
