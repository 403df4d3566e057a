"""Confidence intervals of a metric, or of a paired difference, over the folds of a cross-validation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats


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


def shown(found: Interval | None, sign: str = "") -> str:
    """A mean with its interval, '0.95 [0.90, 1.00]' to three digits; '' for None, the mean alone without interval.

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
