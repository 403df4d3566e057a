"""Augmentation that both stages share."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from leanet.color.light import random_light, relit


def mirror(tensors: Sequence[Tensor], generator: torch.Generator) -> list[Tensor]:
    """Mirror each image left-right and top-bottom with probability 1/2 each, the same in all (N, C, H, W)."""
    mirrored = [t.clone() for t in tensors]
    for axis in (2, 3):
        chosen = torch.rand(len(tensors[0]), generator=generator) < 0.5
        for t in mirrored:
            t[chosen] = t[chosen].flip(axis)
    return mirrored


def in_other_light(images: Tensor, generator: torch.Generator) -> Tensor:
    """Put each image under a random light with probability 1/2; the others stay as they are.

    Args:
        images: float (N, 3, H, W), sRGB in [0, 1].
        generator: chooses the images, and each one's light by `color.light.random_light`.
    Returns:
        A new tensor of the same shape and range.
    """
    lit = images.clone()
    seeds = torch.randint(2**31, (len(images),), generator=generator)
    for i in torch.nonzero(torch.rand(len(images), generator=generator) < 0.5)[:, 0].tolist():
        lit[i] = relit(images[i], *random_light(int(seeds[i])))
    return lit
