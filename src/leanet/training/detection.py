"""Stage 2: train the ADN and the CAAN together to classify images as normal or anomalous."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from leanet.config import RecipeName
from leanet.data.tensors import images_to_tensor
from leanet.networks.leanet import LEANetOutput
from leanet.training.augment import in_other_light, mirror
from leanet.training.loop import Loss
from leanet.training.recipe import Recipe

RECIPES: dict[RecipeName, Recipe] = {
    "leanet": Recipe(epochs=4, image_passes=8000, batch_size=16, lr=1e-3, average_batch_norm=True),
    "authors": Recipe(
        epochs=100,
        batch_size=32,
        lr=1e-4,
        optimizer="keras_adam",
        schedule="constant",
        keep_partial_batch=True,
        mirror=False,
        published=True,
        balance=False,
        map_scale="max",
        validation=0.0,
    ),
}

MOST_WEIGHT = 20.0
"""The largest weight of an anomalous image relative to a normal one."""

ReadMaps = Callable[[NDArray[np.int64]], Tensor]
"""Rows of the data set -> scaled anomaly maps, float32 (N, 1, H, W)."""


@dataclass(frozen=True)
class DetectionData:
    """Training images with their anomaly maps and labels.

    Attributes:
        pixels: uint8 (N, H, W, 3), memory-mapped; every image of the data set.
        maps: reads the scaled anomaly maps of given rows.
        labels: int (N,), every image's label, 0 normal, 1 anomalous.
        rows: the rows to train on.
        recipe: decides whether to mirror the images, to put them into other light, and to weight anomalous ones.
    """

    pixels: NDArray[np.uint8]
    maps: ReadMaps
    labels: NDArray[np.int64]
    rows: NDArray[np.int64]
    recipe: Recipe

    def __len__(self) -> int:
        return len(self.rows)

    def batch(self, indices: Sequence[int], generator: torch.Generator) -> tuple[Tensor, ...]:
        """Images (N, 3, H, W) in [0, 1], anomaly maps (N, 1, H, W), labels (N,) and, if balanced, weights (N,)."""
        rows = self.rows[list(indices)]
        images, maps = images_to_tensor(self.pixels, rows), self.maps(rows)
        if self.recipe.mirror:
            images, maps = mirror([images, maps], generator)
        if self.recipe.other_light:
            images = in_other_light(images, generator)
        images = images.contiguous(memory_format=torch.channels_last)
        labels = self.labels[rows]
        batch = images, maps, torch.from_numpy(labels)
        if not self.recipe.balance:
            return batch
        return *batch, torch.from_numpy(class_weights(labels, self.labels[self.rows])).float()


def anomaly_weight(trained_on: NDArray[np.int64]) -> float:
    """An anomalous image's weight relative to a normal one, 1 to MOST_WEIGHT, from the training labels (N,)."""
    share = float(np.mean(trained_on))
    return min(max(1.0, (1 - share) / share), MOST_WEIGHT) if share else 1.0


def class_weights(labels: NDArray[np.int64], trained_on: NDArray[np.int64]) -> NDArray[np.float64]:
    """Each image's weight in the loss, which balances the classes if anomalous images are fewer.

    An anomalous image weighs as much as a normal one times the ratio of normal to anomalous images, at most
    MOST_WEIGHT. If anomalous images outnumber normal ones, all weights are equal. The mean over the training images
    is 1.

    Args:
        labels: int (N,), 0 normal, 1 anomalous.
        trained_on: int (M,), the labels of all training images.
    Returns:
        float64 (N,), above 0.
    """
    share, ratio = float(np.mean(trained_on)), anomaly_weight(trained_on)
    return np.where(labels == 1, ratio, 1.0) / (1 - share + ratio * share)


def loss(
    model: nn.Module,
    images: Tensor,
    maps: Tensor,
    labels: Tensor,
    weights: Tensor | None = None,
    *,
    caan_weight: float = 1.0,
) -> Tensor:
    """Cross-entropy of the ADN's two logits plus `caan_weight` times the CAAN's: (total, ADN's, CAAN's).

    Args:
        images: float (N, 3, H, W), sRGB in [0, 1].
        maps: float (N, 1, H, W), scaled to about [0, 1].
        labels: int (N,), 0 normal, 1 anomalous.
        weights: float (N,), each image's weight; None: all equal.
    """
    output: LEANetOutput = model(images, maps)
    adn = _cross_entropy(output.adn_logits, labels, weights)
    if output.caan_logits is None:
        return _total(adn, None)
    return _total(adn, _cross_entropy(output.caan_logits, labels, weights), caan_weight)


def _cross_entropy(logits: Tensor, labels: Tensor, weights: Tensor | None) -> Tensor:
    each = F.cross_entropy(logits.float(), labels, reduction="none")
    return each.mean() if weights is None else (weights * each).mean()


def authors_loss(adn_activation: str, caan_activation: str, *, caan_weight: float = 1.0) -> Loss:
    """The published objective: the sum of each activated pair's binary cross-entropy.

    Args:
        adn_activation, caan_activation: the heads' activations, 'softmax', 'sigmoid' or 'clipped sigmoid'.
        caan_weight: weight of the CAAN's term; 1 as published.
    Returns:
        A loss like `loss`: (total, ADN's, CAAN's).
    """

    def pair_loss(model: nn.Module, images: Tensor, maps: Tensor, labels: Tensor) -> Tensor:
        output: LEANetOutput = model(images, maps)
        adn = pair_cross_entropy(output.adn_logits, labels, adn_activation)
        if output.caan_logits is None:
            return _total(adn, None)
        return _total(adn, pair_cross_entropy(output.caan_logits, labels, caan_activation), caan_weight)

    return pair_loss


def pair_cross_entropy(logits: Tensor, labels: Tensor, activation: str) -> Tensor:
    """Binary cross-entropy of the two activated units against the one-hot label, mean over units and batch.

    The pair is clipped to [1e-7, 1 - 1e-7], except plain 'sigmoid' units, which are computed from their logits.

    Args:
        logits: (N, 2).
        labels: int (N,), 0 or 1.
        activation: the head's, 'softmax', 'sigmoid' or 'clipped sigmoid'.
    Source: tf.keras.losses.BinaryCrossentropy, TensorFlow 2.3.
    """
    target = F.one_hot(labels, 2).float()
    if activation == "sigmoid":
        return F.binary_cross_entropy_with_logits(logits.float(), target)
    p = logits.float().softmax(1) if activation == "softmax" else logits.float().sigmoid()
    p = p.clamp(1e-7, 1 - 1e-7)
    return -(target * p.log() + (1 - target) * (1 - p).log()).mean()


def _total(adn: Tensor, caan: Tensor | None, caan_weight: float = 1.0) -> Tensor:
    return torch.stack([adn, adn]) if caan is None else torch.stack([adn + caan_weight * caan, adn, caan])
