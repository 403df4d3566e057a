"""The results table: the detectors' rows, and those of simpler scorers on the same folds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from leanet.config import DetectorConfig
from leanet.errors import UserError
from leanet.experiment.experiment import Experiment
from leanet.experiment.open_run import Run
from leanet.experiment.predictions import Predictions, of_pictures, read_predictions
from leanet.experiment.run_folder import DetectorFolder
from leanet.experiment.simple_rows import FEWEST, simple_rows
from leanet.networks.pooled_head import ATTENTION, MAP
from leanet.results.baselines import linear_classifier, logit_of, mean_of_logits, predicted_unseen
from leanet.results.metrics import FEWEST_POSITIVES, Scored, choose_threshold
from leanet.results.rows import Key, Row, cell, make_row
from leanet.training.head import PARTS

MEAN_OF_BOTH = "mean of ADN and CAAN"
"""The row's name, after the detector's."""


@dataclass(frozen=True)
class Table:
    """Rows of results, the detector's own first, and notes on them."""

    rows: tuple[Row, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Outcome:
    """Predictions of one detector, trained with one seed, for a fold's test images and inner validation.

    Attributes:
        test, validation: predictions; `validation` is None if nothing was held out.
        test_map, validation_map: (N,), mean ΔE of the same images' anomaly maps.
    """

    test: Predictions
    test_map: NDArray[np.float64]
    validation: Predictions | None
    validation_map: NDArray[np.float64] | None


def table(experiment: Experiment) -> Table:
    """Rows over the experiment's folds: LEA-Net, its CAAN, both with the map, the plain ADN, and simpler scorers.

    Raises:
        UserError: predictions missing, or of other images than the fold's.
    """
    found = [detector_rows(each) for each in experiment.beside_baseline()]
    rows = [row for each in found for row in each.rows]
    return Table((*rows, *simple_rows(experiment)), tuple(note for each in found for note in each.notes))


def outcome(run: Run, folder: DetectorFolder, number: int) -> Outcome:
    """Read the predictions in a detector's folder.

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


def outcomes_of(experiment: Experiment) -> dict[Key, Outcome]:
    """The outcome of each training."""
    return {(n, s): outcome(experiment.run, experiment.folder(n, s), n) for n, s in experiment.trainings}


def detector_rows(experiment: Experiment) -> Table:
    """A detector's own rows: its ADN's first, its CAAN's, their mean, and both with the map if that is better."""
    detector, ratio, outcomes = experiment.detector, experiment.test_to_train, outcomes_of(experiment)
    title = detector.title
    adn = {k: adn_scored(o, detector) for k, o in outcomes.items()}
    rows = [make_row(f"{title}: ADN", adn, ratio)]
    notes: list[str] = []
    fewest = FEWEST if detector.has_frozen_adn else FEWEST_POSITIVES
    if unchosen := unchosen_note([s.threshold for s in adn.values()], fewest):
        notes.append(f"{title}: {unchosen}")
    if detector.has_frozen_adn and detector.has_attention:
        notes.append(_parts_note(experiment))
    if experiment.run.has_tiles:
        notes.append(_pictures_note(outcomes, detector, ratio))
    if detector.has_frozen_adn or not detector.has_attention:
        return Table(tuple(rows), tuple(notes))
    with_caan = all(o.test.caan is not None for o in outcomes.values())
    if with_caan:
        caan = {k: scored(o, _caan_of, detector) for k, o in outcomes.items()}
        rows.append(make_row(f"{title}: CAAN", caan, ratio))
        both = {k: scored(o, mean_of_both, detector) for k, o in outcomes.items()}
        rows.append(make_row(f"{title}: {MEAN_OF_BOTH}", both, ratio))
    combined = {k: s for k, o in outcomes.items() if (s := together(experiment.run, o, detector)) is not None}
    members = "ADN, CAAN and map" if with_caan else "ADN and map"
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


def _parts_note(experiment: Experiment) -> str:
    """In how many trainings attention and the map's statistics were part of a head."""
    found = [experiment.folder(n, s).read_metrics().get("parts", ()) for n, s in experiment.trainings]
    misled = sum(ATTENTION not in parts for parts in found)
    return (
        f"{experiment.detector.title}: the map's mean, maximum and root mean square improved the ranks of unseen "
        f"training images, and are part of the answer, in {sum(MAP in parts for parts in found)} of {len(found)} "
        "trainings"
    ) + (
        f"; in {misled}, the map ranked anomalous training images below normal ones, and is left out" * bool(misled)
    )


def _pictures_note(outcomes: Mapping[Key, Outcome], detector: DetectorConfig, ratio: float) -> str:
    """What the answers for tiles make of whole pictures."""
    row = make_row("pictures", {k: scored_as_pictures(o, detector) for k, o in outcomes.items()}, ratio)
    f1 = "f1_chosen" if row.has_chosen else "f1"
    limit = "thresholds chosen for pictures" if row.has_chosen else "0.5"
    return (
        f"{detector.title}: rows are of tiles. As pictures, each by its highest tile: AUROC {cell(row, 'auroc')}, "
        f"F1 {cell(row, f1)} at {limit}"
    )


def unchosen_note(thresholds: Sequence[float | None], fewest: int = FEWEST_POSITIVES) -> str:
    """A note on the trainings without a chosen threshold (None), with the reason; empty if all have one."""
    if not (without := thresholds.count(None)):
        return ""
    return (
        f"the threshold stayed 0.5 in {without} of {len(thresholds)} trainings: "
        f"no inner validation, or fewer than {fewest} anomalous images in it"
    )


def held_out_row(experiment: Experiment) -> Row | None:
    """The ADN's row on the images of its inner validations; None if a training held none out.

    Its intervals allow for overlapping training sets, by the ratio of held-out to training images.
    """
    scored, ratios = {}, []
    for (n, s), found in outcomes_of(experiment).items():
        if (held := found.validation) is None:
            return None
        scored[n, s] = Scored(held.labels, held.adn)
        labelled = experiment.folder(n, s).read_metrics()["train"]["images"]
        frozen = experiment.detector.has_frozen_adn  # each image was held out once, of PARTS parts
        ratios.append(1 / (PARTS - 1) if frozen else len(held.labels) / (labelled - len(held.labels)))
    return make_row(f"{experiment.detector.name}: held out", scored, float(np.mean(ratios)))


def scores_of(experiment: Experiment) -> dict[Key, Scored]:
    """The ADN's probabilities of each fold's test images, with each seed."""
    return {key: adn_scored(found, experiment.detector) for key, found in outcomes_of(experiment).items()}


def adn_scored(found: Outcome, detector: DetectorConfig) -> Scored:
    """The ADN's probabilities of the test images, with the threshold that the inner validation chose."""
    return scored(found, lambda p: p.adn, detector)


def scored(found: Outcome, read: Callable[[Predictions], NDArray[np.float64]], detector: DetectorConfig) -> Scored:
    """One kind of probability of the test images, with the threshold that the inner validation chose for it.

    Args:
        read: the probabilities (N,) out of a file of predictions.
        detector: by what its threshold is chosen, and the share of anomalies that it was left.
    """
    v = found.validation
    threshold = None
    if v is not None:
        frozen = detector.has_frozen_adn
        fewest = FEWEST if frozen else FEWEST_POSITIVES
        threshold = choose_threshold(
            v.labels, read(v), detector.target_recall, detector.p_rate, fewest, calibrated=frozen
        )
    return Scored(found.test.labels, read(found.test), threshold)


def scored_as_pictures(found: Outcome, detector: DetectorConfig) -> Scored:
    """As `adn_scored` for a run on tiles, of the pictures that the test images are tiles of, as they are predicted.

    The threshold is chosen for pictures too: with many tiles, a normal picture has a higher highest one.
    """
    v = None if found.validation is None else of_pictures(found.validation)
    fewest = FEWEST if detector.has_frozen_adn else FEWEST_POSITIVES
    threshold = None
    if v is not None:
        threshold = choose_threshold(v.labels, v.adn, detector.target_recall, detector.p_rate, fewest)
    test = of_pictures(found.test)
    return Scored(test.labels, test.adn, threshold)


def mean_of_both(p: Predictions) -> NDArray[np.float64]:
    """The mean of the ADN's and the CAAN's logits, as probabilities; it needs no fit."""
    return mean_of_logits(p.adn, _caan_of(p))


def _caan_of(p: Predictions) -> NDArray[np.float64]:
    return p.adn if p.caan is None else p.caan


def together(run: Run, found: Outcome, detector: DetectorConfig) -> Scored | None:
    """A logistic regression on both networks' logits and the map's mean; None unless it ranks validation better.

    It is fitted on the inner validation, and compared there by cross-validation in whole groups.
    """
    v = found.validation
    if v is None or found.validation_map is None or v.labels.sum() < FEWEST_POSITIVES:
        return None
    features, test = _features(v, found.validation_map), _features(found.test, found.test_map)
    classifier = linear_classifier(v.labels)
    unseen = predicted_unseen(classifier, features, v.labels, run.groups_of(run.rows(v.files)))
    if unseen is None or roc_auc_score(v.labels, unseen) <= roc_auc_score(v.labels, v.adn):
        return None
    classifier.fit(features, v.labels)
    threshold = choose_threshold(v.labels, unseen, detector.target_recall, detector.p_rate)
    return Scored(found.test.labels, classifier.predict_proba(test)[:, 1], threshold)


def _features(p: Predictions, mean_delta_e: NDArray[np.float64]) -> NDArray[np.float64]:
    """Logits of ADN and CAAN, and the logarithm of mean ΔE: (N, 3)."""
    return np.column_stack([logit_of(p.adn), logit_of(_caan_of(p)), np.log(mean_delta_e + 1e-3)])
