"""An experiment: a detector, resolved, on some folds of a run."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np

from leanet.config import DetectConfig, DetectorConfig
from leanet.experiment.open_run import Run
from leanet.experiment.run_folder import DetectorFolder, RunFolder
from leanet.results.rows import Key


@dataclass(frozen=True)
class Experiment:
    """A detector on some folds of a run, each trained with every seed.

    Attributes:
        run: the images, their folds and the anomaly maps.
        config: the options, resolved.
        folds: numbers of the folds, counted from 0.
    """

    run: Run
    config: DetectConfig
    folds: tuple[int, ...]

    @property
    def detector(self) -> DetectorConfig:
        """The detector's own options."""
        return self.config.detector

    @property
    def home(self) -> RunFolder:
        """The folder that the detectors lie in: the run's, or another after `detect --out`."""
        return RunFolder(self.config.home)

    @property
    def trainings(self) -> list[Key]:
        """Fold and seed of each training."""
        return [(fold, seed) for fold in self.folds for seed in range(self.detector.seeds)]

    @property
    def test_to_train(self) -> float:
        """Test images for each image of the training side, on average over the folds.

        All training images count, also those that --p-rate leaves out: without these, training sets overlap less.
        """
        sides = [self.run.folds[n] for n in self.folds]
        return float(np.mean([len(side.test) / len(side.train) for side in sides]))

    def folder(self, fold: int, seed: int = 0) -> DetectorFolder:
        """Folder of the detector that was trained on a fold with one of the seeds."""
        return self.home.fold(fold).detector(self.detector.name_with(seed))

    def beside_baseline(self) -> list[Experiment]:
        """The experiment and, if it is compared with its baseline, that of the baseline."""
        detectors = self.detector.beside_baseline(self.config.compare)
        return [dataclasses.replace(self, config=dataclasses.replace(self.config, detector=d)) for d in detectors]
