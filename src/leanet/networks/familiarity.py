"""How far an image's features are from those of the images that a model was trained on."""

from __future__ import annotations

import torch
from torch import Tensor, nn

COMPONENTS = 64
"""Principal components of the features, at most, along which a distance counts by their variance."""


class Familiarity(nn.Module):
    """Distance of pooled features from those of the training images: sqrt(|u|^2 + |W u|^2), u = scale x + shift.

    Without `set`, every distance is 0.

    Args:
        features: numbers of the pooled features x of an image.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, features: int) -> None:
        super().__init__()
        self.register_buffer("scale", torch.zeros(features))
        self.register_buffer("shift", torch.zeros(features))
        self.linear = nn.Linear(features, COMPONENTS, bias=False)
        nn.init.zeros_(self.linear.weight)

    @torch.no_grad()
    def set(self, scale: Tensor, shift: Tensor, weight: Tensor) -> None:
        """Take over a fit: scale and shift (D,), and W (k, D) of k <= COMPONENTS components."""
        self.scale.copy_(scale)
        self.shift.copy_(shift)
        self.linear.weight.zero_()
        self.linear.weight[: len(weight)].copy_(weight)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Distances (N,), float32, of training images about 1; and components W u, float32 (N, COMPONENTS).

        Args:
            features: (N, D).
        """
        with torch.autocast(features.device.type, enabled=False):
            u = features.float() * self.scale + self.shift
            components: Tensor = self.linear(u)
            return (u.square().sum(1) + components.square().sum(1)).sqrt(), components
