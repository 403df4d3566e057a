"""Figures of predictions: curves, histograms, matrices. Each function takes numbers and returns a figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from sklearn.metrics import auc, average_precision_score, confusion_matrix, precision_recall_curve, roc_curve

from leanet.experiment.evaluate import PLAIN_THRESHOLD, Scored

MAP_COLOURS = mpl.colormaps["inferno"]
"""Perceptually uniform, and readable with any colour vision."""

NORMAL, ANOMALOUS = "#0072B2", "#D55E00"
"""Blue and vermilion of Okabe and Ito's palette, which colour-blind readers tell apart."""


def roc(runs: Mapping[str, Scored]) -> Figure:
    """ROC curves, one a fold (and seed)."""
    figure, axes = _square("false positive rate", "true positive rate", "ROC")
    axes.plot([0, 1], [0, 1], "--", color="0.7", linewidth=1)
    for name, scored in runs.items():
        if 0 < scored.labels.sum() < len(scored.labels):
            x, y, _ = roc_curve(scored.labels, scored.scores)
            axes.plot(x, y, linewidth=1.2, label=f"{name}: {auc(x, y):.3f}")
    _legend(axes, "AUROC")
    return figure


def precision_recall(runs: Mapping[str, Scored]) -> Figure:
    """Precision-recall curves, one a fold (and seed); the dashed line is what guessing gets: the prevalence."""
    figure, axes = _square("recall", "precision", "precision and recall")
    prevalence = np.mean(np.concatenate([s.labels for s in runs.values()]))
    axes.axhline(float(prevalence), linestyle="--", color="0.7", linewidth=1)
    for name, scored in runs.items():
        if 0 < scored.labels.sum() < len(scored.labels):
            y, x, _ = precision_recall_curve(scored.labels, scored.scores)
            average = average_precision_score(scored.labels, scored.scores)
            axes.plot(x, y, linewidth=1.2, label=f"{name}: {average:.3f}")
    _legend(axes, "average precision")
    return figure


def histogram(runs: Sequence[Scored]) -> Figure:
    """How the probabilities of normal and of anomalous test images are spread."""
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
    """Confusion matrices of all folds together: at 0.5, and at each fold's chosen threshold where there is one."""
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
        axes.imshow(matrix / np.maximum(matrix.sum(1, keepdims=True), 1), cmap="Blues", vmin=0, vmax=1.4)
        for (i, j), count in np.ndenumerate(matrix):
            axes.text(j, i, str(count), ha="center", va="center", fontsize=13)
        names = ["normal", "anomalous"]
        axes.set(xticks=[0, 1], yticks=[0, 1], xticklabels=names, yticklabels=names, title=title)
        axes.set(xlabel="decision", ylabel="truth")
    return figure


def reliability(runs: Sequence[Scored]) -> Figure:
    """Of the images given a probability of about p, the share that are anomalous."""
    figure, axes = _square("probability given", "share that is anomalous", "reliability")
    axes.plot([0, 1], [0, 1], "--", color="0.7", linewidth=1)
    given, share, _ = zip(*reliability_bins(runs), strict=True)
    axes.plot(given, share, "o-", color=NORMAL)
    return figure


def reliability_bins(runs: Sequence[Scored]) -> list[tuple[float, float, int]]:
    """Mean probability, share that is anomalous and number of the images in each tenth that has any."""
    labels, scores = _pooled(runs)
    tenth = np.minimum((scores * 10).astype(np.int64), 9)
    bins = [tenth == t for t in np.unique(tenth)]
    return [(float(scores[b].mean()), float(labels[b].mean()), int(b.sum())) for b in bins]


def training_curves(curves: Mapping[str, Mapping[str, Sequence[float]]], title: str) -> Figure:
    """Losses by epoch: name of the training -> name of the loss -> one value an epoch."""
    names = list(next(iter(curves.values())))
    figure = Figure(figsize=(4 * len(names), 3), layout="constrained")
    for axes, name in zip(figure.subplots(1, len(names), squeeze=False)[0], names, strict=True):
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
