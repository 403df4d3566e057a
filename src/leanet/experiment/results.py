"""The results table: every detector's rows, and those that belong beside them, from the same folds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import PredefinedSplit, cross_val_predict
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from leanet.data.splits import inner_parts
from leanet.errors import UserError
from leanet.experiment.evaluate import FEWEST_POSITIVES, Row, Scored, choose_threshold, make_row
from leanet.experiment.open_run import Run
from leanet.experiment.predictions import Predictions, read_predictions
from leanet.experiment.run_folder import DetectorFolder, RunFolder
from leanet.experiment.simple_rows import border_histogram, colour_histogram, linear_classifier
from leanet.experiment.training_set import labelled_rows
from leanet.settings import DetectConfig, DetectorConfig

INNER_PARTS = 5
"""Of the cross-validation that chooses by images which a linear classifier is fitted on."""


@dataclass(frozen=True)
class Table:
    """Rows of results, the detector's own first; and notes on what they do not say."""

    rows: tuple[Row, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Outcome:
    """What one detector, trained with one seed, said of a fold's test images and of its inner validation.

    Attributes:
        test, validation: predictions; `validation` is None where nothing was held out.
        test_map, validation_map: (N,), mean ΔE of the same images' anomaly maps.
    """

    test: Predictions
    test_map: NDArray[np.float64]
    validation: Predictions | None
    validation_map: NDArray[np.float64] | None


def table(run: Run, home: RunFolder, config: DetectConfig, folds: Sequence[int]) -> Table:
    """Rows over the folds asked for: LEA-Net, its CAAN, both with the map, the plain ADN, and simpler scorers.

    Raises:
        UserError: predictions missing, or of other images than the fold's.
    """
    compared = config.compare and config.detector.caan != "none"
    ratio = ratio_of_sides(run, config, folds)
    rows: list[Row] = []
    notes: list[str] = []
    for detector in [config.detector, config.detector.baseline()] if compared else [config.detector]:
        found = detector_rows(run, home, detector, folds, ratio)
        rows += found.rows
        notes += found.notes
    return Table((*rows, *_simple_rows(run, config, folds, ratio)), tuple(notes))


def ratio_of_sides(run: Run, config: DetectConfig, folds: Sequence[int]) -> float:
    """Test images for each labelled training image, on average over the folds."""
    return float(np.mean([len(run.folds[n].test) / len(labelled_rows(config, run, n, 0)) for n in folds]))


def outcome(run: Run, folder: DetectorFolder, number: int) -> Outcome:
    """Read what a detector left in its folder.

    Raises:
        UserError: predictions missing, or of other images than the fold's.
    """
    means = np.array(run.maps(number).attributes["mean_delta_e"])
    test = read_predictions(folder.predictions)
    if test.files != run.folds[number].test:
        raise UserError(
            f"{folder.predictions}: not of this fold's test images. "
            f"Delete {folder.path} and run `leanet detect` again."
        )
    if not folder.validation.exists():
        return Outcome(test, means[run.rows(test.files)], None, None)
    validation = read_predictions(folder.validation)
    strangers = set(validation.files) - set(run.folds[number].train)
    if strangers:
        raise UserError(
            f"{folder.validation}: {min(strangers)} is not one of this fold's training images. "
            f"Delete {folder.path} and run `leanet detect` again."
        )
    return Outcome(test, means[run.rows(test.files)], validation, means[run.rows(validation.files)])


def detector_rows(run: Run, home: RunFolder, detector: DetectorConfig, folds: Sequence[int], ratio: float) -> Table:
    """A detector's own rows: its ADN's first, its CAAN's, both with the map where that is better."""
    outcomes = {
        (n, s): outcome(run, home.fold(n).detector(detector.name_with(s)), n)
        for n in folds
        for s in range(detector.seeds)
    }
    title = f"{detector.name} without attention" if detector.caan == "none" else detector.name
    recall = detector.target_recall
    adn = {k: adn_scored(o, recall) for k, o in outcomes.items()}
    rows = [make_row(f"{title}: ADN", adn, ratio)]
    notes: list[str] = []
    unchosen = sum(s.threshold is None for s in adn.values())
    if unchosen:
        notes.append(
            f"{title}: the threshold stayed 0.5 in {unchosen} of {len(adn)} trainings: "
            f"no inner validation, or fewer than {FEWEST_POSITIVES} anomalous images in it"
        )
    if detector.caan == "none":
        return Table(tuple(rows), tuple(notes))
    caan = {k: s for k, o in outcomes.items() if (s := _caan_scored(o, recall)) is not None}
    if len(caan) == len(outcomes):
        rows.append(make_row(f"{title}: CAAN", caan, ratio))
    combined = {k: s for k, o in outcomes.items() if (s := together(run, o, recall)) is not None}
    members = "ADN, CAAN and map" if caan else "ADN and map"
    if combined:
        rows.append(make_row(f"{title}: {members} together", {**adn, **combined}, ratio))
        notes.append(
            f"{title}: {members} together ranked the inner validation better than the ADN alone in "
            f"{len(combined)} of {len(adn)} trainings; in the others that row is the ADN's"
        )
    elif any(o.validation and o.validation.labels.sum() >= FEWEST_POSITIVES for o in outcomes.values()):
        notes.append(
            f"{title}: {members} together ranked no inner validation better than the ADN alone: no such row"
        )
    return Table(tuple(rows), tuple(notes))


def adn_scored(found: Outcome, target_recall: float | None) -> Scored:
    """The ADN's probabilities of the test images, with the threshold that the inner validation chose."""
    v = found.validation
    threshold = None if v is None else choose_threshold(v.labels, v.adn, target_recall)
    return Scored(found.test.labels, found.test.adn, threshold)


def _caan_scored(found: Outcome, target_recall: float | None) -> Scored | None:
    if found.test.caan is None:
        return None
    v = found.validation
    threshold = None if v is None or v.caan is None else choose_threshold(v.labels, v.caan, target_recall)
    return Scored(found.test.labels, found.test.caan, threshold)


def together(run: Run, found: Outcome, target_recall: float | None) -> Scored | None:
    """A logistic regression on both networks' logits and the map's mean, where it ranks the validation better.

    Fitted on the inner validation; whether it is better is told by cross-validation inside it, no group parted.
    """
    v = found.validation
    if v is None or found.validation_map is None or v.labels.sum() < FEWEST_POSITIVES:
        return None
    features, test = _features(v, found.validation_map), _features(found.test, found.test_map)
    classifier = make_pipeline(StandardScaler(), LogisticRegression(C=0.1))
    unseen = _predicted_unseen(classifier, features, v.labels, run.groups_of(run.rows(v.files)))
    if unseen is None or roc_auc_score(v.labels, unseen) <= roc_auc_score(v.labels, v.adn):
        return None
    classifier.fit(features, v.labels)
    threshold = choose_threshold(v.labels, unseen, target_recall)
    return Scored(found.test.labels, classifier.predict_proba(test)[:, 1], threshold)


def _predicted_unseen(
    classifier: Pipeline, features: NDArray[np.float64], labels: NDArray[np.int64], groups: list[str]
) -> NDArray[np.float64] | None:
    """Each image's probability by the classifier fitted on the others' parts; None with too few of a class."""
    if len({*groups}) < INNER_PARTS or min(labels.sum(), len(labels) - labels.sum()) < INNER_PARTS:
        return None
    parts = inner_parts(labels.tolist(), groups, INNER_PARTS, 0)
    if any(len(set(labels[parts != part].tolist())) < 2 for part in range(INNER_PARTS)):
        return None
    found = cross_val_predict(classifier, features, labels, cv=PredefinedSplit(parts), method="predict_proba")
    probabilities: NDArray[np.float64] = found[:, 1]
    return probabilities


def _features(p: Predictions, mean_delta_e: NDArray[np.float64]) -> NDArray[np.float64]:
    """Logits of ADN and CAAN, and the logarithm of mean ΔE: (N, 3)."""
    probabilities = np.stack([p.adn, p.adn if p.caan is None else p.caan], 1).clip(1e-9, 1 - 1e-9)
    logits = np.log(probabilities / (1 - probabilities))
    return np.column_stack([logits, np.log(mean_delta_e + 1e-3)])


def _simple_rows(run: Run, config: DetectConfig, folds: Sequence[int], ratio: float) -> list[Row]:
    """The map's mean alone, and classifiers of colours alone, trained on the images that the detectors had.

    Thresholds are chosen on the labelled training images: of the classifiers, by cross-validation among them.
    """
    recall, runs = config.detector.target_recall, [(n, s) for n in folds for s in range(config.detector.seeds)]
    test = {n: run.rows(run.folds[n].test) for n in folds}
    labelled = {(n, s): labelled_rows(config, run, n, s) for n, s in runs}
    means = {n: np.array(run.maps(n).attributes["mean_delta_e"]) for n in folds}
    maps = {}
    for n, s in runs:
        known = labelled[n, s]
        threshold = choose_threshold(run.labels[known], means[n][known], recall)
        maps[n, s] = Scored(run.labels[test[n]], means[n][test[n]], threshold, is_probability=False)
    rows = [make_row("mean ΔE of the anomaly map", maps, ratio)]
    for name, describe in (
        ("colours of the image's border", border_histogram),
        ("colour histogram", colour_histogram),
    ):
        features = np.concatenate([describe(run.pixels[i : i + 64]) for i in range(0, len(run.pixels), 64)])
        scored = {}
        for n, s in runs:
            known = labelled[n, s]
            unseen = _predicted_unseen(
                linear_classifier(), features[known], run.labels[known], run.groups_of(known)
            )
            threshold = None if unseen is None else choose_threshold(run.labels[known], unseen, recall)
            fitted = linear_classifier().fit(features[known], run.labels[known])
            scored[n, s] = Scored(run.labels[test[n]], fitted.predict_proba(features[test[n]])[:, 1], threshold)
        rows.append(make_row(name, scored, ratio))
    return rows
