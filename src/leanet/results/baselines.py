"""What classifies without a network: the map's mean, and linear classifiers of colors."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import PredefinedSplit, cross_val_predict
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from leanet.data.splits import inner_parts
from leanet.training.detection import anomaly_weight

MAP_ROW, BORDER_ROW, HISTOGRAM_ROW = (
    "mean ΔE of the anomaly map",
    "colours of the image's border",
    "colour histogram",
)
"""How the rows are called."""

FROZEN_ROW, FROZEN_AND_COLOR_ROW = (
    "frozen features, logistic regression",
    "frozen features and colour histogram, mean of both",
)
"""Peers of a head on a frozen ADN: its features, and both classifiers' logits averaged."""

OTHER_MAP_ROW = "mean of the anomaly map"
"""The first of them, of maps that are not in ΔE."""

PART_ROW = "mean of the {} map alone"
"""The same of one source, by its name, where several make the map."""

LEVELS = 4
"""Steps of each primary in a color histogram: 4 x 4 x 4 colors."""

BORDER = 0.08
"""Share of the side that counts as the image's border, on each of the four sides."""

INNER_PARTS = 5
"""Of the cross-validation that chooses by images which a linear classifier is fitted on."""


def colour_histogram(pixels: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Square roots of the shares of 64 colors: (N, ..., 3) uint8 -> (N, 64). The root tempers large shares."""
    steps = pixels.reshape(len(pixels), -1, 3).astype(np.int64) * LEVELS // 256
    codes = (steps * [LEVELS * LEVELS, LEVELS, 1]).sum(2)
    counts = np.stack([np.bincount(code, minlength=LEVELS**3) for code in codes])
    shares: NDArray[np.float64] = np.sqrt(counts / counts.sum(1, keepdims=True))
    return shares


def border_histogram(pixels: NDArray[np.uint8]) -> NDArray[np.float64]:
    """The same of the border's pixels alone: (N, H, W, 3) uint8 -> (N, 64)."""
    side = pixels.shape[1]
    width = max(1, round(BORDER * side))
    inside = np.zeros((side, side), dtype=bool)
    inside[width:-width, width:-width] = True
    return colour_histogram(pixels[:, ~inside])


COLOR_ROWS: dict[str, Callable[[NDArray[np.uint8]], NDArray[np.float64]]] = {
    BORDER_ROW: border_histogram,
    HISTOGRAM_ROW: colour_histogram,
}
"""The table's rows of linear classifiers: what each is called -> its features (N, F) of pixels (N, H, W, 3)."""


def linear_classifier(trained_on: NDArray[np.int64] | None = None, c: float = 0.1) -> Pipeline:
    """Logistic regression on standardized features; given labels, anomalies count as in a detector's training.

    Args:
        trained_on: labels of the training images.
        c: inverse strength of the regularization.
    """
    weights = None if trained_on is None else {0: 1.0, 1: anomaly_weight(trained_on)}
    return make_pipeline(StandardScaler(), LogisticRegression(C=c, max_iter=2000, class_weight=weights))


def predicted_unseen(
    classifier: Pipeline, features: NDArray[np.float64], labels: NDArray[np.int64], groups: list[str]
) -> NDArray[np.float64] | None:
    """Each image's probability by the classifier fitted on the others' parts; None with too few of a class."""
    if len({*groups}) < INNER_PARTS or min(labels.sum(), len(labels) - labels.sum()) < INNER_PARTS:
        return None
    parts = inner_parts(labels.tolist(), groups, INNER_PARTS, 0)
    if any(len(set(labels[parts != part].tolist())) < 2 for part in range(INNER_PARTS)):
        return None
    found = cross_val_predict(classifier, features, labels, cv=PredefinedSplit(parts), method="predict_proba")
    probabilities: NDArray[np.float64] = found[:, 1]
    return probabilities


def mean_of_logits(one: NDArray[np.float64], other: NDArray[np.float64]) -> NDArray[np.float64]:
    """The probabilities (N,) whose logits are the means of those of two networks."""
    return np.asarray(expit((logit_of(one) + logit_of(other)) / 2))


def logit_of(probabilities: NDArray[np.float64]) -> NDArray[np.float64]:
    """Logits of probabilities, finite at 0 and 1 too."""
    return np.asarray(logit(probabilities.clip(1e-9, 1 - 1e-9)))
