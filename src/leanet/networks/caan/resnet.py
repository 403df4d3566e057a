"""A small ResNet that reads the anomaly map."""

from __future__ import annotations

from torch import nn

from leanet.networks.basic_block import BasicBlock
from leanet.networks.contract import CAAN
from leanet.networks.layers import GlobalAverage, Logits, conv_bn_relu, he_normal_, initialise, same_max_pool
from leanet.networks.registry import register_caan


@register_caan("ResNet")
class ResNet(CAAN):
    """ResNet18 with one basic block per stage instead of two, for one input channel.

    Source: the authors' program for arXiv 2109.05493.
    """

    activation = "softmax"
    channels = (64, 64, 128, 256, 512)

    def __init__(self) -> None:
        super().__init__()
        self.stages = nn.ModuleList(
            [
                conv_bn_relu(1, 64, 7, stride=2),
                nn.Sequential(same_max_pool(), BasicBlock(64, 64)),
                BasicBlock(64, 128, stride=2),
                BasicBlock(128, 256, stride=2),
                BasicBlock(256, 512, stride=2),
            ]
        )
        self.head = nn.Sequential(GlobalAverage(), Logits(512, 2))
        initialise(self, he_normal_)
