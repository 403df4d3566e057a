"""A plain CNN: five strided convolutions."""

from __future__ import annotations

from torch import nn

from leanet.networks.contract import ADN
from leanet.networks.layers import FlattenHWC, Logits, conv_bn_relu, he_normal_, initialise
from leanet.networks.registry import register_adn


@register_adn("CNN")
class CNN(ADN):
    """Five 3x3 convolutions of stride 2, each an attention point, and one dense layer.

    Source: the authors' program for arXiv 2109.05493.
    """

    activation = "sigmoid"
    channels = (64, 128, 256, 512, 512)

    def __init__(self, image_size: int) -> None:
        super().__init__(image_size)
        inputs = (3, *self.channels)
        self.stages = nn.ModuleList(
            conv_bn_relu(i, o, 3, stride=2) for i, o in zip(inputs, self.channels, strict=False)
        )
        side = image_size // self.strides[-1]
        self.head = nn.Sequential(FlattenHWC(), Logits(side * side * self.channels[-1], 2))
        initialise(self, he_normal_)
