"""A CAAN without a network: the anomaly map itself is the attention."""

from __future__ import annotations

from torch import nn

from leanet.networks.contract import CAAN
from leanet.networks.registry import register_caan


@register_caan("Direct")
class Direct(CAAN):
    """The map, clipped to [0, 1] and halved step by step to each attention point; no weights, no logits.

    Source: the authors' program for arXiv 2109.05493, which need not clip because its maps never exceed 1.
    """

    activation = ""
    has_logits = False
    channels = (1, 1, 1, 1, 1)

    def __init__(self) -> None:
        super().__init__()
        # Bilinear halving with half-pixel centers is the mean of 2x2 pixels.
        halve = [nn.AvgPool2d(2) for _ in self.channels]
        self.stages = nn.ModuleList([nn.Sequential(nn.Hardtanh(0, 1), halve[0]), *halve[1:]])
        self.head = None
