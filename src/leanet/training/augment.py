"""Augmentation that both stages share."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def mirror(tensors: Sequence[Tensor], generator: torch.Generator) -> list[Tensor]:
    """Mirror each image left-right and top-bottom with probability 1/2 each, the same in all (N, C, H, W)."""
    mirrored = [t.clone() for t in tensors]
    for axis in (2, 3):
        chosen = torch.rand(len(tensors[0]), generator=generator) < 0.5
        for t in mirrored:
            t[chosen] = t[chosen].flip(axis)
    return mirrored
