"""Metrics of one set of predictions, and the threshold that decides them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit, logit
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
    labels: ArrayLike,
    scores: ArrayLike,
    target_recall: float | None = None,
    p_rate: float = 1.0,
    fewest: int = FEWEST_POSITIVES,
    calibrated: bool = False,
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
        fewest: anomalies to choose by.
        calibrated: whether the scores are calibrated probabilities. The threshold of the highest F1, which chance
            moves where anomalies are few, then goes halfway back to 0.5, in logits.
    Returns:
        None with fewer than `fewest` anomalies, or no normal image.
    """
    y, s = np.asarray(labels), np.asarray(scores, dtype=np.float64)
    if y.sum() < fewest or y.all():
        return None
    precision, recall, thresholds = precision_recall_curve(y, s, sample_weight=np.where(y, 1 / p_rate, 1.0))
    precision, recall = precision[:-1], recall[:-1]  # the last point is no threshold's
    if target_recall is not None:
        lowest_called = thresholds[np.flatnonzero(recall >= target_recall - 1e-9)[-1]]
    else:
        f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
        lowest_called = thresholds[np.flatnonzero(f1 >= f1.max() - 1e-12)[-1]]
    below = s[s < lowest_called]
    chosen = float((lowest_called + below.max()) / 2) if len(below) else float(lowest_called)
    return float(expit(logit(chosen) / 2)) if calibrated and target_recall is None else chosen


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


def metric_text(value: float | None) -> str:
    """A metric of one training; an undefined one is called so."""
    return "undefined" if value is None else f"{value:.4f}"
