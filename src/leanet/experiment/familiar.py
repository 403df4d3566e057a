"""What a fitted model knows of the images it was trained on: how far others are from these."""

from __future__ import annotations

import logging

import numpy as np
import torch

from leanet.experiment.detector_task import TrainDetector
from leanet.experiment.experiment import Experiment
from leanet.model.card import PERCENTILES
from leanet.model.known import Known
from leanet.networks.leanet import LEANet
from leanet.networks.pooled_head import FEATURES
from leanet.training.familiarity import farthest_of_classes, fit_familiarity

_log = logging.getLogger(__name__)


def add_familiarity(network: LEANet, trained: Experiment) -> tuple[tuple[float, ...] | None, Known | None]:
    """Give a head the distance from its training images, all labeled images of the first fold.

    Returns:
        Percentiles of the distances of images that a fit had not seen, for the card, and what the model keeps of
        its images; both None without a head, or with too few images.
    """
    if network.head is None:
        return None, None
    run, task = trained.run, TrainDetector(trained.config, trained.folds[0], 0)
    rows = task.images(run).train
    features = task.features.read(run, trained.folds[0])[FEATURES][rows]
    seed = trained.config.compute.seed
    fitted = fit_familiarity(features, network.head.channels, run.labels[rows], run.groups_of(rows), seed)
    if fitted is None:
        _log.info("note: too few images or groups to tell unfamiliar pictures")
        return None, None
    distance, unseen = fitted
    values = (torch.from_numpy(each) for each in (distance.scale, distance.shift, distance.weight))
    familiarity = network.head.add_familiarity()
    familiarity.set(*values)
    percentiles = farthest_of_classes(unseen, run.labels[rows], np.linspace(0, 100, PERCENTILES))
    with torch.inference_mode():
        components = familiarity(torch.from_numpy(features))[1].numpy()
    known = Known([image.sha256 for image in run.images], components)
    return tuple(round(float(value), 5) for value in percentiles), known
