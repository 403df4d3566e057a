"""Rows of the results table, and their comparison fold by fold."""

from __future__ import annotations

import re

import numpy as np
import pytest
from noisy import noisy
from sklearn.metrics import f1_score

from leanet.results.metrics import Scored, score
from leanet.results.rows import cell, difference, make_row


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
