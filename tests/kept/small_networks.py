"""The networks of the files in this folder, which version 0.1.0 wrote; never to be changed."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from leanet.networks.contract import ADN, CAAN, Colorizer

CHANNELS = (2, 2, 2, 2, 2)


def _stage(channels_in: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(channels_in, 2, 3, 2, 1), nn.BatchNorm2d(2), nn.ReLU())


class _Mean(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.mean((2, 3))


class KeptADN(ADN):
    """Five strided convolutions."""

    activation = "sigmoid"
    channels = CHANNELS

    def __init__(self, image_size: int) -> None:
        super().__init__(image_size)
        self.stages = nn.ModuleList([_stage(3), *(_stage(2) for _ in range(4))])
        self.head = nn.Sequential(_Mean(), nn.Linear(2, 2))


class KeptCAAN(CAAN):
    """Five strided convolutions."""

    activation = "sigmoid"
    channels = CHANNELS

    def __init__(self) -> None:
        super().__init__()
        self.stages = nn.ModuleList([_stage(1), *(_stage(2) for _ in range(4))])
        self.head = nn.Sequential(_Mean(), nn.Linear(2, 2))


class KeptColorizer(Colorizer):
    """Two convolutions."""

    def __init__(self, image_size: int) -> None:
        super().__init__(image_size)
        self.layers = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 2, 1))

    def forward(self, lightness: Tensor) -> Tensor:
        chrominance: Tensor = torch.sigmoid(self.layers(lightness))
        return chrominance
