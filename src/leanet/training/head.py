"""Fit a linear head to features that do not change: shrinkage discriminant analysis, calibrated out of fold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import PredefinedSplit, cross_val_predict
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from leanet.data.splits import inner_parts
from leanet.errors import UserError

SHRINKAGE = 0.3
"""Weight of a spherical covariance against that of the images; benchmarks/README.md has how it was chosen."""

PARTS = 5
"""Parts of the inner cross-validation, or as many as there are anomalous images or groups of them."""

LEAST_SLOPE = 0.01
"""Smallest slope of the calibration, per standard deviation of the scores."""

MOST_COMPONENTS = 1000
"""Principal components that features are reduced to; fewer images have fewer anyway."""


@dataclass(frozen=True)
class FittedHead:
    """A linear function of features, and what its like said about the images it is fitted to.

    Attributes:
        weight, bias: logit of an anomaly = features @ weight + bias, float64 (D,) and a number.
        unseen: (N,), each image's probability by a head that was fitted without it and its group; None if the
            anomalous images are of one group.
    """

    weight: NDArray[np.float64]
    bias: float
    unseen: NDArray[np.float64] | None


def fit_head(
    features: NDArray[np.float32], labels: NDArray[np.int64], groups: Sequence[str], p_rate: float, seed: int
) -> FittedHead:
    """Fit on all images; calibrate by the scores of heads that were fitted without them.

    Args:
        features: (N, D).
        labels: (N,), 0 normal, 1 anomalous.
        groups: (N,), images of one group are never on both sides.
        p_rate: share of the anomalies that these images have left; each one counts for as many as there were.
        seed: of the inner parts.
    Raises:
        UserError: fewer than two images of a class.
    """
    refuse_too_few(labels)
    weight, bias = _linear(_discriminant(len(labels), features.shape[1]).fit(features, labels))
    parts = _parts(labels, groups, seed)
    if parts is None:
        scale = float(np.std(features @ weight)) or 1.0
        return FittedHead(weight / scale, bias / scale, None)
    fewest = int((parts[:, None] != np.unique(parts)).sum(0).min())
    scores = cross_val_predict(
        _discriminant(fewest, features.shape[1]),
        features,
        labels,
        cv=PredefinedSplit(parts),
        method="decision_function",
    )
    slope, offset = _calibration(scores, labels, p_rate)
    unseen: NDArray[np.float64] = 1 / (1 + np.exp(-(slope * scores + offset)))
    return FittedHead(slope * weight, slope * bias + offset, unseen)


def refuse_too_few(labels: NDArray[np.int64]) -> None:
    """Raise UserError if there are fewer than two images of a class."""
    anomalous, normal = int(labels.sum()), int((labels == 0).sum())
    if min(anomalous, normal) < 2:
        raise UserError(
            f"{anomalous} anomalous and {normal} normal labeled images: a head needs two of each. Add images, or "
            "raise --p-rate."
        )


def _discriminant(images: int, size: int) -> Pipeline:
    """Linear discriminant analysis of standardized features with a covariance that is shrunk to a sphere.

    Few anomalous images suffice, because the normal ones alone tell most of the covariance. In the span of the
    images, which principal components give, it is the same and cheaper.
    """
    return make_pipeline(
        StandardScaler(),
        PCA(min(images - 1, size, MOST_COMPONENTS), svd_solver="full"),
        LinearDiscriminantAnalysis(solver="lsqr", shrinkage=SHRINKAGE),
    )


def _linear(fitted: Pipeline) -> tuple[NDArray[np.float64], float]:
    """The pipeline as one linear function of the features."""
    scaler, pca, analysis = (step for _, step in fitted.steps)
    weight = pca.components_.T @ analysis.coef_[0] / scaler.scale_
    bias = analysis.intercept_[0] - pca.mean_ @ pca.components_.T @ analysis.coef_[0] - scaler.mean_ @ weight
    return np.asarray(weight, dtype=np.float64), float(bias)


def _parts(labels: NDArray[np.int64], groups: Sequence[str], seed: int) -> NDArray[np.int64] | None:
    """Each image's part, in whole groups, with both classes outside of each part; None if that cannot be."""
    anomalous = {group for group, label in zip(groups, labels, strict=True) if label}
    for n in range(min(PARTS, len(anomalous)), 1, -1):
        try:
            parts = inner_parts(labels.tolist(), groups, n, seed)
        except UserError:
            continue
        outside = [labels[parts != part] for part in range(n)]
        if all(len(np.unique(some)) == 2 < len(some) for some in outside):
            return parts
    return None


def _calibration(scores: NDArray[np.float64], labels: NDArray[np.int64], p_rate: float) -> tuple[float, float]:
    """Slope and offset of a logistic function of unseen scores (Platt scaling).

    The slope is above 0 even if unseen scores rank no better than chance: calibration changes no order.
    """
    spread = float(scores.std()) or 1.0
    weights = np.where(labels == 1, 1 / p_rate, 1.0)
    fitted = LogisticRegression().fit(scores[:, None] / spread, labels, weights)
    if (slope := float(fitted.coef_[0, 0])) >= LEAST_SLOPE:
        return slope / spread, float(fitted.intercept_[0])
    share = float(np.average(labels, weights=weights))
    return LEAST_SLOPE / spread, float(np.log(share / (1 - share)))
