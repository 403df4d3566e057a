"""The numbers behind the report's figures."""

from __future__ import annotations

import io

import numpy as np
import pytest
from sklearn.calibration import calibration_curve

from leanet.report.figures import confusion, curve_points, reliability, reliability_bins, training_curves
from leanet.results.metrics import Scored


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


def test_no_number_leaves_the_axes_of_the_reliability_curve() -> None:
    corners = Scored(np.array([0, 0, 1, 1]), np.array([0.0, 0.999, 0.001, 1.0]))
    figure = reliability([corners, Scored(np.repeat([0, 1], 2000), np.repeat([0.0, 1.0], 2000))])
    figure.savefig(io.BytesIO(), format="png")  # lays the figure out
    (axes,) = figure.axes
    assert len(axes.texts) == 2
    for text in axes.texts:
        box = text.get_window_extent()
        assert axes.bbox.x0 <= box.x0
        assert box.x1 <= axes.bbox.x1
        assert axes.bbox.y0 <= box.y0
        assert box.y1 <= axes.bbox.y1


def test_a_matrix_is_drawn_value_by_value() -> None:
    figure = confusion([scored(60, 0)])
    assert [image.get_interpolation() for axes in figure.axes for image in axes.images] == ["none"]
    drawn = io.BytesIO()
    figure.savefig(drawn, format="svg")
    assert b"image-rendering:pixelated" in drawn.getvalue()
