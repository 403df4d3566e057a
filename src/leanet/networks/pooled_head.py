"""A linear head on the pooled features of every block of a frozen ADN."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from leanet.networks.contract import ADN

ORIENTATIONS: tuple[tuple[int, ...], ...] = ((), (3,), (2,), (2, 3))
"""Axes to mirror an image along: pooled features are averaged over these four."""

STATISTICS = 3
"""Numbers per channel: mean, maximum, root mean square."""


class PooledHead(nn.Module):
    """Two logits of an image's pooled features by one linear function, whose weights `set` replaces.

    Args:
        features: number of pooled features, see `pooled_features`.
    """

    def __init__(self, features: int) -> None:
        super().__init__()
        self.linear = nn.Linear(features, 1)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    @torch.no_grad()
    def set(self, weight: Tensor, bias: float) -> None:
        """Take over a linear function: weight (features,), and a bias."""
        self.linear.weight.copy_(weight[None])
        self.linear.bias.fill_(bias)

    def forward(self, pooled: Tensor) -> Tensor:
        """Logits (N, 2), symmetric about 0, of pooled features (N, features)."""
        with torch.autocast(pooled.device.type, enabled=False):
            z = self.linear(pooled.float())
        return torch.cat([-z / 2, z / 2], 1)


def pooled_features(adn: ADN, images: Tensor) -> Tensor:
    """Each block's features, pooled: mean, maximum and root mean square of every channel.

    They are averaged over the image and its three mirror images.

    Args:
        adn: the network.
        images: float (N, 3, H, W), sRGB in [0, 1].
    Returns:
        float32 (N, STATISTICS * channels of all blocks).
    """
    blocks = adn.blocks(torch.cat([images.flip(axes) if axes else images for axes in ORIENTATIONS]))
    pooled = torch.cat([_statistics(block.float()) for block in blocks], 1)
    return pooled.reshape(len(ORIENTATIONS), -1, pooled.shape[1]).mean(0)


def pooled_size(channels: Sequence[int]) -> int:
    """How many pooled features blocks with these channels have."""
    return STATISTICS * sum(channels)


def _statistics(features: Tensor) -> Tensor:
    """(N, C, h, w) -> (N, STATISTICS * C)."""
    return torch.cat([features.mean((2, 3)), features.amax((2, 3)), features.square().mean((2, 3)).sqrt()], 1)
