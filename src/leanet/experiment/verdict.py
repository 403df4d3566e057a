"""A run's result in plain words: pictures found, missed and called anomalous by mistake, and by which row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy.stats import binomtest

from leanet.experiment.open_run import Run
from leanet.experiment.table import MEAN_OF_BOTH, Table
from leanet.files import write_csv
from leanet.results.baselines import BORDER_ROW, HISTOGRAM_ROW, MAP_ROW
from leanet.results.intervals import verdict
from leanet.results.metrics import FEWEST_POSITIVES, PLAIN_THRESHOLD, Scored, Scores
from leanet.results.rows import Key, Row, difference

MOST_NAMED = 10
"""Of the missed pictures, and of the false alarms, so many are shown by name."""

GUESSING = 0.6
"""Below this AUROC, answers are called hardly better than guessing."""

FEW = 20
"""Below so many test pictures of a class, the verdict warns: one picture more or less is 5 % of them."""

CHANCE = 0.01
"""How likely chance alone may be to bring a row as many fewer mistakes, for it to be called clearly better."""

_INSTEAD = {
    ": CAAN": "`leanet predict` gives it as caan_probability.",
    MEAN_OF_BOTH: "It is the mean of the logits of probability and caan_probability, which `leanet predict` gives.",
    "without attention: ADN": "Give --caan none to train it alone.",
    MAP_ROW: "`leanet fit` makes a model of it from the normal pictures alone.",
    BORDER_ROW: "It sees the outermost 8 % of the picture: the answer lies in the background. Take the pictures "
    "before one background, or crop them.",
    HISTOGRAM_ROW: "It sees how much of each color a picture has, and nothing else: no network is needed here.",
}
"""How a row's name ends -> what to do if it is the better one."""


class Mistake(NamedTuple):
    """A test picture that was decided wrongly: its row in images.csv, its fold, and what the ADN gave it."""

    row: int
    fold: int
    probability: float


@dataclass(frozen=True)
class Verdict:
    """A run's result for people.

    Attributes:
        headline: what was found and what was not, with the threshold.
        details: which row of the table that is, and whether to use it, a sentence each.
        missed: the anomalous test pictures that were called normal, the surest mistakes first.
        false_alarms: the normal ones that were called anomalous, likewise.
        anomalous, normal: how many pictures of each class were tested.
    """

    headline: str
    details: tuple[str, ...]
    missed: tuple[Mistake, ...]
    false_alarms: tuple[Mistake, ...]
    anomalous: int
    normal: int


def verdict_of(run: Run, results: Table, scored: Mapping[Key, Scored]) -> Verdict:
    """The verdict on a run, by its table's first row: the ADN with its chosen thresholds, of the first seed.

    Args:
        run: whose pictures were tested.
        results: the table, the detector's own row first.
        scored: the ADN's probabilities of each fold's test images, as `scores_of` has them.
    """
    first, *others = results.rows
    mistakes = mistakes_of(run, scored)
    missed = tuple(m for m in mistakes if run.labels[m.row] == 1)
    false_alarms = tuple(m for m in mistakes if run.labels[m.row] == 0)
    pooled = first.pooled
    normal = pooled.images - pooled.anomalous
    few = _few_in_words(first)
    details = (_which(first, len(run.folds)), _threshold_in_words(first), few, *_whether(first, others))
    return Verdict(headline(first), tuple(filter(None, details)), missed, false_alarms, pooled.anomalous, normal)


def mistakes_of(run: Run, scored: Mapping[Key, Scored]) -> list[Mistake]:
    """The first seed's wrong decisions at each fold's threshold, those farthest from it first."""
    found: list[tuple[float, Mistake]] = []
    for (fold, seed), s in scored.items():
        threshold = s.decided_at
        if seed or threshold is None:
            continue
        rows = run.rows(run.folds[fold].test)
        wrong = np.flatnonzero((s.scores >= threshold) != (s.labels == 1))
        given = [(int(rows[i]), float(s.scores[i])) for i in wrong]
        found += [(abs(probability - threshold), Mistake(row, fold, probability)) for row, probability in given]
    return [mistake for _, mistake in sorted(found, key=lambda pair: -pair[0])]


def write_mistakes(folder: Path, run: Run, scored: Mapping[Key, Scored]) -> Path:
    """Write all mistakes to mistakes.csv; returns its path."""
    path = folder / "mistakes.csv"
    lines = [
        (run.images[m.row].file, run.images[m.row].label, m.fold, *_numbers(m.probability, scored[m.fold, 0]))
        for m in mistakes_of(run, scored)
    ]
    write_csv(path, ("file", "label", "fold", "adn_probability", "threshold"), lines)
    return path


def _numbers(probability: float, scored: Scored) -> tuple[str, str]:
    return f"{probability:.6g}", f"{scored.decided_at:.6g}"


def headline(row: Row) -> str:
    """What a row's decisions found, see `found_in_words`."""
    return found_in_words(row.pooled, thresholds_of(row))


def found_in_words(p: Scores, thresholds: Sequence[float]) -> str:
    """What decisions found: 'Of 120 anomalous pictures 116 found (97 %), 1 false alarm in 200; threshold 0.41'."""
    found, alarms = p.true_positives_chosen or 0, p.false_positives_chosen or 0
    normal = p.images - p.anomalous
    of_anomalous = f"Of {_count(p.anomalous, 'anomalous picture')} {found} found ({percent(found, p.anomalous)})"
    if not p.anomalous:
        of_anomalous = "No anomalous picture was tested"
    of_normal = f"{_count(alarms, 'false alarm')} in {normal}" if normal else "no normal picture was tested"
    return f"{of_anomalous}, {of_normal}; {_range(thresholds)}"


def thresholds_of(row: Row) -> list[float]:
    """At which probability each fold was decided, with the first seed."""
    chosen = [s.threshold_chosen for (_, seed), s in row.runs.items() if seed == 0]
    return [PLAIN_THRESHOLD if threshold is None else threshold for threshold in chosen]


def percent(part: int, whole: int) -> str:
    """A share for people: 100 % and 0 % only where it is all or nothing."""
    if not whole:
        return "-"
    rounded = round(100 * part / whole)
    if part < whole and rounded == 100:
        return "over 99 %"
    return "under 1 %" if part and not rounded else f"{rounded} %"


def probability_text(value: float) -> str:
    """A probability in two digits, or as many as it takes not to show 0 or 1."""
    return next((text for n in (2, 4) if float(text := f"{value:.{n}f}") not in (0, 1)), f"{value:.6g}")


def _range(thresholds: Sequence[float]) -> str:
    least, most = probability_text(min(thresholds)), probability_text(max(thresholds))
    return f"threshold {least}" if least == most else f"thresholds {least} to {most}, one for each fold"


def _count(number: int, name: str) -> str:
    return f"{number} {name}" + ("" if number == 1 else "s")


def _which(first: Row, all_folds: int) -> str:
    """Which pictures were counted, and by which row."""
    folds = len(first.by_fold("auroc"))
    several = " The first seed is counted." if len({seed for _, seed in first.runs}) > 1 else ""
    return (
        f"Counted on the test pictures of {folds} of {_count(all_folds, 'fold')} (a fold: a part of the pictures, "
        f'tested by networks trained on the others). "{first.name}" decides: the network that classifies the '
        f"picture (ADN: anomaly detection network); `leanet predict` answers by it.{several}"
    )


def _threshold_in_words(first: Row) -> str:
    """Where the thresholds come from."""
    chosen = [s.threshold_chosen for (_, seed), s in first.runs.items() if seed == 0]
    if not (without := chosen.count(None)):
        thresholds = "threshold was" if len(chosen) == 1 else "thresholds were"
        return f"The {thresholds} chosen on pictures held out of the training."
    reason = f"fewer than {FEWEST_POSITIVES} anomalous pictures were held out of the training to choose one by"
    if without == len(chosen):
        return f"The threshold is 0.5: {reason}."
    return f"In {without} of {len(chosen)} folds the threshold is 0.5: {reason}."


def _are_few(first: Row) -> bool:
    """Whether so few pictures of a class were tested that others may change all numbers."""
    return min(first.pooled.anomalous, first.pooled.images - first.pooled.anomalous) < FEW


def _background(first: Row, others: Sequence[Row]) -> list[str]:
    """A warning where the colors of the pictures' border tell as much as the network does."""
    for row in others:
        own, its = _mistakes(row), _mistakes(first)
        ranks, its_ranks = row.interval("auroc"), first.interval("auroc")
        if row.name != BORDER_ROW or own is None or its is None or not ranks or not its_ranks:
            continue
        if own <= its and ranks.mean >= its_ranks.mean:
            return [
                f'"{row.name}" does as well: {_compared(row, first)}. Look whether good and bad pictures were '
                "taken before different backgrounds."
            ]
    return []


def _few_in_words(first: Row) -> str:
    """A warning where so few pictures were tested that others may change all numbers; else nothing."""
    if not _are_few(first):
        return ""
    anomalous, normal = first.pooled.anomalous, first.pooled.images - first.pooled.anomalous
    return (
        f"Few pictures were tested ({anomalous} anomalous, {normal} normal): with others, all numbers may differ."
    )


def _whether(first: Row, others: Sequence[Row]) -> list[str]:
    """Whether to use the first row, or what to use instead."""
    said = _against(first)
    better = sorted((row for row in others if clearly_better(row, first)), key=_quality)
    if not better:
        said += _background(first, others)
        if said or not others:
            return said
        if _are_few(first):
            return ["So few pictures cannot tell whether another row of the table is better."]
        return ["No other row of the table is clearly better: use this one."]
    best, *rest = better
    remedy = next((text for end, text in _INSTEAD.items() if best.name.endswith(end)), "")
    said.append(f'"{best.name}" is clearly better here: {_compared(best, first)}. {remedy}'.strip())
    if rest:
        said.append(f"So {'is' if len(rest) == 1 else 'are'} " + ", ".join(f'"{row.name}"' for row in rest) + ".")
    return said


def _against(first: Row) -> list[str]:
    """What speaks against the first row, whatever the others do."""
    p, auroc = first.pooled, first.interval("auroc")
    if p.anomalous in (0, p.images):
        return ["Pictures of one class alone were tested: how well it tells them apart is not known."]
    if auroc and auroc.mean < GUESSING:
        return [f"It hardly does better than guessing (AUROC {auroc.mean:.2f}; 0.5 is guessing): do not use it."]
    if p.true_positives_chosen and p.true_negatives_chosen:
        return []
    wrong = "finds no anomalous picture" if p.true_negatives_chosen else "calls every normal picture anomalous"
    said = f"At this threshold it {wrong}: do not use it as it is."
    if auroc:
        said += f" It ranks pictures well, AUROC {auroc.mean:.2f}: give `leanet predict` another --threshold."
    return [said]


def clearly_better(row: Row, other: Row) -> bool:
    """Whether a row makes fewer mistakes than chance would explain, or ranks better in all folds alike.

    Mistakes are compared by the sign test. Which pictures both get wrong is not known here; none is assumed, which
    makes the test careful. Ranks are compared by the 95 % interval of the paired difference in AUROC. A row that is
    better by one and worse by the other is not clearly better.
    """
    ranks = verdict(difference(row, other, "auroc"))
    own, its = _mistakes(row), _mistakes(other)
    fewer = _fewer(own, its)
    return (fewer and ranks != "lower") or (ranks == "higher" and not _fewer(its, own))


def _fewer(own: int | None, its: int | None) -> bool:
    if own is None or its is None or own >= its:
        return False
    return bool(binomtest(own, own + its, alternative="less").pvalue < CHANCE)


def _mistakes(row: Row) -> int | None:
    """Wrong decisions at the chosen thresholds; None if the row decides nothing."""
    p = row.pooled
    if p.false_positives_chosen is None or p.false_negatives_chosen is None:
        return None
    return p.false_positives_chosen + p.false_negatives_chosen


def _quality(row: Row) -> tuple[float, float]:
    """A key that sorts the best row first: by mistakes, then by AUROC."""
    mistakes, auroc = _mistakes(row), row.interval("auroc")
    return (float("inf") if mistakes is None else mistakes), -(auroc.mean if auroc else 0.0)


def _compared(row: Row, other: Row) -> str:
    """By how much a row is better."""
    said = []
    own, its = _mistakes(row), _mistakes(other)
    if own is not None and its is not None:
        said.append(f"{_count(own, 'mistake')} in {row.pooled.images} pictures instead of {its}")
    a, b = row.interval("auroc"), other.interval("auroc")
    if a and b:
        seeds = ", the mean of all seeds" if len({seed for _, seed in other.runs}) > 1 else ""
        said.append(f"AUROC {a.mean:.3f} instead of {b.mean:.3f}{seeds}")
    return ", ".join(said)
