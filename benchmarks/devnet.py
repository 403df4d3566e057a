"""DevNet: a scorer of the patches of a frozen network's features, trained with the deviation loss.

Sources: Pang, Shen & van den Hengel (2019), arXiv 1911.08623 (the loss); Pang et al. (2021), arXiv 2108.00462 (the
patches, and these numbers). There, the network below the scorer is trained too; here it is frozen, and its features
are standardized instead.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

MARGIN = 5.0
"""Least deviation of an anomalous image, in standard deviations of the reference scores."""

REFERENCES = 5000
"""Reference scores of a loss, drawn from the standard normal distribution."""

TOP = 0.1
"""Share of an image's patches that its score is the mean of: those with the highest scores."""

STEPS, BATCH = 1000, 48
LEARNING_RATE, WEIGHT_DECAY = 2e-4, 1e-5


class DevNet(nn.Module):
    """The score of an image: the mean of its highest patch scores, which are a linear function's absolute values.

    Args:
        features: float32 (N, P, C), of the training images' P patches; their statistics standardize all features.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, features: Tensor) -> None:
        super().__init__()
        self.register_buffer("mean", features.mean((0, 1)))
        self.register_buffer("std", features.std((0, 1)) + 1e-5)
        self.linear = nn.Linear(features.shape[2], 1)

    def standardize(self, features: Tensor) -> Tensor:
        """Features (N, P, C), by the statistics of the training images."""
        return (features - self.mean) / self.std

    def forward(self, standardized: Tensor) -> Tensor:
        """Scores (N,), 0 or more, higher is more anomalous, of standardized features (N, P, C)."""
        scores: Tensor = self.linear(standardized).squeeze(2).abs()
        return scores.topk(max(1, int(TOP * scores.shape[1])), dim=1).values.mean(1)


def deviation_loss(scores: Tensor, labels: Tensor, references: Tensor) -> Tensor:
    """Mean deviation of normal images, and of anomalous ones what lacks to the margin.

    Args:
        scores: (N,).
        labels: (N,), 0 normal, 1 anomalous.
        references: scores that normal images are to have.
    """
    deviation = (scores - references.mean()) / references.std()
    return torch.where(labels == 1, (MARGIN - deviation).clamp(min=0), deviation.abs()).mean()


def fit_devnet(features: Tensor, labels: NDArray[np.int64], seed: int) -> DevNet:
    """Train on batches half of which are anomalous.

    Args:
        features: float32 (N, P, C).
        labels: (N,), 0 normal, 1 anomalous; at least one of each.
        seed: of the weights, the batches and the reference scores.
    """
    known = torch.from_numpy(labels)
    classes = [torch.nonzero(known == label).squeeze(1) for label in (0, 1)]
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(seed)
        model = DevNet(features)
        standardized = model.standardize(features)
        optimizer = torch.optim.Adam(model.parameters(), LEARNING_RATE, weight_decay=WEIGHT_DECAY)
        for _ in range(STEPS):
            rows = torch.cat([c[torch.randint(len(c), (BATCH // 2,))] for c in classes])
            loss = deviation_loss(model(standardized[rows]), known[rows], torch.randn(REFERENCES))
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    return model.eval()
