"""Rows of the results table: a scorer's metrics over folds and seeds, compared with another's."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass

import numpy as np

from leanet.results.intervals import Interval, interval, shown, verdict
from leanet.results.metrics import METRICS, Scored, Scores, pool, score

Key = tuple[int, int]
"""(fold, seed)"""


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
