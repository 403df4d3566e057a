"""Fit the distance that tells unfamiliar images: Mahalanobis along principal components, and Euclid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.preprocessing import StandardScaler

from leanet.data.splits import inner_parts
from leanet.errors import UserError
from leanet.networks.familiarity import COMPONENTS
from leanet.networks.pooled_head import STATISTICS

IMAGES_A_COMPONENT = 4
"""Training images for each component: with fewer, familiar images are farther from a fit than those it saw."""

SHARE_OF_EUCLID = 0.5
"""Weight of the mean square over all features against that over the components. Alone, components miss what no
training image varies in: with 40 images, black frames. benchmarks/README.md has how the weight was chosen."""

PARTS = 5
"""Parts of the cross-fit."""

LEAST_VARIANCE = 1e-3
"""Of a component of standardized features; equal images have less."""


@dataclass(frozen=True)
class Distance:
    """What `Familiarity.set` takes: float64 (D,), (D,) and (k, D)."""

    scale: NDArray[np.float64]
    shift: NDArray[np.float64]
    weight: NDArray[np.float64]

    def of(self, features: NDArray[np.float32]) -> NDArray[np.float64]:
        """Distances (N,) of features (N, D)."""
        u = features * self.scale + self.shift
        found: NDArray[np.float64] = np.sqrt(np.square(u).sum(1) + np.square(u @ self.weight.T).sum(1))
        return found

    def components(self, features: NDArray[np.float32]) -> NDArray[np.float64]:
        """Components (N, k) of features (N, D)."""
        found: NDArray[np.float64] = (features * self.scale + self.shift) @ self.weight.T
        return found


def fit_familiarity(
    features: NDArray[np.float32],
    channels: Sequence[int],
    labels: NDArray[np.int64],
    groups: Sequence[str],
    seed: int,
) -> tuple[Distance, NDArray[np.float64]] | None:
    """Fit to all images, normal and anomalous; measure each by a fit to the others. None if they are too few.

    Args:
        features: pooled features (N, D), as `pooled_features` gives them; those of the deeper half of the blocks
            count.
        channels: of each block of the network.
        labels: (N,), 0 normal, 1 anomalous; they only divide both classes evenly.
        groups: (N,), images of one group are never on both sides.
        seed: of the parts.
    Returns:
        The distance, and that of each image, (N,), by a fit without it and its group.
    """
    first = STATISTICS * sum(channels[: len(channels) - max(1, len(channels) // 2)])
    components = min(COMPONENTS, len(features) // IMAGES_A_COMPONENT, features.shape[1] - first)
    try:
        parts = inner_parts(labels.tolist(), groups, PARTS, seed)
    except UserError:
        return None
    if components < 1:
        return None
    unseen = np.zeros(len(features))
    for part in range(PARTS):
        inside = parts == part
        unseen[inside] = _fit(features[~inside], first, components, seed).of(features[inside])
    return _fit(features, first, components, seed), unseen


def farthest_of_classes(
    distances: NDArray[np.float64], labels: NDArray[np.int64], percent: NDArray[np.float64] | float
) -> NDArray[np.float64]:
    """The distances that so many percent of the images are within, of the class where these are larger.

    A few anomalous images vary more than the many normal ones: by the percentiles of all, a third of the anomalous
    ones may be unfamiliar.
    """
    of_classes = [np.percentile(distances[labels == label], percent) for label in np.unique(labels)]
    found: NDArray[np.float64] = np.max(of_classes, 0)
    return found


def _fit(features: NDArray[np.float32], first: int, components: int, seed: int) -> Distance:
    """The distance from these images by features from the first on."""
    deep = features[:, first:].astype(np.float64)
    scaler = StandardScaler()
    pca = PCA(components, random_state=seed).fit(scaler.fit_transform(deep))
    share = np.sqrt(SHARE_OF_EUCLID / deep.shape[1])
    spread = np.sqrt(components * pca.explained_variance_.clip(min=LEAST_VARIANCE))
    shallow = np.zeros(first)
    return Distance(
        np.concatenate([shallow, share / scaler.scale_]),
        np.concatenate([shallow, -share * scaler.mean_ / scaler.scale_]),
        np.concatenate([np.zeros((components, first)), pca.components_ / (share * spread[:, None])], 1),
    )
