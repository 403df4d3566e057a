"""How well kinds of anomaly are found that training lacks: by the answer, and by each of its parts alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import pairwise_distances_chunked
from sklearn.preprocessing import StandardScaler

from leanet.data.tables import column_name
from leanet.experiment.experiment import Experiment
from leanet.experiment.open_run import Run
from leanet.experiment.simple_rows import frozen_features, frozen_scored, map_name, map_scored
from leanet.experiment.table import scores_of
from leanet.experiment.training_set import labelled_rows
from leanet.results.baselines import FROZEN_ROW
from leanet.results.metrics import Scored, choose_threshold, score
from leanet.results.rows import Key

ANSWER, WITHOUT_ATTENTION = "answer", "answer without attention"
DISTANCE = "distance from the nearest normal training image"
"""How the parts are called, beside rows of the results table."""

MEAN = "mean of the kinds"
"""The name of the last lines, which no kind has."""


@dataclass(frozen=True)
class OfKind:
    """What one scorer finds of one kind.

    Attributes:
        kind: its name, "" for anomalous images without one, or MEAN.
        part: name of the scorer.
        images: anomalous test images of the kind.
        auroc, f1: against the normal test images of the same folds, means over the trainings; in [0, 1], None if
            undefined. F1 is at the chosen threshold.
        found, false_alarms: shares of the kind's images, and of the normal ones, at or above the chosen threshold.
    """

    kind: str
    part: str
    images: int
    auroc: float | None
    f1: float | None
    found: float | None
    false_alarms: float | None


def unseen_kinds(experiment: Experiment) -> list[OfKind]:
    """`by_kind` of an experiment whose folds hold out kinds; empty for any other."""
    held_out = str(experiment.run.folder.read_config().get("hold_out") or "")
    is_kind = column_name(held_out.partition("=")[0]) == "kind"
    return by_kind(experiment.run, parts_of(experiment)) if is_kind else []


def parts_of(experiment: Experiment) -> dict[str, Mapping[Key, Scored]]:
    """What the answer and its parts say about the test images, by name, with thresholds of the training sides."""
    own, *baseline = experiment.beside_baseline()
    parts: dict[str, Mapping[Key, Scored]] = {ANSWER: scores_of(own)}
    if baseline:
        parts[WITHOUT_ATTENTION] = scores_of(baseline[0])
    if experiment.detector.has_frozen_adn:
        parts[FROZEN_ROW] = frozen_scored(experiment)
    parts[map_name(experiment)] = map_scored(experiment)
    if experiment.detector.has_frozen_adn:
        parts[DISTANCE] = _distance_scored(experiment)
    return parts


def by_kind(run: Run, parts: Mapping[str, Mapping[Key, Scored]]) -> list[OfKind]:
    """For each kind that is tested, and at last for their mean, each part in order.

    Args:
        parts: name -> what it says about each fold's test images, with each seed.
    """
    kinds = sorted({image.kind for image in run.images if image.label})
    found = [_of_kind(run, kind, part, scored) for kind in kinds for part, scored in parts.items()]
    found = [one for one in found if one.images]
    return found + [_mean(part, [one for one in found if one.part == part]) for part in parts if found]


def _of_kind(run: Run, kind: str, part: str, scored: Mapping[Key, Scored]) -> OfKind:
    each = []
    for (fold, _), s in scored.items():
        rows = run.rows(run.folds[fold].test)
        one = np.array([run.images[row].label == 1 and run.images[row].kind == kind for row in rows], dtype=bool)
        if one.any():
            either = one | (s.labels == 0)
            each.append(score(Scored(s.labels[either], s.scores[either], s.threshold, s.is_probability)))
    anomalous, normal = sum(s.anomalous for s in each), sum(s.images - s.anomalous for s in each)
    called = [(s.true_positives_chosen, s.false_positives_chosen) for s in each]
    decided = [(true, false) for true, false in called if true is not None and false is not None]
    all_decide = len(decided) == len(each)
    return OfKind(
        kind,
        part,
        anomalous // len({seed for _, seed in scored}),
        _mean_of([s.auroc for s in each]),
        _mean_of([s.f1_chosen for s in each]),
        sum(true for true, _ in decided) / anomalous if anomalous and all_decide else None,
        sum(false for _, false in decided) / normal if normal and all_decide else None,
    )


def _mean(part: str, kinds: Sequence[OfKind]) -> OfKind:
    metrics = ("auroc", "f1", "found", "false_alarms")
    means = (_mean_of([getattr(one, metric) for one in kinds]) for metric in metrics)
    return OfKind(MEAN, part, sum(one.images for one in kinds), *means)


def _mean_of(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def _distance_scored(experiment: Experiment) -> dict[Key, Scored]:
    """Distances in the frozen features; the thresholds are chosen by those of the labeled training images."""
    run, d, features = experiment.run, experiment.detector, frozen_features(experiment)
    groups, scored = [image.group for image in run.images], {}
    for n, s in experiment.trainings:
        known, test = labelled_rows(experiment.config, run, n, s), run.rows(run.folds[n].test)
        distances = nearest_normal(features, known[run.labels[known] == 0], groups)
        usable = known[np.isfinite(distances[known])]
        threshold = choose_threshold(run.labels[usable], distances[usable], d.target_recall, d.p_rate)
        scored[n, s] = Scored(run.labels[test], distances[test], threshold, is_probability=False)
    return scored


def nearest_normal(
    features: NDArray[np.float64], normals: NDArray[np.int64], groups: Sequence[str]
) -> NDArray[np.float64]:
    """Each image's distance from the nearest of some normal images that is of another group.

    Args:
        features: (N, D), of all images. They are standardized by the normal images.
        normals: rows of these.
        groups: (N,), of all images.
    Returns:
        (N,), Euclidean, divided by the square root of D; infinite if all normal images are of the image's group.
    """
    scaled = StandardScaler().fit(features[normals]).transform(features) / np.sqrt(features.shape[1])
    group = np.unique(np.array(groups), return_inverse=True)[1]

    def nearest(distances: NDArray[np.float64], start: int) -> NDArray[np.float64]:
        own = group[start : start + len(distances), None] == group[normals]
        return np.asarray(np.where(own, np.inf, distances).min(1))

    return np.concatenate(list(pairwise_distances_chunked(scaled, scaled[normals], reduce_func=nearest)))
