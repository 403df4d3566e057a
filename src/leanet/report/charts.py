"""The figures of a report, with their captions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from leanet.config import COLOR_MAP
from leanet.experiment.experiment import Experiment
from leanet.experiment.open_run import Run
from leanet.experiment.verdict import Verdict
from leanet.report import figures
from leanet.report.pictures import (
    examples,
    layers_figure,
    losses_of,
    map_limit,
    mistakes_sheet,
    name_of_maps,
    recolouring_sheet,
)
from leanet.results.metrics import Scored
from leanet.results.rows import Key
from leanet.results.words import GLOSSARY

MOST_SHOWN = 8
"""Most mistakes in their figure."""


@dataclass(frozen=True)
class Chart:
    """A figure, its file's name without suffix, and its caption."""

    name: str
    figure: Figure
    caption: str


def draw_all(experiment: Experiment, scored: Mapping[Key, Scored], found: Verdict) -> list[Chart]:
    """Every figure of the page, in its order.

    Args:
        scored: the ADN's probabilities for the test images of each fold and seed.
        found: the verdict, with the mistakes.
    """
    run, fold = experiment.run, experiment.folds[0]
    of_seed = " First seed." if experiment.detector.seeds > 1 else ""
    rows = examples(run, fold, 2)
    return [
        *_of_mistakes(run, found, fold, of_seed),
        *_of_scores(scored, of_seed),
        Chart("recolouring", recolouring_sheet(run, fold, rows), _of_maps(run, fold)),
        *_inside(experiment, fold, rows, of_seed),
        *_of_training(experiment, of_seed),
    ]


def _of_maps(run: Run, fold: int) -> str:
    """The caption of the images in steps."""
    steps = (
        ", its lightness (all that the colorizer sees), recolored"
        if run.maps(fold, unpack=False).has_chroma
        else ""
    )
    meaning = f": {GLOSSARY['ΔE00']}" if run.map_source == COLOR_MAP else ", the distance from normal images"
    return f"Test images: input{steps}, and the anomaly map{meaning}."


def _of_mistakes(run: Run, found: Verdict, fold: int, of_seed: str) -> list[Chart]:
    """Pictures and maps of the surest mistakes, half of each kind if possible; none without mistakes."""
    missed = found.missed[: max(MOST_SHOWN // 2, MOST_SHOWN - len(found.false_alarms))]
    mistakes = [*missed, *found.false_alarms[: MOST_SHOWN - len(missed)]]
    if not mistakes:
        return []
    caption = (
        "The surest mistakes, with the predicted probability of an anomaly and the anomaly map, in the "
        f"color scale of the section Maps.{of_seed}"
    )
    return [Chart("mistakes", mistakes_sheet(run, mistakes, map_limit(run, fold)), caption)]


def _of_scores(scored: Mapping[Key, Scored], of_seed: str) -> list[Chart]:
    """Figures of the probabilities: curves, histogram, reliability, confusion matrix."""
    first = [s for (_, seed), s in scored.items() if seed == 0]
    thin = " Thin: the seeds after the first; numbers are the mean of a fold's seeds." if of_seed else ""
    return [
        Chart(
            "roc",
            figures.roc(scored),
            "ROC curves of the ADN: the share of the anomalous pictures found (true positive rate), at each "
            f"share of false alarms (false positive rate). The dashed line is guessing.{thin}",
        ),
        Chart(
            "precision_recall",
            figures.precision_recall(scored),
            "Precision, the share of the alarms that are right, at each recall, the share of the anomalous ones "
            f"found. The dashed line is guessing.{thin}",
        ),
        Chart(
            "scores",
            figures.histogram(first),
            f"Probabilities of normal and anomalous test images, all folds; dashed: 0.5.{of_seed}",
        ),
        Chart(
            "reliability",
            figures.reliability(first),
            f"On the dashed line, 80 % of the images of probability 0.8 are anomalous. Numbers: images.{of_seed}",
        ),
        Chart("confusion", figures.confusion(first), f"Decisions on all folds' test images.{of_seed}"),
    ]


def _inside(experiment: Experiment, fold: int, rows: NDArray[np.int64], of_seed: str) -> list[Chart]:
    """A normal and an anomalous image on their way through the network; none without attention."""
    if not experiment.detector.has_attention:
        return []
    charts, images = [], experiment.run.images
    published = "" if experiment.detector.attention == "published" else ", in the published form"
    for label, name in ((1, "anomalous"), (0, "normal")):
        row = next((int(r) for r in rows if images[r].label == label), None)
        if row is None:  # folds edited by hand may test one class only
            continue
        caption = (
            f"A test image that is {name}, inside the network: the ADN's features before attention, the "
            'attention map, and the features after, at each of the five points (means over channels). "Not '
            f'applied": what the CAAN has at a point that this network does not use{published}.{of_seed}'
        )
        charts.append(Chart(f"layers_{name}", layers_figure(experiment, fold, row), caption))
    return charts


def _of_training(experiment: Experiment, of_seed: str) -> list[Chart]:
    """The losses by epoch of what was trained here."""
    run = experiment.run
    detectors = {n: experiment.folder(n).history for n in experiment.folds}
    colorizers = {n: run.folder.fold(n).map_source(run.map_source).history() for n in experiment.folds}
    charts = []
    for name, title, paths, caption in (
        ("training_detector", experiment.detector.name, detectors, f"Training.{of_seed}"),
        ("training_colorizer", name_of_maps(run), colorizers, f"Training of the {name_of_maps(run)}s."),
    ):
        losses = {f"fold {n}": found for n, path in paths.items() if path.exists() and (found := losses_of(path))}
        if losses:
            charts.append(Chart(name, figures.training_curves(losses, title), caption))
    return charts
