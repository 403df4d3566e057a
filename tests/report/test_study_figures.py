"""What a study's figures show is what its cells hold."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.container import ErrorbarContainer

from leanet.config import DetectorConfig
from leanet.experiment.study import Cell
from leanet.report.study_figures import gains, over_p_rate, over_points
from leanet.results.metrics import Scored
from leanet.results.rows import Row, make_row


def row(name: str, seed: int) -> Row:
    generator = np.random.default_rng(seed)
    labels = np.repeat([0, 1], 20)
    scored = {(fold, 0): Scored(labels, (labels * 0.3 + generator.random(40)) / 1.3) for fold in range(4)}
    return make_row(name, scored, 1 / 3)


@pytest.fixture(scope="module")
def cells() -> list[Cell]:
    plain = DetectorConfig(adn="CNN", caan="none")
    found = []
    for p_rate in (0.1, 1.0):
        baseline = row("CNN", int(10 * p_rate))
        found.append(Cell(replace(plain, p_rate=p_rate), (baseline,), None, None))
        for point in (2, 4):
            detector = replace(plain, caan="Direct", attention_point=(point,), p_rate=p_rate)
            found.append(Cell(detector, (row(detector.name, point + int(10 * p_rate)),), None, baseline))
    return found


def bars(axes: Axes) -> list[tuple[Any, Any, list[Any]]]:
    """Positions, and the ends of the error bars, of every series."""
    drawn = []
    for container in axes.containers:
        line, _, (ends,) = cast(ErrorbarContainer, container)
        drawn.append((line.get_xdata(), line.get_ydata(), ends.get_segments()))
    return drawn


def test_gains_are_those_over_the_own_baseline(cells: list[Cell]) -> None:
    (axes,) = gains(cells, "auroc").axes
    expected = [cell.gain("auroc") for cell in cells if cell.baseline]
    assert len(expected) == 4
    for (x, _, (ends,)), gain in zip(bars(axes), expected, strict=True):
        assert gain is not None
        assert x == pytest.approx([gain.mean])
        assert ends[:, 0] == pytest.approx([gain.low, gain.high])
    names = [label.get_text() for label in axes.get_yticklabels()]
    assert names[0] == "CNN-Direct-p2, p_rate 0.1"


def test_over_points_and_over_p_rate_are_the_cells_means(cells: list[Cell]) -> None:
    means = {(c.detector.name, c.detector.p_rate): c.row.interval("f1") for c in cells}
    for axes, p_rate in zip(over_points(cells, "f1").axes, (0.1, 1.0), strict=True):
        ((x, y, ends),) = bars(axes)
        assert list(x) == [2, 4]
        for at, mean, end in zip(x, y, ends, strict=True):
            expected = means[f"CNN-Direct-p{at}", p_rate]
            assert expected is not None
            assert (mean, *end[:, 1]) == pytest.approx((expected.mean, expected.low, expected.high))
        baseline = means["CNN", p_rate]
        assert baseline is not None
        assert [line.get_ydata() for line in axes.lines if line.get_linestyle() == "--"] == [[baseline.mean] * 2]
    (axes,) = over_p_rate(cells, "f1").axes
    for (x, y, _), name in zip(bars(axes), ("CNN", "CNN-Direct-p2", "CNN-Direct-p4"), strict=True):
        assert list(x) == [0.1, 1.0]
        expected_means = [i.mean for p_rate in (0.1, 1.0) if (i := means[name, p_rate])]
        assert list(y) == pytest.approx(expected_means)


def test_a_plain_adn_with_a_hyphen_in_its_name_is_dashed_and_said_to_have_no_attention(cells: list[Cell]) -> None:
    pretrained = [
        replace(cell, detector=replace(cell.detector, adn="EfficientNet-Lite0", tune="all")) for cell in cells
    ]
    (axes,) = over_p_rate(pretrained, "auroc").axes
    series = [cast(ErrorbarContainer, container) for container in axes.containers]
    styles = {str(one.get_label()): one.lines[0].get_linestyle() for one in series}
    assert styles["EfficientNet-Lite0 without attention"] == "--"
    assert styles["EfficientNet-Lite0-Direct-p2"] == "-"
