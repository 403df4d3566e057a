"""The contracts of a colorizer, an ADN and a CAAN."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from leanet.errors import OptionError

POINTS = (1, 2, 3, 4, 5)
"""Attention points: point p is where features have a stride of 2^p, fine to coarse, as in the paper."""

STRIDES = (2, 4, 8, 16, 32)
"""Input pixels per feature at these points; the authors' networks have all five."""


def point_of(stride: int) -> int:
    """The attention point where features have this stride: 1 for 2, 5 for 32.

    Raises:
        ValueError: the stride is not a power of two of at least 2.
    """
    if stride < 2 or stride & (stride - 1):
        raise ValueError(f"stride {stride}: expected a power of two, 2 or more.")
    return stride.bit_length() - 1


class Colorizer(nn.Module):
    """Predicts color from lightness.

    forward: lightness, float (N, 1, H, W), coded to [0, 1] -> chrominance, float32 (N, 2, H, W), coded to [0, 1].

    Args:
        image_size: side of its input images in pixels, a multiple of 32.
    """

    def __init__(self, image_size: int) -> None:
        super().__init__()
        self.image_size = image_size


class ADN(nn.Module):
    """An anomaly detection network: stages and a head, which LEANet runs in order.

    Attributes:
        stages: modules in order; the first takes the image (N, 3, H, W) in [0, 1] and normalizes it if the network
            needs that; the i-th returns (N, channels[i], H / strides[i], W / strides[i]).
        head: the last stage's features -> two logits (N, 2), normal and anomalous.
        channels, strides: one number per stage; strides are increasing powers of two.
        activation: 'softmax' or 'sigmoid', the authors' activation of the logits; 'clipped sigmoid' where a
            reshape follows, which hides the logits from TensorFlow's loss. Only their loss and their files need it.
        pretrained: whether it has ImageNet weights, which a new detector then starts from; see `load_pretrained`.

    Args:
        image_size: side of its input images in pixels, a multiple of 32.
    """

    activation: ClassVar[str] = "sigmoid"
    pretrained: ClassVar[bool] = False
    channels: ClassVar[tuple[int, ...]]
    strides: ClassVar[tuple[int, ...]] = STRIDES
    stages: nn.ModuleList
    head: nn.Module

    def __init__(self, image_size: int) -> None:
        super().__init__()
        self.image_size = image_size

    @property
    def points(self) -> tuple[int, ...]:
        """The attention point after each stage, by its stride."""
        return tuple(point_of(stride) for stride in self.strides)

    def forward(self, image: Tensor) -> Tensor:
        """Two logits (N, 2) for images (N, 3, H, W) in [0, 1], without attention."""
        x = image
        for stage in self.stages:
            x = stage(x)
        logits: Tensor = self.head(x)
        return logits

    def blocks(self, image: Tensor) -> list[Tensor]:
        """Features (N, C, h, w) after each block of an image as in `forward`; here a block is a stage."""
        features = [image]
        for stage in self.stages:
            features.append(stage(features[-1]))
        return features[1:]

    def embed(self, last: Tensor) -> Tensor:
        """The last stage's features (N, C, h, w) as one vector an image, (N, E): what the head's last layer reads.

        Here it is their global average, float32, with E = C; a network with layers in between overrides this.
        """
        return last.mean((2, 3), dtype=torch.float32)

    def load_pretrained(self, weights: str) -> None:
        """Replace all weights but the last layer's by pretrained ones.

        Args:
            weights: 'imagenet', or a file.
        Raises:
            OptionError: the network has no such weights, or they cannot be read.
        """
        remedy = "Omit the option, or choose the ADN EfficientNet-Lite0 or timm/NAME."
        raise OptionError("weights", weights, f"{type(self).__name__} starts from new weights. {remedy}")


class CAAN(nn.Module):
    """A color anomaly attention network: stages and, if it has logits, a head.

    Attributes:
        stages: modules in order; the first takes the anomaly map (N, 1, H, W), 0 or more, scaled to about [0, 1].
        head: the last stage's features -> two logits (N, 2); None without logits.
        channels, strides: one number per stage; LEANet takes the features whose stride is the ADN's.
        activation: as in an ADN; '' without logits.
        has_logits: whether there is a head.
        ends_in_relu: whether the features are 0 or more, which keeps the published attention at 0.5 or more.
    """

    activation: ClassVar[str] = "sigmoid"
    has_logits: ClassVar[bool] = True
    ends_in_relu: ClassVar[bool] = True
    channels: ClassVar[tuple[int, ...]]
    strides: ClassVar[tuple[int, ...]] = STRIDES
    stages: nn.ModuleList
    head: nn.Module | None

    @property
    def points(self) -> tuple[int, ...]:
        """The attention point after each stage, by its stride."""
        return tuple(point_of(stride) for stride in self.strides)

    def forward(self, anomaly_map: Tensor) -> tuple[Tensor | None, list[Tensor]]:
        """Two logits (N, 2), or None, and each stage's features (N, C, h, w), for maps (N, 1, H, W)."""
        x, features = anomaly_map, []
        for stage in self.stages:
            x = stage(x)
            features.append(x)
        return None if self.head is None else self.head(x), features
