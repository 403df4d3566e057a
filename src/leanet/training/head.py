"""Fit a linear head to what does not change: shrinkage discriminant analysis, chosen and calibrated out of fold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.covariance import empirical_covariance, shrunk_covariance
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import PredefinedSplit, cross_val_predict
from sklearn.preprocessing import StandardScaler

from leanet.data.splits import inner_parts
from leanet.errors import UserError
from leanet.networks.pooled_head import FEATURES, MAP

SHRINKAGES = (0.3, 0.1)
"""Weights of a spherical covariance against that of the images: the second only where it is clearly better.
benchmarks/README.md has how they were chosen."""

CLEARLY = 0.9
"""A second shrinkage is taken if it leaves at most this share of the first's 1 - AUROC."""

GUESSING = 0.5
"""AUROC of a map's mean, on labeled images, below which the map misleads."""

SHARE_OF_MAP = 0.25
"""Weight of the anomaly map's own logit against the features', each in its standard deviations, if it helps."""

PARTS = 5
"""Parts of the inner cross-validation, or as many as there are anomalous images or groups of them."""

LEAST_SLOPE = 0.01
"""Smallest slope of the calibration, per standard deviation of the scores."""

MOST_COMPONENTS = 1000
"""Principal components that features are reduced to; fewer images have fewer anyway."""


@dataclass(frozen=True)
class FittedHead:
    """A linear function of an image's parts, and what its like said about the images it is fitted to.

    Attributes:
        weight, bias: logit of an anomaly = descriptions @ weight + bias, float64 (D,) and a number; descriptions
            are all parts in their order.
        unseen: (N,), each image's probability by a head that was fitted without it and its group; None if the
            anomalous images are of one group.
        parts: names of the parts whose weights are not 0.
        shrinkage: of the covariance.
    """

    weight: NDArray[np.float64]
    bias: float
    unseen: NDArray[np.float64] | None
    parts: tuple[str, ...] = ()
    shrinkage: float = SHRINKAGES[0]


@dataclass(frozen=True)
class _Scores:
    """A linear function, and what its like says about images that they were fitted without, if that is known."""

    weight: NDArray[np.float64]
    bias: float
    unseen: NDArray[np.float64] | None

    @property
    def spread(self) -> float:
        """The standard deviation of the unseen scores."""
        return 1.0 if self.unseen is None else float(self.unseen.std()) or 1.0


def fit_head(
    parts: Mapping[str, NDArray[np.float32]],
    labels: NDArray[np.int64],
    groups: Sequence[str],
    p_rate: float,
    seed: int,
    changes: Mapping[str, NDArray[np.float32]] | None = None,
) -> FittedHead:
    """Fit on all images; choose and calibrate by the scores of heads that were fitted without them.

    Features and attention are one set of features. What other light changes in them counts as scatter within a
    class, and therefore for little. The map's own statistics are fitted apart, and added if the sum
    ranks unseen images better. Where the map's mean ranks the anomalous images below the normal ones, the map
    misleads, and both of its parts are left out.

    Args:
        parts: what describes the images, by part, each (N, D of the part), in the order of the weights.
        labels: (N,), 0 normal, 1 anomalous.
        groups: (N,), images of one group are never on both sides.
        p_rate: share of the anomalies that these images have left; each one counts for as many as there were.
        seed: of the inner parts.
        changes: what changes of light add to the parts of normal images, each (M, D of the part); none by default.
    Raises:
        UserError: fewer than two images of a class.
    """
    refuse_too_few(labels)
    inner = _parts(labels, groups, seed)
    misled = MAP in parts and float(roc_auc_score(labels, parts[MAP][:, 0])) < GUESSING
    used = (FEATURES,) if misled else tuple(name for name in parts if name != MAP)
    ignored = np.concatenate([changes[name] for name in used], 1) if changes else None
    shrinkage, found = _best(np.concatenate([parts[name] for name in used], 1), labels, inner, ignored)
    if MAP in parts and not misled:
        both = _sum(found, _scores(parts[MAP], labels, inner, (SHRINKAGES[0],))[0])
        if both.unseen is not None and _auroc(labels, both) > _auroc(labels, found):
            found, used = both, (*used, MAP)
    left_out = sum(values.shape[1] for name, values in parts.items() if name not in used)
    weight = np.concatenate([found.weight, np.zeros(left_out)])  # the last parts, if any, are left out
    if found.unseen is None:
        scale = float(np.std(np.concatenate(list(parts.values()), 1) @ weight)) or 1.0
        return FittedHead(weight / scale, found.bias / scale, None, used, shrinkage)
    slope, offset = _calibration(found.unseen, labels, p_rate)
    unseen: NDArray[np.float64] = 1 / (1 + np.exp(-(slope * found.unseen + offset)))
    return FittedHead(slope * weight, slope * found.bias + offset, unseen, used, shrinkage)


def refuse_too_few(labels: NDArray[np.int64]) -> None:
    """Raise UserError if there are fewer than two images of a class."""
    anomalous, normal = int(labels.sum()), int((labels == 0).sum())
    if min(anomalous, normal) < 2:
        raise UserError(
            f"{anomalous} anomalous and {normal} normal labeled images: a head needs two of each. Add images; "
            "with --p-rate, keep more."
        )


class _Scatter(BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """The covariance of a class's images, shrunk to a sphere, and that of what is to be ignored."""

    def __init__(self, shrinkage: float, ignored: NDArray[np.float64]) -> None:
        self.shrinkage, self.ignored = shrinkage, ignored

    def fit(self, reduced: NDArray[np.float64]) -> _Scatter:
        shrunk = shrunk_covariance(empirical_covariance(reduced), self.shrinkage)
        self.covariance_ = shrunk + self.ignored.T @ self.ignored / max(len(self.ignored), 1)
        return self


def _best(
    features: NDArray[np.float32],
    labels: NDArray[np.int64],
    inner: NDArray[np.int64] | None,
    ignored: NDArray[np.float32] | None,
) -> tuple[float, _Scores]:
    """The shrinkage that ranks unseen images best, and its scores; the first unless another is clearly better."""
    first, *others = _scores(features, labels, inner, SHRINKAGES, ignored)
    for shrinkage, other in zip(SHRINKAGES[1:], others, strict=True):
        if inner is not None and 1 - _auroc(labels, other) < CLEARLY * (1 - _auroc(labels, first)):
            return shrinkage, other
    return SHRINKAGES[0], first


def _scores(
    features: NDArray[np.float32],
    labels: NDArray[np.int64],
    inner: NDArray[np.int64] | None,
    shrinkages: Sequence[float],
    ignored: NDArray[np.float32] | None = None,
) -> list[_Scores]:
    """Linear discriminant analysis of standardized features, with a covariance that is shrunk to a sphere.

    Few anomalous images suffice, because the normal ones alone tell most of the covariance. In the span of the
    images, and of what is to be ignored, (M, D), it is the same and cheaper; principal components give that span.
    Labels are unknown to standardization and components, which therefore are those of all images in the inner
    cross-validation too.
    """
    scaler = StandardScaler().fit(features)
    scaled = scaler.transform(features)
    unwanted = (features[:0] if ignored is None else ignored) / scaler.scale_
    spanning = np.concatenate([scaled, unwanted])
    pca = PCA(min(len(spanning) - 1, features.shape[1], MOST_COMPONENTS), svd_solver="full").fit(spanning)
    reduced, unwanted = pca.transform(scaled), unwanted @ pca.components_.T
    found = []
    for shrinkage in shrinkages:
        scatter = _Scatter(shrinkage, unwanted)
        analysis = LinearDiscriminantAnalysis(solver="lsqr", covariance_estimator=scatter)
        unseen = None
        if inner is not None:
            unseen = cross_val_predict(
                analysis, reduced, labels, cv=PredefinedSplit(inner), method="decision_function"
            )
        found.append(_Scores(*_linear(scaler, pca, analysis.fit(reduced, labels)), unseen))
    return found


def _linear(
    scaler: StandardScaler, pca: PCA, analysis: LinearDiscriminantAnalysis
) -> tuple[NDArray[np.float64], float]:
    """All steps as one linear function of the features."""
    weight = pca.components_.T @ analysis.coef_[0] / scaler.scale_
    bias = analysis.intercept_[0] - pca.mean_ @ pca.components_.T @ analysis.coef_[0] - scaler.mean_ @ weight
    return np.asarray(weight, dtype=np.float64), float(bias)


def _sum(one: _Scores, other: _Scores) -> _Scores:
    """The first's scores and a share of the other's, each in its standard deviations."""
    a, b = 1 / one.spread, SHARE_OF_MAP / other.spread
    unseen = None if one.unseen is None or other.unseen is None else a * one.unseen + b * other.unseen
    return _Scores(np.concatenate([a * one.weight, b * other.weight]), a * one.bias + b * other.bias, unseen)


def _auroc(labels: NDArray[np.int64], scores: _Scores) -> float:
    return float(roc_auc_score(labels, scores.unseen))


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
