"""A run's result in plain words: anomalous pictures found and missed, false alarms, and the best row."""

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
from leanet.results.baselines import BORDER_ROW, HISTOGRAM_ROW, MAP_ROW, OTHER_MAP_ROW, PART_ROW
from leanet.results.intervals import verdict
from leanet.results.metrics import FEWEST_POSITIVES, PLAIN_THRESHOLD, Scored, Scores
from leanet.results.rows import Key, Row, difference

MOST_NAMED = 10
"""Most missed pictures, and most false alarms, to show by name."""

GUESSING = 0.6
"""Below this AUROC, answers count as little better than guessing."""

FEW = 20
"""With fewer test pictures of a class, the verdict warns: one picture is more than 5 % of them."""

CHANCE = 0.01
"""Largest p-value of the sign test at which a row with fewer mistakes is called clearly better."""

_INSTEAD = {
    ": CAAN": "`leanet predict` gives it as caan_probability.",
    MEAN_OF_BOTH: "It is the mean of the logits of probability and caan_probability, which `leanet predict` gives.",
    "without attention: ADN": "Give --caan none to train it alone.",
    OTHER_MAP_ROW: "`leanet fit` makes a model of it from the normal pictures alone.",
    MAP_ROW: "`leanet fit` makes a model of it from the normal pictures alone.",
    PART_ROW.partition("{}")[2]: "`leanet fit` with this source alone in --maps makes a model of it.",
    BORDER_ROW: "It sees the outermost 8 % of the picture: the background gives the answer away. Take all pictures "
    "against one background, or crop them.",
    HISTOGRAM_ROW: "It sees only how much of each color a picture has: no network is needed here.",
}
"""Ending of a row's name -> what to do if that row is better."""


class Mistake(NamedTuple):
    """A misclassified test picture: its row in images.csv, its fold, and the ADN's probability."""

    row: int
    fold: int
    probability: float


@dataclass(frozen=True)
class Verdict:
    """A run's result for people.

    Attributes:
        headline: anomalous pictures found, false alarms, and the threshold.
        details: sentences on the row that was counted and whether to use it.
        missed: anomalous test pictures called normal, the surest mistakes first.
        false_alarms: normal test pictures called anomalous, in the same order.
        anomalous, normal: number of test pictures of each class.
    """

    headline: str
    details: tuple[str, ...]
    missed: tuple[Mistake, ...]
    false_alarms: tuple[Mistake, ...]
    anomalous: int
    normal: int


def verdict_of(run: Run, results: Table, scored: Mapping[Key, Scored]) -> Verdict:
    """The verdict on a run by its table's first row: the ADN with its chosen thresholds and the first seed.

    Args:
        run: the run of the test pictures.
        results: the table, with the detector's own row first.
        scored: the ADN's probabilities for each fold's test images, from `scores_of`.
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
    """The first seed's wrong decisions at each fold's threshold, farthest from the threshold first."""
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
    """Write all mistakes to mistakes.csv; return its path."""
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
    """A row's decisions in words, see `found_in_words`."""
    return found_in_words(row.pooled, thresholds_of(row))


def found_in_words(p: Scores, thresholds: Sequence[float]) -> str:
    """Decisions in words: 'Of 120 anomalous pictures 116 found (97 %), 1 false alarm in 200; threshold 0.41'."""
    found, alarms = p.true_positives_chosen or 0, p.false_positives_chosen or 0
    normal = p.images - p.anomalous
    of_anomalous = f"Of {_count(p.anomalous, 'anomalous picture')} {found} found ({percent(found, p.anomalous)})"
    if not p.anomalous:
        of_anomalous = "No anomalous picture was tested"
    of_normal = f"{_count(alarms, 'false alarm')} in {normal}" if normal else "no normal picture was tested"
    return f"{of_anomalous}, {of_normal}; {_range(thresholds)}"


def thresholds_of(row: Row) -> list[float]:
    """Each fold's threshold, of the first seed."""
    chosen = [s.threshold_chosen for (_, seed), s in row.runs.items() if seed == 0]
    return [PLAIN_THRESHOLD if threshold is None else threshold for threshold in chosen]


def percent(part: int, whole: int) -> str:
    """A share for display: 100 % and 0 % only if it is all or nothing."""
    if not whole:
        return "-"
    rounded = round(100 * part / whole)
    if part < whole and rounded == 100:
        return "over 99 %"
    return "under 1 %" if part and not rounded else f"{rounded} %"


def probability_text(value: float) -> str:
    """A probability with two digits, or more if they would show 0 or 1."""
    return next((text for n in (2, 4) if float(text := f"{value:.{n}f}") not in (0, 1)), f"{value:.6g}")


def _range(thresholds: Sequence[float]) -> str:
    least, most = probability_text(min(thresholds)), probability_text(max(thresholds))
    return f"threshold {least}" if least == most else f"thresholds {least} to {most}, one for each fold"


def _count(number: int, name: str) -> str:
    return f"{number} {name}" + ("" if number == 1 else "s")


def _which(first: Row, all_folds: int) -> str:
    """The sentence on which pictures were counted, and by which row."""
    folds = len(first.by_fold("auroc"))
    several = " The first seed is counted." if len({seed for _, seed in first.runs}) > 1 else ""
    return (
        f"Counted on the test pictures of {folds} of {_count(all_folds, 'fold')} (a fold: a part of the pictures, "
        f'tested by networks trained on the others). "{first.name}" decides: the network that classifies the '
        f"picture (ADN: anomaly detection network); `leanet predict` answers by it.{several}"
    )


def _threshold_in_words(first: Row) -> str:
    """The sentence on the thresholds' origin."""
    chosen = [s.threshold_chosen for (_, seed), s in first.runs.items() if seed == 0]
    if not (without := chosen.count(None)):
        thresholds = "threshold was" if len(chosen) == 1 else "thresholds were"
        return f"The {thresholds} chosen on pictures held out of the training."
    reason = f"fewer than {FEWEST_POSITIVES} anomalous pictures were held out to choose one"
    if without == len(chosen):
        return f"The threshold is 0.5: {reason}."
    return f"In {without} of {len(chosen)} folds the threshold is 0.5: {reason}."


def _are_few(first: Row) -> bool:
    """Whether too few pictures of a class were tested for reliable numbers."""
    return min(first.pooled.anomalous, first.pooled.images - first.pooled.anomalous) < FEW


def _background(first: Row, others: Sequence[Row]) -> list[str]:
    """A warning if the colors of the border predict as well as the network."""
    for row in others:
        own, its = _mistakes(row), _mistakes(first)
        ranks, its_ranks = row.interval("auroc"), first.interval("auroc")
        if row.name != BORDER_ROW or own is None or its is None or not ranks or not its_ranks:
            continue
        if own <= its and ranks.mean >= its_ranks.mean:
            return [
                f'"{row.name}" does as well: {_compared(row, first)}. Check whether good and bad pictures have '
                "different backgrounds."
            ]
    return []


def _few_in_words(first: Row) -> str:
    """A warning if too few pictures were tested for reliable numbers; else ""."""
    if not _are_few(first):
        return ""
    anomalous, normal = first.pooled.anomalous, first.pooled.images - first.pooled.anomalous
    return (
        f"Few pictures were tested ({anomalous} anomalous, {normal} normal): other pictures may change all numbers."
    )


def _whether(first: Row, others: Sequence[Row]) -> list[str]:
    """Sentences on whether to use the first row, or what to use instead."""
    said = _against(first)
    better = sorted((row for row in others if clearly_better(row, first)), key=_quality)
    if not better:
        said += _background(first, others)
        if said or not others:
            return said
        if _are_few(first):
            return ["These are too few pictures to tell whether another row of the table is better."]
        return ["No other row of the table is clearly better: use this one."]
    best, *rest = better
    remedy = next((text for end, text in _INSTEAD.items() if best.name.endswith(end)), "")
    said.append(f'"{best.name}" is clearly better here: {_compared(best, first)}. {remedy}'.strip())
    if rest:
        said.append(f"So {'is' if len(rest) == 1 else 'are'} " + ", ".join(f'"{row.name}"' for row in rest) + ".")
    return said


def _against(first: Row) -> list[str]:
    """Sentences against the first row, regardless of the others."""
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
        said += f" It ranks pictures well, AUROC {auroc.mean:.2f}: pass another --threshold to `leanet predict`."
    return [said]


def clearly_better(row: Row, other: Row) -> bool:
    """Whether a row makes fewer mistakes than chance would explain, or ranks better consistently over the folds.

    The sign test compares mistakes. It does not know which mistakes the rows share and assumes none, which makes it
    conservative. The 95 % interval of the paired difference in AUROC compares ranks. A row that is better by one
    test and worse by the other is not clearly better.
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
    """Wrong decisions at the chosen thresholds; None if the row makes no decisions."""
    p = row.pooled
    if p.false_positives_chosen is None or p.false_negatives_chosen is None:
        return None
    return p.false_positives_chosen + p.false_negatives_chosen


def _quality(row: Row) -> tuple[float, float]:
    """A key that sorts the best row first: by mistakes, then by AUROC."""
    mistakes, auroc = _mistakes(row), row.interval("auroc")
    return (float("inf") if mistakes is None else mistakes), -(auroc.mean if auroc else 0.0)


def _compared(row: Row, other: Row) -> str:
    """The comparison of a row with another, in words."""
    said = []
    own, its = _mistakes(row), _mistakes(other)
    if own is not None and its is not None:
        said.append(f"{_count(own, 'mistake')} in {row.pooled.images} pictures instead of {its}")
    a, b = row.interval("auroc"), other.interval("auroc")
    if a and b:
        seeds = ", the mean of all seeds" if len({seed for _, seed in other.runs}) > 1 else ""
        said.append(f"AUROC {a.mean:.3f} instead of {b.mean:.3f}{seeds}")
    return ", ".join(said)
