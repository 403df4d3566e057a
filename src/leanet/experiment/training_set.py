"""The images of a fold that a detector trains on, and those held out to choose its epoch and threshold."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from leanet.config import DetectConfig, parse_folds
from leanet.data.splits import inner_parts, keep_share_of_positives
from leanet.experiment.open_run import Run
from leanet.results.metrics import FEWEST_POSITIVES
from leanet.training.detection import RECIPES
from leanet.training.head import refuse_too_few


@dataclass(frozen=True)
class TrainingSet:
    """A fold's labeled images as rows: those to train on, and those held out (possibly none, or the same)."""

    train: NDArray[np.int64]
    validation: NDArray[np.int64]

    @property
    def labelled(self) -> NDArray[np.int64]:
        """Both together, in order."""
        return np.union1d(self.train, self.validation)


def validation_share(config: DetectConfig) -> float:
    """Share of the training images that is held out, by the option or else by the recipe."""
    asked = config.detector.validation
    return RECIPES[config.compute.recipe].validation if asked is None else asked


def labelled_rows(config: DetectConfig, run: Run, number: int, seed: int) -> NDArray[np.int64]:
    """Rows of a fold's training images, with the share of anomalies that --p-rate keeps.

    Args:
        seed: which of the --seeds, from 0: with each, other anomalies are kept.
    """
    files = run.folds[number].train
    labels = run.labels[run.rows(files)].tolist()
    return run.rows(keep_share_of_positives(files, labels, config.detector.p_rate, config.compute.seed + seed))


def refuse_too_few_labelled(config: DetectConfig, run: Run) -> None:
    """Raise UserError if --p-rate keeps no anomaly of a fold, or too few for a head, before any training."""
    for number in parse_folds(config.compute.folds, len(run.folds)):
        labels = run.labels[labelled_rows(config, run, number, 0)]
        if config.detector.has_frozen_adn:
            refuse_too_few(labels)


def all_labelled(config: DetectConfig, run: Run, number: int, seed: int) -> TrainingSet:
    """Train on every labeled image; each is also predicted by a fit without it and its group."""
    rows = labelled_rows(config, run, number, seed)
    return TrainingSet(rows, rows)


def divide(config: DetectConfig, run: Run, number: int, seed: int) -> TrainingSet:
    """Hold out an inner validation, stratified, in whole groups.

    Holds out nothing if one of the sides would have too few anomalies to choose by. A share that the option sets is
    held out as long as both sides have both classes.
    """
    rows, share = labelled_rows(config, run, number, seed), validation_share(config)
    nothing = TrainingSet(rows, rows[:0])
    if not share:
        return nothing
    labels, groups = run.labels[rows], run.groups_of(rows)
    most = min(20, len(set(groups)), int(np.bincount(labels).max()) // 2)
    if most < 2:
        return nothing
    kept = max(Fraction(share).limit_denominator(most), Fraction(1, most))  # 0.3: three parts of ten
    n = kept.denominator
    fewest = FEWEST_POSITIVES if config.detector.validation is None else 1
    if labels.sum() * kept < fewest:
        return nothing
    held = inner_parts(labels.tolist(), groups, n, config.compute.seed + seed) < kept.numerator
    for part in (held, ~held):
        if labels[part].sum() < fewest or labels[part].all():
            return nothing
    return TrainingSet(rows[~held], rows[held])
