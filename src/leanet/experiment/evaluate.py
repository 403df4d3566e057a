"""Metrics of predictions: for a fold, over folds, and pooled; each named as what it is."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import ArrayLike
from sklearn.metrics import average_precision_score, confusion_matrix, f1_score, roc_auc_score

METRICS = ("f1", "auroc", "average_precision")


@dataclass(frozen=True)
class Scores:
    """Metrics of one set of predictions; None where the metric is undefined (one class only)."""

    images: int
    anomalous: int
    f1: float | None
    auroc: float | None
    average_precision: float | None
    true_negatives: int | None
    false_positives: int | None
    false_negatives: int | None
    true_positives: int | None


def score(labels: ArrayLike, scores: ArrayLike, threshold: float | None = 0.5) -> Scores:
    """Score predictions.

    Args:
        labels: (N,), 0 normal, 1 anomalous.
        scores: (N,), higher is more anomalous.
        threshold: at or above it the decision is 'anomalous'; None: a score without a decision.
    """
    y, s = np.asarray(labels), np.asarray(scores, dtype=np.float64)
    both = 0 < y.sum() < len(y)
    f1: float | None = None
    cells: list[int | None] = [None] * 4
    if threshold is not None:
        decided = s >= threshold
        cells = [int(c) for c in confusion_matrix(y, decided, labels=[0, 1]).ravel()]
        f1 = float(f1_score(y, decided)) if y.any() else None
    return Scores(
        len(y),
        int(y.sum()),
        f1,
        float(roc_auc_score(y, s)) if both else None,
        float(average_precision_score(y, s)) if both else None,
        *cells,
    )


def mean_and_deviation(values: Sequence[float | None]) -> tuple[float, float] | None:
    """Mean and sample standard deviation over folds; None where no fold has a value; deviation nan for one."""
    known = [v for v in values if v is not None]
    if not known:
        return None
    deviation = float(np.std(known, ddof=1)) if len(known) > 1 else math.nan
    return float(np.mean(known)), deviation


@dataclass(frozen=True)
class Row:
    """One line of a results table: a scorer's metrics by fold and over all folds' test images pooled."""

    name: str
    folds: Mapping[int, Scores]
    pooled: Scores

    def over_folds(self, metric: str) -> tuple[float, float] | None:
        """Mean and sample standard deviation of a metric over the folds."""
        return mean_and_deviation([getattr(s, metric) for s in self.folds.values()])

    def records(self) -> list[dict[str, object]]:
        """Flat records for a CSV file: one a fold, the mean, the standard deviation, the pooled one."""
        rows: list[dict[str, object]] = [
            {"row": self.name, "over": f"fold {n}", **asdict(s)} for n, s in self.folds.items()
        ]
        pairs = {m: self.over_folds(m) for m in METRICS}
        for index, over in enumerate(("mean over folds", "standard deviation over folds")):
            rows.append({"row": self.name, "over": over} | {m: p[index] if p else None for m, p in pairs.items()})
        rows.append({"row": self.name, "over": "pooled test images", **asdict(self.pooled)})
        return rows


def make_row(name: str, by_fold: Mapping[int, tuple[ArrayLike, ArrayLike]], threshold: float | None = 0.5) -> Row:
    """A table row from each fold's (labels, scores)."""
    folds = {n: score(y, s, threshold) for n, (y, s) in by_fold.items()}
    labels = np.concatenate([np.asarray(y) for y, _ in by_fold.values()])
    scores = np.concatenate([np.asarray(s) for _, s in by_fold.values()])
    return Row(name, folds, score(labels, scores, threshold))
