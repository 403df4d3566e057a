"""ResNet18 with the authors' extra convolution."""

from __future__ import annotations

from torch import nn

from leanet.networks.basic_block import BasicBlock
from leanet.networks.contract import ADN
from leanet.networks.layers import (
    GlobalAverage,
    Logits,
    SameConv2d,
    conv_bn_relu,
    he_normal_,
    initialise,
    same_max_pool,
)
from leanet.networks.registry import register_adn


@register_adn("ResNet18")
class ResNet18(ADN):
    """A 7x7 convolution, four stages of two basic blocks, global average pooling and one dense layer.

    Source: He et al. (2016), arXiv 1512.03385, table 1. The authors of LEA-Net add a plain 3x3 convolution
    before the max-pool. It follows attention point 1 and therefore opens the second stage.
    """

    activation = "sigmoid"
    channels = (64, 64, 128, 256, 512)

    def __init__(self, image_size: int) -> None:
        super().__init__(image_size)
        self.stages = nn.ModuleList(
            [
                conv_bn_relu(3, 64, 7, stride=2),
                nn.Sequential(SameConv2d(64, 64, 3), same_max_pool(), BasicBlock(64, 64), BasicBlock(64, 64)),
                nn.Sequential(BasicBlock(64, 128, stride=2), BasicBlock(128, 128)),
                nn.Sequential(BasicBlock(128, 256, stride=2), BasicBlock(256, 256)),
                nn.Sequential(BasicBlock(256, 512, stride=2), BasicBlock(512, 512)),
            ]
        )
        self.head = nn.Sequential(GlobalAverage(), Logits(512, 2))
        initialise(self, he_normal_)
