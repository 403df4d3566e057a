"""Figures of a study: a metric over attention points and over p_rate, and LEA-Net against its baseline."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from leanet.experiment.study import Cell
from leanet.report.figures import ANOMALOUS, COLOURS
from leanet.report.pictures import save
from leanet.results.intervals import Interval

TITLES = {"auroc": "AUROC", "f1": "F1 at 0.5"}


def draw_study(cells: Sequence[Cell], report: Path) -> None:
    """Draw the grid's figures into the report folder, as PNG and SVG."""
    for metric in TITLES:
        drawn = {f"study_points_{metric}": over_points(cells, metric)}
        if len({cell.detector.p_rate for cell in cells}) > 1:
            drawn[f"study_p_rate_{metric}"] = over_p_rate(cells, metric)
        drawn[f"study_gain_{metric}"] = gains(cells, metric)
        for name, figure in drawn.items():
            for suffix in ("png", "svg"):
                save(figure, report / "figures" / f"{name}.{suffix}")


def over_points(cells: Sequence[Cell], metric: str) -> Figure:
    """The metric over the attention point, one panel per p_rate; dashed: the baseline."""
    rates = sorted({cell.detector.p_rate for cell in cells})
    figure = Figure(figsize=(4.2 * len(rates), 3.4), layout="constrained")
    for axes, rate in zip(figure.subplots(1, len(rates), squeeze=False, sharey=True)[0], rates, strict=True):
        series: dict[str, list[Cell]] = {}
        for cell in cells:
            if cell.detector.p_rate == rate:
                series.setdefault(_name_without_point(cell), []).append(cell)
        for colour, (name, own) in zip(itertools.cycle(COLOURS), series.items()):
            if not own[0].detector.attention_point:
                if found := own[0].row.interval(metric):
                    axes.axhline(found.mean, linestyle="--", color=colour, label=own[0].detector.title)
                continue
            known = [(c.detector.attention_point[0], i) for c in own if (i := c.row.interval(metric))]
            _line(axes, known, color=colour, label=name)
        axes.set(xlabel="attention point", xticks=range(1, 6))
        axes.set_title(f"{_title(cells, metric)}, p_rate {rate:g}", fontsize=10)
        axes.legend(fontsize=7)
    return figure


def _line(axes: Axes, known: Sequence[tuple[float, Interval]], **style: Any) -> None:
    """Plot means with their 95 % intervals over x."""
    x, means = [at for at, _ in known], [i.mean for _, i in known]
    errors = [[i.mean - i.low for _, i in known], [i.high - i.mean for _, i in known]]
    axes.errorbar(x, means, errors, marker="o", capsize=3, **style)


def _title(cells: Sequence[Cell], metric: str) -> str:
    prevalence = cells[0].row.pooled.prevalence
    return TITLES[metric] + (f" ({prevalence:.0%} anomalous)" if metric == "f1" else "")


def _name_without_point(cell: Cell) -> str:
    return re.sub(r"-p\d+", "", cell.detector.name)


def over_p_rate(cells: Sequence[Cell], metric: str) -> Figure:
    """The metric over the share of anomalies kept, one line per detector."""
    figure = Figure(figsize=(5.4, 3.8), layout="constrained")
    axes = figure.subplots()
    names = list(dict.fromkeys(cell.detector.name for cell in cells))
    for colour, name in zip(itertools.cycle(COLOURS), names):
        own = sorted((c for c in cells if c.detector.name == name), key=lambda c: c.detector.p_rate)
        known = [(c.detector.p_rate, i) for c in own if (i := c.row.interval(metric))]
        style = "-" if own[0].detector.has_attention else "--"
        _line(axes, known, linestyle=style, color=colour, label=own[0].detector.title)
    axes.set(xlabel="p_rate: share of the training anomalies kept", xscale="log", title=_title(cells, metric))
    axes.legend(fontsize=7)
    return figure


def gains(cells: Sequence[Cell], metric: str) -> Figure:
    """LEA-Net minus its baseline, with 95 % intervals: a gain is shown if the interval is right of 0."""
    with_attention = [(c, g) for c in cells if (g := c.gain(metric))]
    figure = Figure(figsize=(6, 0.9 + 0.3 * len(with_attention)), layout="constrained")
    axes = figure.subplots()
    axes.axvline(0, color="0.6", linewidth=1)
    for line, (_, gain) in zip(itertools.count(), with_attention):
        axes.errorbar(
            gain.mean,
            line,
            xerr=[[gain.mean - gain.low], [gain.high - gain.mean]],
            fmt="o",
            capsize=3,
            color=ANOMALOUS,
        )
    labels = [f"{cell.detector.name}, p_rate {cell.detector.p_rate:g}" for cell, _ in with_attention]
    axes.set(
        yticks=range(len(labels)), yticklabels=labels, xlabel=f"{_title(cells, metric)} less that without attention"
    )
    axes.invert_yaxis()
    return figure
