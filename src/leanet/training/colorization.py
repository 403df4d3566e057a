"""Stage 1: train a network that paints normal images, on these alone: a colorizer, or an auto-encoder."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from leanet.color.fancy_pca import fancy_pca
from leanet.color.lab import encode_lab, rgb_to_lab
from leanet.config import RecipeName
from leanet.data.tensors import images_to_tensor
from leanet.training.augment import mirror
from leanet.training.compute import fused
from leanet.training.recipe import Recipe

RECIPES: dict[RecipeName, Recipe] = {
    "leanet": Recipe(epochs=10, image_passes=3500, batch_size=16, lr=3e-3, average_batch_norm=True),
    "authors": Recipe(
        epochs=500,
        batch_size=16,
        lr=1e-3,
        optimizer="keras_adam",
        schedule="constant",
        patience=20,
        keep_partial_batch=True,
        mirror=False,
        published=True,
    ),
}


@dataclass(frozen=True)
class NormalImages(ABC):
    """Normal training images as pairs of what a network gets and what it should paint.

    Attributes:
        pixels: uint8 (N, H, W, 3), memory-mapped; every image of the data set.
        rows: the rows of `pixels` to train on.
        recipe: decides whether to mirror the images, and whether to truncate FancyPCA to 8 bits as published.
        compiled: whether to compile the color conversion.
    """

    pixels: NDArray[np.uint8]
    rows: NDArray[np.int64]
    recipe: Recipe
    compiled: bool = False

    def __len__(self) -> int:
        return len(self.rows)

    @abstractmethod
    def batch(self, indices: Sequence[int], generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """The pairs of these indices, (N, C, H, W) each, in [0, 1]."""

    def images(self, indices: Sequence[int], generator: torch.Generator) -> Tensor:
        """Images (N, 3, H, W), sRGB in [0, 1], with the generator's changes."""
        rgb = images_to_tensor(self.pixels, self.rows[list(indices)])
        rgb = fancy_pca(rgb, generator=generator, truncate=self.recipe.published)
        if self.recipe.mirror:
            (rgb,) = mirror([rgb], generator)
        return rgb


@dataclass(frozen=True)
class ColorizationData(NormalImages):
    """Normal training images as (lightness, chrominance) pairs."""

    def batch(self, indices: Sequence[int], generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Lightness (N, 1, H, W) and chrominance (N, 2, H, W), both coded to [0, 1]."""
        rgb = self.images(indices, generator)
        to_coded_lab = fused(_coded_lab) if self.compiled else _coded_lab
        coded = to_coded_lab(rgb).contiguous(memory_format=torch.channels_last)
        return coded[:, :1], coded[:, 1:]


@dataclass(frozen=True)
class ReconstructionData(NormalImages):
    """Normal training images as pairs of an image and itself."""

    def batch(self, indices: Sequence[int], generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """The same images (N, 3, H, W) twice, sRGB in [0, 1]."""
        rgb = self.images(indices, generator).contiguous(memory_format=torch.channels_last)
        return rgb, rgb


def _coded_lab(rgb: Tensor) -> Tensor:
    return encode_lab(rgb_to_lab(rgb))


def loss(model: nn.Module, given: Tensor, expected: Tensor) -> Tensor:
    """Mean squared error of what a network paints, shape (1,).

    Args:
        given: the network's input (N, C, H, W), in [0, 1].
        expected: what it should paint, in [0, 1].
    """
    return F.mse_loss(model(given).float(), expected).reshape(1)
