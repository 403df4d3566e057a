"""Metrics, thresholds, intervals and comparisons, against scikit-learn, SciPy and brute force."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import balanced_accuracy_score, brier_score_loss, f1_score, matthews_corrcoef, recall_score

from leanet.results.metrics import (
    Scored,
    cell,
    choose_threshold,
    difference,
    interval,
    make_row,
    score,
    shown,
    verdict,
)


def noisy(seed: int, n: int = 80, share: float = 0.3) -> Scored:
    generator = np.random.default_rng(seed)
    labels = (np.arange(n) < n * share).astype(np.int64)
    return Scored(labels, (0.3 * labels + generator.random(n) * 0.7).round(2))


def test_metrics_are_scikit_learns() -> None:
    scored = noisy(0)
    y, p = scored.labels, scored.scores
    found = score(Scored(y, p, 0.3))
    assert found.prevalence == pytest.approx(0.3)
    assert found.balanced_accuracy == pytest.approx(balanced_accuracy_score(y, p >= 0.5))
    assert found.mcc == pytest.approx(matthews_corrcoef(y, p >= 0.5))
    assert found.f1_chosen == pytest.approx(f1_score(y, p >= 0.3))
    assert found.mcc_chosen == pytest.approx(matthews_corrcoef(y, p >= 0.3))
    assert found.brier == pytest.approx(brier_score_loss(y, p))


@pytest.mark.parametrize("label", [0, 1])
def test_with_one_class_only_metrics_are_undefined(label: int) -> None:
    found = score(Scored(np.full(5, label), np.linspace(0, 1, 5), 0.4))
    assert (
        found.auroc is found.average_precision is found.mcc is found.balanced_accuracy is found.mcc_chosen is None
    )
    assert found.f1 is found.f1_chosen is None


def test_a_score_that_is_no_probability_has_no_plain_decision() -> None:
    scores = np.array([1.0, 7.0, 9.0])
    found = score(Scored(np.array([0, 1, 1]), scores, None, is_probability=False))
    assert found.f1 is found.f1_chosen is found.brier is found.true_positives is None
    assert found.auroc == 1
    chosen = score(Scored(np.array([0, 1, 1]), scores, 8.0, is_probability=False))
    assert chosen.f1 is None
    assert chosen.f1_chosen == pytest.approx(2 / 3)
    assert chosen.true_positives_chosen == 1


def test_where_none_was_chosen_the_decision_stays_at_a_half() -> None:
    found = score(noisy(1))
    assert found.threshold_chosen is None
    assert (found.f1_chosen, found.mcc_chosen) == (found.f1, found.mcc)


def test_cells_tell_undefined_from_undecided() -> None:
    normal_only = Scored(np.zeros(4, dtype=np.int64), np.linspace(0, 1, 4))
    assert cell(make_row("a", {(0, 0): normal_only}, 0.25), "f1") == "undefined"
    no_probability = Scored(noisy(0).labels, noisy(0).scores, None, is_probability=False)
    row = make_row("b", {(0, 0): no_probability}, 0.25)
    assert (cell(row, "f1"), cell(row, "f1_chosen")) == ("-", "-")
    assert re.fullmatch(r"0\.\d{3}", cell(row, "auroc"))
    of_one_class = make_row("a", {(0, 0): normal_only, (1, 0): noisy(0), (2, 0): noisy(1)}, 0.25)
    assert cell(of_one_class, "auroc").endswith(" (2 of 3 folds)")
    unchosen = Scored(np.array([0, 1]), np.array([0.2, 0.6]))
    assert cell(make_row("a", {(0, 0): unchosen}, 0.25), "f1_chosen") == "none chosen"


@pytest.mark.parametrize("seed", range(5))
def test_chosen_threshold_has_the_highest_f1_that_there_is(seed: int) -> None:
    y, p = noisy(seed).labels, noisy(seed).scores
    threshold = choose_threshold(y, p)
    assert threshold is not None
    best = max(f1_score(y, p >= t) for t in np.arange(-0.005, 1.01, 0.01))
    assert f1_score(y, p >= threshold) == pytest.approx(best)
    assert threshold not in p  # halfway between two scores


@pytest.mark.parametrize("recall", [0.5, 0.9, 1.0])
def test_chosen_threshold_is_the_highest_with_the_wanted_recall(recall: float) -> None:
    y, p = noisy(3).labels, noisy(3).scores
    threshold = choose_threshold(y, p, recall)
    assert threshold is not None
    assert recall_score(y, p >= threshold) >= recall
    assert recall_score(y, p >= p[p > threshold].min() + 1e-9) < recall


def test_anomalies_that_were_left_out_count_in_the_choice_of_a_threshold() -> None:
    y, p = noisy(2, 400).labels, noisy(2, 400).scores
    kept = np.concatenate([np.flatnonzero(y == 0), np.flatnonzero(y == 1)[::4]])
    as_many_as_there_were = np.repeat(kept, np.where(y[kept] == 1, 4, 1))
    threshold = choose_threshold(y[kept], p[kept], p_rate=0.25)
    assert threshold == choose_threshold(y[as_many_as_there_were], p[as_many_as_there_were])
    assert threshold is not None
    unweighted = choose_threshold(y[kept], p[kept])
    assert unweighted is not None
    assert threshold < unweighted


def test_too_few_anomalies_choose_no_threshold() -> None:
    y = np.repeat([0, 1], [50, 9])
    assert choose_threshold(y, np.linspace(0, 1, 59)) is None
    assert choose_threshold(np.repeat([0, 1], [50, 10]), np.linspace(0, 1, 60)) is not None
    assert choose_threshold(np.ones(20, dtype=int), np.linspace(0, 1, 20)) is None


def test_interval_without_overlap_is_students() -> None:
    values = [0.9, 0.95, 0.85, 0.97]
    found = interval(values, 0.0)
    expected = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert found is not None
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))


def test_interval_grows_by_the_correction_for_overlap() -> None:
    values = [0.9, 0.95, 0.85, 0.97, 0.9]
    plain, corrected = interval(values, 0.0), interval(values, 0.25)
    assert plain is not None
    assert corrected is not None
    assert (corrected.high - corrected.low) / (plain.high - plain.low) == pytest.approx(math.sqrt(0.45 / 0.2))


def test_one_value_has_no_interval_and_none_no_mean() -> None:
    one = interval([0.5, None], 0.25)
    assert one is not None
    assert one.mean == 0.5
    assert math.isnan(one.low)
    assert verdict(one) == "not known"
    assert interval([None], 0.25) is None


def test_folds_that_agree_to_the_digit_are_no_certainty() -> None:
    same = interval([1.0, 1.0, 1.0], 0.25)
    assert same is not None
    assert math.isnan(same.low)
    assert verdict(same) == "not known"
    assert shown(same) == "1.000"


def test_seeds_repeat_folds_and_make_no_interval_narrower() -> None:
    once = make_row("once", {(fold, 0): noisy(fold) for fold in range(4)}, 0.25)
    thrice = make_row("thrice", {(fold, seed): noisy(fold) for fold in range(4) for seed in range(3)}, 0.25)
    found, expected = thrice.interval("auroc"), once.interval("auroc")
    assert found is not None
    assert expected is not None
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
    assert len(thrice.runs) == 12


def test_pooled_decisions_are_each_folds_own() -> None:
    folds = {(fold, 0): Scored(noisy(fold).labels, noisy(fold).scores, 0.2 + 0.1 * fold) for fold in range(3)}
    pooled = make_row("row", folds, 0.25).pooled
    y = np.concatenate([s.labels for s in folds.values()])
    called = np.concatenate([s.scores >= 0.2 + 0.1 * fold for (fold, _), s in folds.items()])
    assert pooled.f1_chosen == pytest.approx(f1_score(y, called))
    assert pooled.true_positives_chosen == int((called & (y == 1)).sum())


def test_rows_are_compared_fold_by_fold_and_seed_by_seed() -> None:
    keys = [(fold, seed) for fold in range(3) for seed in range(2)]
    good = make_row("good", {k: noisy(k[0]) for k in keys}, 0.5)
    worse = {(fold, seed): Scored(noisy(fold).labels, abs(seed - noisy(fold).scores)) for fold, seed in keys}
    found = difference(good, make_row("worse", worse, 0.5), "auroc")
    assert found is not None
    gaps = [0 if seed == 0 else 2 * (score(noisy(fold)).auroc or 0) - 1 for fold, seed in keys]
    assert found.mean == pytest.approx(np.mean(gaps))
    once = make_row("without seeds", {(fold, 0): noisy(fold) for fold in range(3)}, 0.5)
    same = difference(good, once, "auroc")
    assert same is not None
    assert same.mean == 0


def test_decisions_at_a_chosen_threshold_are_not_compared_with_those_at_a_half() -> None:
    plain = make_row("plain", {(fold, 0): noisy(fold) for fold in range(3)}, 0.5)
    at = {(fold, 0): Scored(noisy(fold).labels, noisy(fold).scores, 0.4) for fold in range(3)}
    chosen = make_row("chosen", at, 0.5)
    for metric in ("f1_chosen", "balanced_accuracy_chosen", "mcc_chosen"):
        assert difference(chosen, plain, metric) is None
        assert difference(plain, chosen, metric) is None
        assert difference(chosen, chosen, metric) is not None
    assert difference(chosen, plain, "f1") is not None


def test_verdicts() -> None:
    assert verdict(interval([0.1, 0.11, 0.09, 0.1], 0.25)) == "higher"
    assert verdict(interval([-0.1, -0.11, -0.09, -0.1], 0.25)) == "lower"
    assert verdict(interval([0.1, -0.11, 0.09, -0.1], 0.25)) == "no difference shown"
    assert verdict(interval([0.9 - 0.8, 0.8 - 0.7], 1.0)) == "not known"  # equal but for rounding
