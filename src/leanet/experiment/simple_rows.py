"""Table rows beside every result: the map's mean, and linear classifiers of colors and of frozen features."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from operator import getitem

import numpy as np
from numpy.typing import NDArray

from leanet.config import COLOR_MAP
from leanet.config.maps import JOINED
from leanet.experiment.experiment import Experiment
from leanet.experiment.feature_task import ComputeFeatures
from leanet.experiment.training_set import labelled_rows
from leanet.maps.summary import MEANS_OF_PARTS
from leanet.networks.pooled_head import FEATURES
from leanet.results.baselines import (
    COLOR_ROWS,
    FROZEN_AND_COLOR_ROW,
    FROZEN_ROW,
    HISTOGRAM_ROW,
    MAP_ROW,
    OTHER_MAP_ROW,
    PART_ROW,
    linear_classifier,
    mean_of_logits,
    predicted_unseen,
)
from leanet.results.metrics import FEWEST_POSITIVES, Scored, choose_threshold
from leanet.results.rows import Key, Row, make_row
from leanet.training.detection import RECIPES

FROZEN_C = 0.01
"""Inverse strength of the regularization on frozen features, of which there are many more than images."""

FEWEST = 4
"""Anomalous images that choose the threshold of a classifier beside a frozen ADN, as for its head."""

Describe = Callable[[NDArray[np.uint8]], NDArray[np.float64]]
"""Pixels (n, H, W, 3) -> features (n, D)."""

Said = tuple[NDArray[np.float64] | None, NDArray[np.float64]]
"""Probabilities of the labeled images, out of fold (None with too few), and of the test images."""


def simple_rows(experiment: Experiment) -> list[Row]:
    """The map's mean, that of each source, classifiers of colors and, beside a frozen ADN, of its features.

    The classifiers train on the detectors' images, with the same higher weight of few anomalies.

    Thresholds are chosen on the labeled training images; for the classifiers, by cross-validation.
    """
    run, ratio = experiment.run, experiment.test_to_train
    found = {
        name: _classified(experiment, _in_parts(run.pixels, describe), 0.1) for name, describe in COLOR_ROWS.items()
    }
    if experiment.detector.has_frozen_adn:
        found[FROZEN_ROW] = _classified(experiment, frozen_features(experiment), FROZEN_C)
        found[FROZEN_AND_COLOR_ROW] = {
            key: _mean(found[FROZEN_ROW][key], found[HISTOGRAM_ROW][key]) for key in experiment.trainings
        }
    return [
        *_map_rows(experiment),
        *(make_row(name, _scored(experiment, said), ratio) for name, said in found.items()),
    ]


def frozen_features(experiment: Experiment) -> NDArray[np.float64]:
    """Features of all images, (N, D), by the experiment's frozen ADN."""
    return ComputeFeatures(experiment.config, ()).read(experiment.run, 0)[FEATURES].astype(np.float64)


def frozen_scored(experiment: Experiment) -> dict[Key, Scored]:
    """What a logistic regression of the frozen ADN's features says about the test images."""
    return _scored(experiment, _classified(experiment, frozen_features(experiment), FROZEN_C))


def _map_rows(experiment: Experiment) -> list[Row]:
    """A row of the maps' means and, if several sources make them, one of each source's own."""
    parts, ratio = experiment.run.map_source.split(JOINED), experiment.test_to_train
    of_parts = {PART_ROW.format(name): (MEANS_OF_PARTS, name) for name in parts if len(parts) > 1}
    found = {map_name(experiment): map_scored(experiment)}
    found |= {name: map_scored(experiment, *where) for name, where in of_parts.items()}
    return [make_row(name, scored, ratio) for name, scored in found.items()]


def map_name(experiment: Experiment) -> str:
    """What the row of the maps' means is called."""
    return MAP_ROW if experiment.run.map_source == COLOR_MAP else OTHER_MAP_ROW


def map_scored(experiment: Experiment, *keys: str) -> dict[Key, Scored]:
    """Means of the test images' maps; the attributes of a fold's maps have them under these keys."""
    run, d, keys = experiment.run, experiment.detector, keys or ("mean_delta_e",)
    scored = {}
    for n, s in experiment.trainings:
        means, test = np.array(functools.reduce(getitem, keys, run.maps(n).attributes)), run.rows(run.folds[n].test)
        known = labelled_rows(experiment.config, run, n, s)
        threshold = choose_threshold(run.labels[known], means[known], d.target_recall, d.p_rate)
        scored[n, s] = Scored(run.labels[test], means[test], threshold, is_probability=False)
    return scored


def _in_parts(
    pixels: NDArray[np.uint8], describe: Callable[[NDArray[np.uint8]], NDArray[np.float64]]
) -> NDArray[np.float64]:
    """Features of all images, some at a time."""
    return np.concatenate([describe(pixels[i : i + 64]) for i in range(0, len(pixels), 64)])


def _classified(experiment: Experiment, features: NDArray[np.float64], c: float) -> dict[Key, Said]:
    """What a linear classifier of these features, (N, D) of all images, says in each training."""
    run, weighted = experiment.run, RECIPES[experiment.config.compute.recipe].balance
    found: dict[Key, Said] = {}
    for n, s in experiment.trainings:
        known, test = labelled_rows(experiment.config, run, n, s), run.rows(run.folds[n].test)
        classifier = linear_classifier(run.labels[known] if weighted else None, c)
        unseen = predicted_unseen(classifier, features[known], run.labels[known], run.groups_of(known))
        fitted = classifier.fit(features[known], run.labels[known])
        found[n, s] = unseen, fitted.predict_proba(features[test])[:, 1]
    return found


def _mean(one: Said, other: Said) -> Said:
    unseen = None if one[0] is None or other[0] is None else mean_of_logits(one[0], other[0])
    return unseen, mean_of_logits(one[1], other[1])


def _scored(experiment: Experiment, said: Mapping[Key, Said]) -> dict[Key, Scored]:
    """The probabilities of the test images, with the threshold that those of the labeled images choose."""
    run, d = experiment.run, experiment.detector
    fewest = FEWEST if d.has_frozen_adn else FEWEST_POSITIVES
    scored = {}
    for (n, s), (unseen, of_test) in said.items():
        known = run.labels[labelled_rows(experiment.config, run, n, s)]
        threshold = None if unseen is None else choose_threshold(known, unseen, d.target_recall, d.p_rate, fewest)
        scored[n, s] = Scored(run.labels[run.rows(run.folds[n].test)], of_test, threshold)
    return scored
