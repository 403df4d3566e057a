"""Metrics and thresholds, against scikit-learn and brute force."""

from __future__ import annotations

import numpy as np
import pytest
from noisy import noisy
from sklearn.metrics import balanced_accuracy_score, brier_score_loss, f1_score, matthews_corrcoef, recall_score

from leanet.results.metrics import Scored, choose_threshold, score


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


def test_a_threshold_of_calibrated_probabilities_goes_halfway_back_to_a_half() -> None:
    labels, scores = [0, 0, 0, 1, 1, 1], [0.05, 0.1, 0.15, 0.25, 0.6, 0.9]
    assert choose_threshold(labels, scores, fewest=3) == pytest.approx(0.2)  # odds of 1 : 4
    assert choose_threshold(labels, scores, fewest=3, calibrated=True) == pytest.approx(1 / 3)  # 1 : 2
    assert choose_threshold(labels, scores, 0.5, fewest=3, calibrated=True) == pytest.approx(0.425)


def test_too_few_anomalies_choose_no_threshold() -> None:
    y = np.repeat([0, 1], [50, 9])
    assert choose_threshold(y, np.linspace(0, 1, 59)) is None
    assert choose_threshold(np.repeat([0, 1], [50, 10]), np.linspace(0, 1, 60)) is not None
    assert choose_threshold(np.ones(20, dtype=int), np.linspace(0, 1, 20)) is None
