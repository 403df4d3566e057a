"""Table rows without a network, shown with every result: the map's mean, and classifiers of colors."""

from __future__ import annotations

import numpy as np

from leanet.config import ColorizerConfig
from leanet.experiment.experiment import Experiment
from leanet.experiment.training_set import labelled_rows
from leanet.results.baselines import COLOR_ROWS, MAP_ROW, OTHER_MAP_ROW, linear_classifier, predicted_unseen
from leanet.results.metrics import Scored, choose_threshold
from leanet.results.rows import Row, make_row
from leanet.training.detection import RECIPES


def simple_rows(experiment: Experiment) -> list[Row]:
    """The map's mean alone, and classifiers of colors alone.

    The classifiers train on the detectors' images, with the same higher weight of few anomalies.

    Thresholds are chosen on the labeled training images; for the classifiers, by cross-validation.
    """
    run, config, ratio = experiment.run, experiment.config, experiment.test_to_train
    recall, p_rate = config.detector.target_recall, config.detector.p_rate
    weighted = RECIPES[config.compute.recipe].balance
    test = {n: run.rows(run.folds[n].test) for n in experiment.folds}
    labelled = {(n, s): labelled_rows(config, run, n, s) for n, s in experiment.trainings}
    means = {n: np.array(run.maps(n).attributes["mean_delta_e"]) for n in experiment.folds}
    maps = {}
    for n, s in experiment.trainings:
        known = labelled[n, s]
        threshold = choose_threshold(run.labels[known], means[n][known], recall, p_rate)
        maps[n, s] = Scored(run.labels[test[n]], means[n][test[n]], threshold, is_probability=False)
    of_map = MAP_ROW if run.map_source == ColorizerConfig.map_source else OTHER_MAP_ROW
    rows = [make_row(of_map, maps, ratio)]
    for name, describe in COLOR_ROWS.items():
        features = np.concatenate([describe(run.pixels[i : i + 64]) for i in range(0, len(run.pixels), 64)])
        scored = {}
        for n, s in experiment.trainings:
            known = labelled[n, s]
            classifier = linear_classifier(run.labels[known] if weighted else None)
            unseen = predicted_unseen(classifier, features[known], run.labels[known], run.groups_of(known))
            threshold = None if unseen is None else choose_threshold(run.labels[known], unseen, recall, p_rate)
            fitted = classifier.fit(features[known], run.labels[known])
            scored[n, s] = Scored(run.labels[test[n]], fitted.predict_proba(features[test[n]])[:, 1], threshold)
        rows.append(make_row(name, scored, ratio))
    return rows
