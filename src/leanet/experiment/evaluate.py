"""Metrics of predictions, decision thresholds, intervals and comparisons over folds and seeds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats
from sklearn.metrics import (
    average_precision_score,
    balanced_accuracy_score,
    brier_score_loss,
    confusion_matrix,
    f1_score,
    matthews_corrcoef,
    precision_recall_curve,
    roc_auc_score,
)

METRICS = (
    "f1",
    "f1_chosen",
    "balanced_accuracy",
    "balanced_accuracy_chosen",
    "mcc",
    "mcc_chosen",
    "auroc",
    "average_precision",
    "brier",
)
"""'_chosen': at the threshold chosen on the inner validation; without that: at probability 0.5."""

PLAIN_THRESHOLD = 0.5
FEWEST_POSITIVES = 10
"""With fewer anomalous images than this, an inner validation says too little to choose by."""

Key = tuple[int, int]
"""(fold, seed)"""


@dataclass(frozen=True)
class Scored:
    """What a scorer said about one fold's test images.

    Attributes:
        labels: (N,), 0 normal, 1 anomalous.
        scores: (N,), higher is more anomalous.
        threshold: the one chosen on the inner validation; None where none was chosen.
        is_probability: whether the scores are probabilities, to be decided at 0.5.
    """

    labels: NDArray[np.int64]
    scores: NDArray[np.float64]
    threshold: float | None = None
    is_probability: bool = True


@dataclass(frozen=True)
class Scores:
    """Metrics of one set of predictions; None where the metric is undefined: one class only, or no threshold."""

    images: int
    anomalous: int
    prevalence: float
    f1: float | None
    balanced_accuracy: float | None
    mcc: float | None
    threshold_chosen: float | None
    f1_chosen: float | None
    balanced_accuracy_chosen: float | None
    mcc_chosen: float | None
    auroc: float | None
    average_precision: float | None
    brier: float | None
    true_negatives: int | None
    false_positives: int | None
    false_negatives: int | None
    true_positives: int | None


def score(scored: Scored) -> Scores:
    """Score predictions; what is undefined is None, never 0 or 1."""
    y, s = scored.labels, scored.scores
    both = 0 < int(y.sum()) < len(y)
    plain = _decisions(y, s >= PLAIN_THRESHOLD) if scored.is_probability else (None, None, None)
    chosen = (None, None, None) if scored.threshold is None else _decisions(y, s >= scored.threshold)
    cells: list[int | None] = [None] * 4
    if scored.is_probability:
        cells = [int(c) for c in confusion_matrix(y, s >= PLAIN_THRESHOLD, labels=[0, 1]).ravel()]
    return Scores(
        len(y),
        int(y.sum()),
        float(y.mean()),
        *plain,
        scored.threshold,
        *chosen,
        float(roc_auc_score(y, s)) if both else None,
        float(average_precision_score(y, s)) if both else None,
        float(brier_score_loss(y, s)) if scored.is_probability else None,
        *cells,
    )


def _decisions(y: NDArray[np.int64], decided: NDArray[np.bool_]) -> tuple[float | None, float | None, float | None]:
    """F1 (undefined without an anomaly), balanced accuracy and Matthews correlation (undefined with one class)."""
    both = 0 < int(y.sum()) < len(y)
    return (
        float(f1_score(y, decided, zero_division=0)) if y.any() else None,
        float(balanced_accuracy_score(y, decided)) if both else None,
        float(matthews_corrcoef(y, decided)) if both else None,
    )


def choose_threshold(labels: ArrayLike, scores: ArrayLike, target_recall: float | None = None) -> float | None:
    """The threshold with the highest F1, or the highest with at least the wanted recall.

    It lies halfway between the lowest score that is called anomalous and the next below.

    Args:
        labels: (N,), 0 normal, 1 anomalous: of validation images, never of test images.
        scores: (N,), higher is more anomalous.
        target_recall: in (0, 1]; None: the highest F1, and of several such thresholds the highest.
    Returns:
        None with fewer than FEWEST_POSITIVES anomalies, or no normal image.
    """
    y, s = np.asarray(labels), np.asarray(scores, dtype=np.float64)
    if y.sum() < FEWEST_POSITIVES or y.all():
        return None
    precision, recall, thresholds = precision_recall_curve(y, s)
    precision, recall = precision[:-1], recall[:-1]  # the last point is no threshold's
    if target_recall is not None:
        lowest_called = thresholds[np.flatnonzero(recall >= target_recall)[-1]]
    else:
        f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
        lowest_called = thresholds[np.flatnonzero(f1 >= f1.max() - 1e-12)[-1]]
    below = s[s < lowest_called]
    return float((lowest_called + below.max()) / 2) if len(below) else float(lowest_called)


@dataclass(frozen=True)
class Interval:
    """A mean over folds and seeds, and its 95 % confidence interval; nan where one value says nothing of it."""

    mean: float
    low: float
    high: float

    @property
    def holds_zero(self) -> bool:
        """Whether 0 lies inside, or nothing is known."""
        return not (self.low > 0 or self.high < 0)


def interval(values: Sequence[float | None], test_to_train: float) -> Interval | None:
    """Mean and 95 % interval of a metric, or of a paired difference, over folds and seeds.

    Training sets of cross-validation overlap, so that their results are more alike than independent ones: the
    variance of the mean is taken as (1/J + test/train) times the sample variance of the J values.

    Args:
        values: one a fold and seed; None where undefined.
        test_to_train: test images for each training image, on average: 1 / (n_splits - 1) for whole folds.
    Returns:
        None without any value.
    Source: Nadeau & Bengio (2003), Machine Learning 52, eq. 8 (corrected resampled t-test).
    """
    known = [v for v in values if v is not None]
    if not known:
        return None
    mean, j = float(np.mean(known)), len(known)
    if j == 1:
        return Interval(mean, math.nan, math.nan)
    error = math.sqrt((1 / j + test_to_train) * float(np.var(known, ddof=1)))
    half = float(stats.t.ppf(0.975, j - 1)) * error
    return Interval(mean, mean - half, mean + half)


@dataclass(frozen=True)
class Row:
    """One line of a results table: a scorer's metrics by fold and seed, and over all folds' test images pooled."""

    name: str
    runs: Mapping[Key, Scores]
    pooled: Scores
    test_to_train: float

    def values(self, metric: str) -> list[float | None]:
        """A metric by fold and seed."""
        return [getattr(s, metric) for s in self.runs.values()]

    def over_folds(self, metric: str) -> tuple[float, float] | None:
        """Mean and sample standard deviation of a metric over folds and seeds; deviation nan for one value."""
        known = [v for v in self.values(metric) if v is not None]
        if not known:
            return None
        return float(np.mean(known)), float(np.std(known, ddof=1)) if len(known) > 1 else math.nan

    def interval(self, metric: str) -> Interval | None:
        """Mean and 95 % interval of a metric over folds and seeds, cut off where the metric's range ends."""
        found, least = interval(self.values(metric), self.test_to_train), -1.0 if metric.startswith("mcc") else 0.0
        return found and Interval(found.mean, max(found.low, least), min(found.high, 1.0))

    def records(self) -> list[dict[str, object]]:
        """Flat records for a CSV file: one a fold and seed, mean, deviation, the interval's ends, pooled."""
        several = len({seed for _, seed in self.runs}) > 1
        rows: list[dict[str, object]] = [
            {"row": self.name, "over": f"fold {n}, seed {seed}" if several else f"fold {n}", **asdict(s)}
            for (n, seed), s in self.runs.items()
        ]
        pairs = {m: self.over_folds(m) for m in METRICS}
        for index, over in enumerate(("mean over folds", "standard deviation over folds")):
            rows.append({"row": self.name, "over": over} | {m: p[index] if p else None for m, p in pairs.items()})
        intervals = {m: self.interval(m) for m in METRICS}
        for end in ("low", "high"):
            ends = {m: getattr(i, end) if i else None for m, i in intervals.items()}
            rows.append({"row": self.name, "over": f"95 % interval, {end} end"} | ends)
        rows.append({"row": self.name, "over": "pooled test images", **asdict(self.pooled)})
        return rows


def make_row(name: str, by_run: Mapping[Key, Scored], test_to_train: float) -> Row:
    """A table row from what a scorer said about each fold's test images, with each seed; pooled: the first seed."""
    first = [scored for (_, seed), scored in by_run.items() if seed == min(s for _, s in by_run)]
    pooled = Scored(
        np.concatenate([scored.labels for scored in first]),
        np.concatenate([scored.scores for scored in first]),
        None,
        first[0].is_probability,
    )
    return Row(name, {key: score(scored) for key, scored in by_run.items()}, score(pooled), test_to_train)


def difference(row: Row, other: Row, metric: str) -> Interval | None:
    """Mean and 95 % interval of the paired difference row - other, over the folds and seeds that both have.

    A row without seeds (it was not trained, or not by chance) is compared with every seed of the other.
    """
    pairs = []
    for (fold, seed), scores in row.runs.items():
        partner = other.runs.get((fold, seed)) or other.runs.get((fold, 0))
        a, b = getattr(scores, metric), getattr(partner, metric, None)
        pairs.append(None if a is None or b is None else a - b)
    return interval(pairs, row.test_to_train)


def shown(found: Interval | None, sign: str = "") -> str:
    """A mean with its interval, '0.95 [0.90, 1.00]' to three digits; '' for None, the mean alone for one value.

    Args:
        sign: '+' for differences.
    """
    if found is None:
        return ""
    mean = f"{found.mean:{sign}.3f}"
    return mean if math.isnan(found.low) else f"{mean} [{found.low:{sign}.3f}, {found.high:{sign}.3f}]"


def verdict(found: Interval | None) -> str:
    """A paired difference in words."""
    if found is None or math.isnan(found.low):
        return "not known"
    if found.holds_zero:
        return "no difference shown"
    return "higher" if found.mean > 0 else "lower"
