"""Confidence intervals over folds, against SciPy and the published correction."""

from __future__ import annotations

import math

import pytest
from scipy import stats

from leanet.results.intervals import interval, shown, verdict


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


def test_verdicts() -> None:
    assert verdict(interval([0.1, 0.11, 0.09, 0.1], 0.25)) == "higher"
    assert verdict(interval([-0.1, -0.11, -0.09, -0.1], 0.25)) == "lower"
    assert verdict(interval([0.1, -0.11, 0.09, -0.1], 0.25)) == "no difference shown"
    assert verdict(interval([0.9 - 0.8, 0.8 - 0.7], 1.0)) == "not known"  # equal but for rounding
