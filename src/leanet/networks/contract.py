"""What a network must offer to be a colorizer, an ADN or a CAAN here."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn

POINTS = (1, 2, 3, 4, 5)
"""Attention points, counted from 1 as in the paper: between stages, fine to coarse."""

STRIDES = (2, 4, 8, 16, 32)
"""Input pixels per feature, at each attention point; the same in every ADN and CAAN."""


class Colorizer(nn.Module):
    """Predicts colour from lightness.

    forward: lightness, float (N, 1, H, W), coded to [0, 1] -> chrominance, float32 (N, 2, H, W), in [0, 1].

    Args:
        image_size: side in pixels of the images it is built for, a multiple of 32.
    """

    def __init__(self, image_size: int) -> None:
        super().__init__()
        self.image_size = image_size


class ADN(nn.Module):
    """An anomaly detection network: five stages and a head, which LEANet runs one after another.

    Attributes:
        stages: five modules; the first takes the image (N, 3, H, W) in [0, 1], and the output of the p-th,
            (N, channels[p - 1], H / strides[p - 1], W / strides[p - 1]), is attention point p.
        head: the last stage's features -> two logits (N, 2), normal and anomalous.
        channels, strides: one number a stage.
        activation: 'softmax' or 'sigmoid', what the authors put on the logits; 'clipped sigmoid' where a reshaping
            follows it, which hides the logits from TensorFlow's loss. Only their loss and their files need it.

    Args:
        image_size: side in pixels of the images it is built for, a multiple of 32.
    """

    activation: ClassVar[str]
    channels: ClassVar[tuple[int, ...]]
    strides: ClassVar[tuple[int, ...]] = STRIDES
    stages: nn.ModuleList
    head: nn.Module

    def __init__(self, image_size: int) -> None:
        super().__init__()
        self.image_size = image_size

    def forward(self, image: Tensor) -> Tensor:
        """Two logits (N, 2) of an image (N, 3, H, W) in [0, 1], without attention."""
        x = image
        for stage in self.stages:
            x = stage(x)
        logits: Tensor = self.head(x)
        return logits


class CAAN(nn.Module):
    """A color anomaly attention network: five stages, and a head unless it learns nothing.

    Attributes:
        stages: five modules; the first takes the anomaly map (N, 1, H, W), 0 or more, scaled to about [0, 1].
        head: the last stage's features -> two logits (N, 2); None where there are none.
        channels, strides: one number a stage; the strides are the ADN's.
        activation: as in an ADN; '' where there are no logits.
    """

    activation: ClassVar[str]
    channels: ClassVar[tuple[int, ...]]
    strides: ClassVar[tuple[int, ...]] = STRIDES
    stages: nn.ModuleList
    head: nn.Module | None

    def forward(self, anomaly_map: Tensor) -> tuple[Tensor | None, list[Tensor]]:
        """Two logits (N, 2), or None, and the features (N, C, h, w) of the five stages."""
        x, features = anomaly_map, []
        for stage in self.stages:
            x = stage(x)
            features.append(x)
        return None if self.head is None else self.head(x), features
