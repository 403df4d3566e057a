"""The task that computes a frozen ADN's pooled features of every image of a run, once."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from leanet.config import DetectConfig
from leanet.data.tensors import images_to_tensor
from leanet.errors import DamagedError
from leanet.experiment.open_run import Run
from leanet.experiment.run_folder import RunFolder
from leanet.experiment.tasks import Worker
from leanet.networks.contract import ADN
from leanet.networks.pooled_head import pooled_features
from leanet.networks.registry import build_leanet
from leanet.ranks import is_first
from leanet.reading import sha256_of
from leanet.training.checkpoint import made_from, read_safetensors, save_weights
from leanet.training.compute import find_device, resolve
from leanet.training.prediction import predictor
from leanet.training.processes import wait_for_all

BATCH = 1
"""Images at a time, each in four orientations: larger batches leave the processor's cache."""

FEATURES = "features"
"""Name of the tensor in the file."""


class _Pooling(nn.Module):
    """An ADN that gives its pooled features."""

    def __init__(self, adn: ADN) -> None:
        super().__init__()
        self.adn = adn

    def forward(self, images: Tensor) -> Tensor:
        return pooled_features(self.adn, images)


@dataclass(frozen=True)
class ComputeFeatures:
    """Compute the pooled features of a run's images by the ADN as it is before any training.

    Attributes:
        config: the detector's options, resolved; those that name the ADN and its weights count.
    """

    config: DetectConfig

    @property
    def key(self) -> str:
        return f"features of {self.config.detector.adn}"

    @property
    def needs(self) -> tuple[str, ...]:
        return ()

    @property
    def path(self) -> Path:
        """The file that is written."""
        return RunFolder(self.config.home).features(self.config.detector.adn.replace("/", "-"))

    def cost(self, worker: Worker) -> int:
        return len(worker.run_at(self.config.run).images)

    def done(self, worker: Worker) -> bool:
        """Whether the features are there, of these images by these weights."""
        try:
            return self.path.exists() and made_from(self.path) == self._fingerprint(worker.run_at(self.config.run))
        except DamagedError:
            return False

    def run(self, worker: Worker) -> None:
        run = worker.run_at(self.config.run)
        if is_first():
            describe, found = self.describer(run.side), []
            for start in range(0, len(run.images), BATCH):
                rows = np.arange(start, min(start + BATCH, len(run.images)))
                found.append(describe(images_to_tensor(run.pixels, rows)).cpu())
                worker.on_images(len(rows), self.key)
            holder = nn.Module()
            holder.register_buffer(FEATURES, torch.cat(found))
            save_weights(holder, self.path, self._fingerprint(run))
        wait_for_all(find_device(self.config.compute.device))

    def describer(self, side: int) -> Callable[[Tensor], Tensor]:
        """A function from images (N, 3, side, side) in [0, 1] to their pooled features (N, D), float32."""
        d = self.config.detector
        network = build_leanet(d.adn, None, (), side, weights=d.weights or "imagenet")
        return predictor(_Pooling(network.adn), resolve(self.config.compute, 0).in_float32())

    def read(self, run: Run) -> NDArray[np.float32]:
        """The features of all images of the run, float32 (N, D).

        Raises:
            DamagedError: the file is missing, damaged or of other images or weights.
        """
        if made_from(self.path) != self._fingerprint(run):
            raise DamagedError(self.path, "of other images or weights. Repeat `leanet detect` to make it again.")
        features: NDArray[np.float32] = read_safetensors(self.path)[1][FEATURES].numpy()
        return features

    def _fingerprint(self, run: Run) -> str:
        weights = self.config.detector.weights or ""
        of_file = sha256_of(Path(weights)) if Path(weights).is_file() else weights
        images = [image.sha256 for image in run.images]
        return hashlib.sha256(repr((images, run.side, self.config.detector.adn, of_file)).encode()).hexdigest()
