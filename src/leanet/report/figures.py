"""Figures of predictions: curves, histograms, matrices. Each function turns numbers into a figure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from sklearn.metrics import (
    average_precision_score,
    confusion_matrix,
    precision_recall_curve,
    roc_auc_score,
    roc_curve,
)

from leanet.results.metrics import PLAIN_THRESHOLD, Scored
from leanet.results.rows import Key

MAP_COLOURS = mpl.colormaps["inferno"]
"""Perceptually uniform, and readable with any color vision."""

CRISP: Literal["none"] = "none"
"""Interpolation of matrices in PNG and SVG: each value stays a square of one color."""

NORMAL, ANOMALOUS = "#0072B2", "#D55E00"
"""Blue and vermilion of Okabe and Ito's palette, which color-blind readers can distinguish."""

COLOURS = (NORMAL, ANOMALOUS, "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
"""That palette without yellow, which is too pale for lines on white."""


def roc(runs: Mapping[Key, Scored]) -> Figure:
    """ROC curves, one color per fold, thin for seeds after the first."""
    figure, axes = _square("false positive rate", "true positive rate", "ROC")
    axes.plot([0, 1], [0, 1], "--", color="0.7", linewidth=1)
    _curves(axes, runs, lambda y, s: roc_curve(y, s)[:2], roc_auc_score)
    _legend(axes, "AUROC")
    return figure


def precision_recall(runs: Mapping[Key, Scored]) -> Figure:
    """Precision-recall curves in the same style; the dashed line is guessing, the prevalence."""
    figure, axes = _square("recall", "precision", "precision and recall")
    prevalence = np.mean(np.concatenate([s.labels for s in runs.values()]))
    axes.axhline(float(prevalence), linestyle="--", color="0.7", linewidth=1)
    _curves(axes, runs, lambda y, s: precision_recall_curve(y, s)[1::-1], average_precision_score)
    _legend(axes, "average precision")
    return figure


def _curves(
    axes: Axes, runs: Mapping[Key, Scored], curve: Callable[..., Any], metric: Callable[..., float]
) -> None:
    """A curve for each run with both classes; the legend has each fold's metric, averaged over its seeds."""
    known = {key: s for key, s in runs.items() if 0 < s.labels.sum() < len(s.labels)}
    folds = list(dict.fromkeys(fold for fold, _ in known))
    for (fold, seed), s in known.items():
        mean = np.mean([metric(other.labels, other.scores) for (f, _), other in known.items() if f == fold])
        label = None if seed else f"fold {fold}: {mean:.3f}"
        colour = COLOURS[folds.index(fold) % len(COLOURS)]
        axes.plot(*curve(s.labels, s.scores), color=colour, linewidth=0.6 if seed else 1.3, label=label)


def curve_points(scored: Scored) -> list[tuple[str, str, str]]:
    """The points of both curves as (name, x, y); none if there is one class only."""
    if not 0 < scored.labels.sum() < len(scored.labels):
        return []
    curves = {
        "roc": roc_curve(scored.labels, scored.scores)[:2],
        "precision_recall": precision_recall_curve(scored.labels, scored.scores)[1::-1],
    }
    return [(name, f"{x:.6g}", f"{y:.6g}") for name, curve in curves.items() for x, y in zip(*curve, strict=True)]


def histogram(runs: Sequence[Scored]) -> Figure:
    """Histograms of the probabilities of normal and anomalous test images."""
    figure = Figure(figsize=(5, 3.2), layout="constrained")
    axes = figure.subplots()
    labels, scores = _pooled(runs)
    bins: list[float] = np.linspace(0, 1, 41).tolist()
    for label, colour, name in ((0, NORMAL, "normal"), (1, ANOMALOUS, "anomalous")):
        axes.hist(scores[labels == label], bins=bins, color=colour, alpha=0.6, label=name)
    axes.axvline(PLAIN_THRESHOLD, color="0.4", linestyle="--", linewidth=1)
    axes.set(xlabel="probability of an anomaly", ylabel="test images", yscale="symlog", title="scores")
    axes.legend(frameon=False)
    return figure


def confusion(runs: Sequence[Scored]) -> Figure:
    """Confusion matrices of all folds together: at 0.5, and at each fold's chosen threshold, if any."""
    labels = np.concatenate([s.labels for s in runs])
    decisions = {"at 0.5": np.concatenate([s.scores >= PLAIN_THRESHOLD for s in runs])}
    if any(s.threshold is not None for s in runs):
        thresholds = [PLAIN_THRESHOLD if s.threshold is None else s.threshold for s in runs]
        called = [s.scores >= threshold for s, threshold in zip(runs, thresholds, strict=True)]
        decisions["threshold chosen"] = np.concatenate(called)
    figure = Figure(figsize=(3.2 * len(decisions), 3), layout="constrained")
    for axes, (title, decided) in zip(
        figure.subplots(1, len(decisions), squeeze=False)[0], decisions.items(), strict=True
    ):
        matrix = confusion_matrix(labels, decided, labels=[0, 1])
        shares = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
        axes.imshow(shares, cmap="Blues", vmin=0, vmax=1.4, interpolation=CRISP)
        for (i, j), count in np.ndenumerate(matrix):
            axes.text(j, i, str(count), ha="center", va="center", fontsize=13)
        names = ["normal", "anomalous"]
        axes.set(xticks=[0, 1], yticks=[0, 1], xticklabels=names, yticklabels=names, title=title)
        axes.set(xlabel="decision", ylabel="truth")
    return figure


def reliability(runs: Sequence[Scored]) -> Figure:
    """Reliability diagram: the share of anomalous images against the predicted probability."""
    figure, axes = _square("probability given", "share that is anomalous", "reliability")
    axes.plot([0, 1], [0, 1], "--", color="0.7", linewidth=1)
    bins = reliability_bins(runs)
    given, share, _ = zip(*bins, strict=True)
    axes.plot(given, share, "o-", color=NORMAL)
    for x, y, images in bins:
        # Toward the middle, to keep the numbers inside the axes.
        offset = (4 if x < 0.5 else -4, 4 if y < 0.5 else -4)
        text = axes.annotate(str(images), (x, y), offset, textcoords="offset points", fontsize=7, color="0.4")
        text.set(ha="left" if x < 0.5 else "right", va="bottom" if y < 0.5 else "top")
    return figure


def reliability_bins(runs: Sequence[Scored]) -> list[tuple[float, float, int]]:
    """Mean probability, anomalous share and number of images in each non-empty tenth."""
    labels, scores = _pooled(runs)
    tenth = np.minimum((scores * 10).astype(np.int64), 9)
    bins = [tenth == t for t in np.unique(tenth)]
    return [(float(scores[b].mean()), float(labels[b].mean()), int(b.sum())) for b in bins]


def training_curves(curves: Mapping[str, Mapping[str, Sequence[float]]], title: str) -> Figure:
    """Losses by epoch; `curves`: training -> loss -> one value per epoch."""
    names = list(dict.fromkeys(name for losses in curves.values() for name in losses))
    figure = Figure(figsize=(4 * len(names), 3), layout="constrained")
    for axes, name in zip(figure.subplots(1, len(names), squeeze=False)[0], names, strict=True):
        axes.set_prop_cycle(color=COLOURS)
        for label, losses in curves.items():
            if name in losses:
                axes.plot(range(1, len(losses[name]) + 1), losses[name], label=label)
        axes.set(title=f"{title}: {name.replace('_', ' ')}", xlabel="epoch", yscale="log")
        axes.legend(fontsize=7)
    return figure


def _pooled(runs: Sequence[Scored]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    return np.concatenate([s.labels for s in runs]), np.concatenate([s.scores for s in runs])


def _square(xlabel: str, ylabel: str, title: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(4, 4), layout="constrained")
    axes = figure.subplots()
    axes.set(xlabel=xlabel, ylabel=ylabel, title=title, xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal")
    return figure, axes


def _legend(axes: Axes, title: str) -> None:
    handles, _ = axes.get_legend_handles_labels()
    if handles:
        axes.legend(title=title, fontsize=7, title_fontsize=8, frameon=False, loc="lower right")
