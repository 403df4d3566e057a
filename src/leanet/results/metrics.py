"""Metrics of predictions, decision thresholds, intervals and comparisons over folds and seeds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import NamedTuple

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
"""'_chosen': at the threshold chosen on the inner validation, or at 0.5 where that was too small to choose by;
without that: at probability 0.5."""

PRINTED = {
    "f1": "F1 at 0.5",
    "f1_chosen": "F1, threshold chosen",
    "auroc": "AUROC",
    "average_precision": "average precision",
}
"""Metrics that tables to read show, with their headings; the others are in CSV files."""

PLAIN_THRESHOLD = 0.5
FEWEST_POSITIVES = 10
"""With fewer anomalous images than this, an inner validation is too small to choose by."""

Key = tuple[int, int]
"""(fold, seed)"""


@dataclass(frozen=True)
class Scored:
    """What a scorer said about one fold's test images.

    Attributes:
        labels: (N,), 0 normal, 1 anomalous.
        scores: (N,), higher is more anomalous.
        threshold: the one chosen on images held out; None if none was chosen.
        is_probability: whether the scores are probabilities, to be decided at 0.5 where none was chosen.
    """

    labels: NDArray[np.int64]
    scores: NDArray[np.float64]
    threshold: float | None = None
    is_probability: bool = True

    @property
    def decided_at(self) -> float | None:
        """The chosen threshold, or 0.5 if none was chosen; None if scores are not probabilities."""
        return PLAIN_THRESHOLD if self.threshold is None and self.is_probability else self.threshold


@dataclass(frozen=True)
class Scores:
    """Metrics of one set of predictions; None if the metric is undefined: one class only, or no threshold.

    `threshold_chosen` is None if the '_chosen' metrics are those at 0.5.
    """

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
    true_negatives_chosen: int | None
    false_positives_chosen: int | None
    false_negatives_chosen: int | None
    true_positives_chosen: int | None


def score(scored: Scored) -> Scores:
    """Score predictions; undefined metrics are None, never 0 or 1."""
    y, s = scored.labels, scored.scores
    both = 0 < int(y.sum()) < len(y)
    plain = _decisions(y, s, PLAIN_THRESHOLD if scored.is_probability else None)
    chosen = _decisions(y, s, scored.decided_at)
    return Scores(
        len(y),
        int(y.sum()),
        float(y.mean()),
        *plain.metrics,
        scored.threshold,
        *chosen.metrics,
        float(roc_auc_score(y, s)) if both else None,
        float(average_precision_score(y, s)) if both else None,
        float(brier_score_loss(y, s)) if scored.is_probability else None,
        *plain.cells,
        *chosen.cells,
    )


class _Decisions(NamedTuple):
    """F1, balanced accuracy and Matthews correlation; true and false negatives and positives as TN FP FN TP."""

    metrics: tuple[float | None, float | None, float | None]
    cells: tuple[int | None, int | None, int | None, int | None]


def _decisions(y: NDArray[np.int64], s: NDArray[np.float64], threshold: float | None) -> _Decisions:
    """Decisions at a threshold; the metrics are undefined with one class only."""
    if threshold is None:
        return _Decisions((None,) * 3, (None,) * 4)
    decided = s >= threshold
    both = 0 < int(y.sum()) < len(y)
    tn, fp, fn, tp = (int(c) for c in confusion_matrix(y, decided, labels=[0, 1]).ravel())
    metrics = (
        float(f1_score(y, decided, zero_division=0)) if both else None,
        float(balanced_accuracy_score(y, decided)) if both else None,
        float(matthews_corrcoef(y, decided)) if both else None,
    )
    return _Decisions(metrics, (tn, fp, fn, tp))


def choose_threshold(
    labels: ArrayLike, scores: ArrayLike, target_recall: float | None = None, p_rate: float = 1.0
) -> float | None:
    """The threshold with the highest F1, or the highest with at least the wanted recall.

    It lies halfway between the lowest score that is called anomalous and the next below. F1 hangs on the share of
    anomalies: where most of them were left out of these images, but not of the test images, each one that is there
    counts for as many as there were.

    Args:
        labels: (N,), 0 normal, 1 anomalous: of validation images, never of test images.
        scores: (N,), higher is more anomalous.
        target_recall: in (0, 1]; None: the highest F1, and of several such thresholds the highest.
        p_rate: in (0, 1], the share of the anomalies that these images have left.
    Returns:
        None with fewer than FEWEST_POSITIVES anomalies, or no normal image.
    """
    y, s = np.asarray(labels), np.asarray(scores, dtype=np.float64)
    if y.sum() < FEWEST_POSITIVES or y.all():
        return None
    precision, recall, thresholds = precision_recall_curve(y, s, sample_weight=np.where(y, 1 / p_rate, 1.0))
    precision, recall = precision[:-1], recall[:-1]  # the last point is no threshold's
    if target_recall is not None:
        lowest_called = thresholds[np.flatnonzero(recall >= target_recall - 1e-9)[-1]]
    else:
        f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
        lowest_called = thresholds[np.flatnonzero(f1 >= f1.max() - 1e-12)[-1]]
    below = s[s < lowest_called]
    return float((lowest_called + below.max()) / 2) if len(below) else float(lowest_called)


@dataclass(frozen=True)
class Interval:
    """A mean over folds and its 95 % confidence interval; nan where one value, or equal ones, say nothing of it."""

    mean: float
    low: float
    high: float

    def within(self, least: float, most: float) -> Interval:
        """The same, cut off where the range of its metric ends."""
        return Interval(self.mean, max(self.low, least), min(self.high, most))

    @property
    def holds_zero(self) -> bool:
        """Whether 0 lies inside, or nothing is known."""
        return not (self.low > 0 or self.high < 0)


def interval(values: Sequence[float | None], test_to_train: float) -> Interval | None:
    """Mean and 95 % interval of a metric, or of a paired difference, over folds.

    Training sets of cross-validation overlap, so that their results are more alike than independent ones: the
    variance of the mean is taken as (1/J + test/train) times the sample variance of the J values.

    Args:
        values: one a fold, of several seeds their mean; None if undefined.
        test_to_train: test images for each image of the training side, on average: about 1 / (n_splits - 1).
    Returns:
        None without any value.
    Source: Nadeau & Bengio (2003), Machine Learning 52, eq. 8 (corrected resampled t-test).
    """
    known = [v for v in values if v is not None]
    if not known:
        return None
    mean, j = float(np.mean(known)), len(known)
    if np.ptp(known) < 1e-9:  # all folds at the ceiling, say, or rounding alone: that is no certainty
        return Interval(mean, math.nan, math.nan)
    error = math.sqrt((1 / j + test_to_train) * float(np.var(known, ddof=1)))
    half = float(stats.t.ppf(0.975, j - 1)) * error
    return Interval(mean, mean - half, mean + half)


@dataclass(frozen=True)
class Row:
    """One line of a results table: a scorer's metrics by fold and seed, and over all folds' test images pooled.

    `pooled` is of the first seed.
    """

    name: str
    runs: Mapping[Key, Scores]
    pooled: Scores
    test_to_train: float

    @property
    def has_chosen(self) -> bool:
        """Whether a threshold was chosen in any training; where not, the '_chosen' metrics are those at 0.5."""
        return any(scores.threshold_chosen is not None for scores in self.runs.values())

    def by_fold(self, metric: str) -> dict[int, float | None]:
        """A metric by fold, its mean over the seeds; seeds share test images and are no independent results."""
        found: dict[int, list[float]] = {fold: [] for fold, _ in self.runs}
        for (fold, _), scores in self.runs.items():
            value = getattr(scores, metric)
            if value is not None:
                found[fold].append(value)
        return {fold: float(np.mean(values)) if values else None for fold, values in found.items()}

    def over_folds(self, metric: str) -> tuple[float, float] | None:
        """Mean and sample standard deviation of a metric over folds; the deviation is nan for one fold."""
        known = [v for v in self.by_fold(metric).values() if v is not None]
        if not known:
            return None
        return float(np.mean(known)), float(np.std(known, ddof=1)) if len(known) > 1 else math.nan

    def interval(self, metric: str) -> Interval | None:
        """Mean and 95 % interval of a metric over folds, cut off where the metric's range ends."""
        values, least = list(self.by_fold(metric).values()), -1.0 if metric.startswith("mcc") else 0.0
        found = interval(values, self.test_to_train)
        return found and found.within(least, 1.0)

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
    return Row(name, {key: score(scored) for key, scored in by_run.items()}, pool(first), test_to_train)


def pool(folds: Sequence[Scored]) -> Scores:
    """Metrics over several folds' test images as one set; for the '_chosen' ones, each fold keeps its threshold."""
    labels = np.concatenate([scored.labels for scored in folds])
    scores = np.concatenate([scored.scores for scored in folds])
    found = score(Scored(labels, scores, None, folds[0].is_probability))
    called = [scored.scores >= scored.decided_at for scored in folds if scored.decided_at is not None]
    if len(called) < len(folds):
        return found
    f1, balanced_accuracy, mcc = (
        chosen := _decisions(labels, np.concatenate(called).astype(np.float64), 0.5)
    ).metrics
    tn, fp, fn, tp = chosen.cells
    return replace(
        found,
        f1_chosen=f1,
        balanced_accuracy_chosen=balanced_accuracy,
        mcc_chosen=mcc,
        true_negatives_chosen=tn,
        false_positives_chosen=fp,
        false_negatives_chosen=fn,
        true_positives_chosen=tp,
    )


def difference(row: Row, other: Row, metric: str) -> Interval | None:
    """Mean and 95 % interval of the paired difference row - other over the folds that both have.

    Of several seeds, a fold's mean counts; a row without seeds has one value per fold. None if there is nothing to
    compare, nor at chosen thresholds where one of the rows has none.
    """
    if metric.endswith("_chosen") and not (row.has_chosen and other.has_chosen):
        return None
    own, its = row.by_fold(metric), other.by_fold(metric)
    pairs = [None if (a := own[fold]) is None or (b := its[fold]) is None else a - b for fold in own if fold in its]
    return interval(pairs, row.test_to_train)


def cell(row: Row, metric: str) -> str:
    """A table's cell: mean and interval; 'undefined' without one of the classes, '-' if the row decides nothing.

    Where no threshold was chosen, that says so instead of repeating the metric at 0.5; where a metric is defined on
    some folds only, on how many.
    """
    found = row.interval(metric)
    if found and metric.endswith("_chosen") and not row.has_chosen:
        return "none chosen"
    if found is None:
        decides = row.pooled.true_positives_chosen if metric.endswith("_chosen") else row.pooled.true_positives
        return "-" if decides is None and metric not in ("auroc", "average_precision") else "undefined"
    by_fold = row.by_fold(metric)
    defined = sum(value is not None for value in by_fold.values())
    return shown(found) + (f" ({defined} of {len(by_fold)} folds)" if defined < len(by_fold) else "")


def compared(row: Row, other: Row) -> list[str]:
    """Cells that say what a row's F1 and AUROC are higher or lower by; as `cell` where there is no difference."""
    found = {metric: difference(row, other, metric) for metric in ("f1", "auroc")}
    return [f"{shown(d, '+')} {verdict(d)}" if d else cell(other, metric) for metric, d in found.items()]


def shown(found: Interval | None, sign: str = "") -> str:
    """A mean with its interval, '0.95 [0.90, 1.00]' to three digits; '' for None, the mean alone without interval.

    Args:
        sign: '+' for differences.
    """
    if found is None:
        return ""
    mean = f"{found.mean:{sign}.3f}"
    return mean if math.isnan(found.low) else f"{mean} [{found.low:{sign}.3f}, {found.high:{sign}.3f}]"


def metric_text(value: float | None) -> str:
    """A metric of one training; an undefined one is called so."""
    return "undefined" if value is None else f"{value:.4f}"


def verdict(found: Interval | None) -> str:
    """A paired difference in words."""
    if found is None or math.isnan(found.low):
        return "not known"
    if found.holds_zero:
        return "no difference shown"
    return "higher" if found.mean > 0 else "lower"
