"""The numbers behind the report's figures."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.calibration import calibration_curve

from leanet.experiment.evaluate import Scored
from leanet.report.figures import curve_points, reliability_bins, training_curves


def scored(images: int, seed: int) -> Scored:
    generator = np.random.default_rng(seed)
    probabilities = generator.random(images)
    return Scored((generator.random(images) < probabilities**2).astype(np.int64), probabilities)


def test_the_reliability_curve_is_scikit_learns() -> None:
    folds = [scored(200, 0), scored(150, 1)]
    labels, scores = (np.concatenate([getattr(s, name) for s in folds]) for name in ("labels", "scores"))
    share, mean = calibration_curve(labels, scores, n_bins=10)
    bins = reliability_bins(folds)
    assert [b[0] for b in bins] == pytest.approx(mean)
    assert [b[1] for b in bins] == pytest.approx(share)
    assert sum(b[2] for b in bins) == 350


def test_a_loss_that_only_later_folds_have_is_drawn() -> None:
    figure = training_curves({"fold 0": {"loss": [2.0, 1.0]}, "fold 1": {"loss": [3.0], "val_loss": [4.0]}}, "CNN")
    drawn = {
        axes.get_title(): [(line.get_label(), list(np.asarray(line.get_ydata()))) for line in axes.lines]
        for axes in figure.axes
    }
    assert drawn == {
        "CNN: loss": [("fold 0", [2.0, 1.0]), ("fold 1", [3.0])],
        "CNN: val loss": [("fold 1", [4.0])],
    }


def test_one_class_has_no_curves() -> None:
    assert curve_points(Scored(np.zeros(5, dtype=np.int64), np.linspace(0, 1, 5))) == []
