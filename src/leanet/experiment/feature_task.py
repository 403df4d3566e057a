"""The task that computes what describes a run's images to a head on a frozen ADN, in one pass over the images."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from leanet.color.constancy import white_balance
from leanet.color.light import random_light, relit
from leanet.config import DataConfig, DetectConfig
from leanet.data.tensors import images_to_tensor
from leanet.errors import DamagedError
from leanet.experiment.map_reader import ReadMaps, map_reader, map_scale
from leanet.experiment.open_run import Run
from leanet.experiment.run_folder import RunFolder
from leanet.experiment.tasks import Worker
from leanet.networks.contract import ADN
from leanet.networks.pooled_head import (
    ATTENTION,
    FEATURES,
    MAP,
    attended_features,
    map_statistics,
    mirrored_blocks,
    pooled_features,
)
from leanet.networks.registry import build_leanet
from leanet.ranks import is_first
from leanet.reading import sha256_of
from leanet.training.checkpoint import made_from, read_safetensors, save_weights
from leanet.training.compute import find_device, resolve
from leanet.training.prediction import in_single_threads, predictor
from leanet.training.processes import wait_for_all

RELIT, COPIES = 48, 2
"""Normal images, at most half of them, and copies of each in other light, which show a head what to ignore."""

RELIT_KEY = "relit_"
"""What the names of their tensors begin with."""

Described = dict[str, Tensor]
"""Part -> what describes some images, (N, D); with maps of F folds, (F, N, D) of 'attention' and 'anomaly map'."""


class _Described(nn.Module):
    """An ADN that gives the parts which a head reads."""

    def __init__(self, adn: ADN) -> None:
        super().__init__()
        self.adn = adn

    def forward(self, images: Tensor, maps: Tensor | None = None) -> Described:
        blocks = mirrored_blocks(self.adn, images)
        found = {FEATURES: pooled_features(blocks)}
        if maps is None:
            return found
        of_folds = torch.split(maps, 1, 1)
        attended = torch.stack([attended_features(blocks, of_fold) for of_fold in of_folds])
        return found | {ATTENTION: attended, MAP: torch.stack([map_statistics(of_fold) for of_fold in of_folds])}


@dataclass(frozen=True)
class ComputeFeatures:
    """Compute the parts that a head reads of a run's images, by the ADN as it is before any training.

    They lie beside the maps, for the detectors of every folder that are made of these.

    Attributes:
        config: the detector's options, resolved; those that name the ADN, its weights and the scale of maps count.
        folds: those whose anomaly maps guide attention, if the detector has it.
        others: tasks on other runs of the same images, which are done in the same pass.
    """

    config: DetectConfig
    folds: tuple[int, ...]
    others: tuple[ComputeFeatures, ...] = ()

    @property
    def key(self) -> str:
        return f"features of {self.config.detector.adn}"

    @property
    def needs(self) -> tuple[str, ...]:
        return tuple(f"fold {number}: maps" for number in self.guided)

    @property
    def guided(self) -> tuple[int, ...]:
        """The folds whose maps are needed."""
        return self.folds if self.config.detector.has_attention else ()

    @property
    def path(self) -> Path:
        """The file of the features; `path_of` has those of a fold."""
        return RunFolder(self.config.run).features(self._name)

    def path_of(self, fold: int) -> Path:
        """The file of attention and map statistics by a fold's maps."""
        return RunFolder(self.config.run).fold(fold).attention(self._name)

    @property
    def _name(self) -> str:
        weights = Path(self.config.detector.weights or "")
        own = f"-{sha256_of(weights)[:8]}" if weights.is_file() else ""
        return self.config.detector.adn.replace("/", "-") + own

    @property
    def paths(self) -> tuple[Path, ...]:
        """All files that are written."""
        return (self.path, *map(self.path_of, self.guided))

    def cost(self, worker: Worker) -> int:
        run = worker.run_at(self.config.run)
        return len(run.images) + COPIES * len(relit_rows(run))

    def done(self, worker: Worker) -> bool:
        """Whether all parts are there, of these images and maps by these weights."""
        return self._is_made(self.path, worker.run_at(self.config.run)) and not self._lacking(worker)

    def _lacking(self, worker: Worker) -> list[tuple[ComputeFeatures, Run, int]]:
        """The tasks, runs and folds whose attention is to be computed."""
        each = [
            (task, worker.run_at(task.config.run), fold) for task in (self, *self.others) for fold in task.guided
        ]
        return [(task, run, fold) for task, run, fold in each if not task._is_made(task.path_of(fold), run, fold)]

    def _is_made(self, path: Path, run: Run, fold: int | None = None) -> bool:
        try:
            return path.exists() and made_from(path) == self._fingerprints(run, fold)[0]
        except DamagedError:
            return False

    def run(self, worker: Worker) -> None:
        run = worker.run_at(self.config.run)
        if is_first():
            lacking = self._lacking(worker)
            readers = [
                map_reader(other.maps(fold, unpack=False), map_scale(task.config)) for task, other, fold in lacking
            ]
            found = self._describe(worker, run, readers)
            if not self._is_made(self.path, run):
                _save({FEATURES: found[FEATURES]}, len(run.images), self.path, self._fingerprints(run)[0])
            for i, (task, other, fold) in enumerate(lacking):
                of_fold = {name: found[name][i] for name in (ATTENTION, MAP)}
                _save(of_fold, len(run.images), task.path_of(fold), task._fingerprints(other, fold)[0])
        wait_for_all(find_device(self.config.compute.device))

    def is_of_earlier_version(self, run: Run) -> bool:
        """Whether the features are there, but made by a version without copies in other light."""
        try:
            return self.path.exists() and made_from(self.path) == self._fingerprints(run)[1]
        except DamagedError:
            return False

    def _describe(self, worker: Worker, run: Run, readers: Sequence[ReadMaps]) -> Described:
        """The parts of all images and then, with the same maps, of the copies in other light."""
        describe, some = self.describer(run.side), []
        copies = [(int(row), seed) for seed, row in enumerate(np.repeat(relit_rows(run), COPIES))]
        balance = run.folder.read_config().get("white_balance", DataConfig.white_balance)

        def described(which: tuple[int, int | None]) -> Described:
            row, seed = np.array(which[:1]), which[1]
            maps = [torch.cat([read(row) for read in readers], 1)] if readers else []
            image = images_to_tensor(run.pixels, row)
            if seed is not None:
                image = white_balance(relit(image, *random_light(seed)), balance)
            found: Described = describe(image, *maps)
            return found

        # One image at a time, in four orientations: larger batches leave the processor's cache.
        each = [*((row, None) for row in range(len(run.images))), *copies]
        for found in in_single_threads(described, each, find_device(self.config.compute.device)):
            some.append(found)
            worker.on_images(1, self.key)
        return {name: torch.cat([one[name].cpu() for one in some], -2) for name in some[0]}

    def describer(self, side: int) -> Callable[..., Described]:
        """A function from images (N, 3, side, side) in [0, 1], and maps (N, folds, side, side), to their parts."""
        d = self.config.detector
        network = build_leanet(d.adn, None, (), side, weights=d.weights or "imagenet")
        return predictor(_Described(network.adn), resolve(self.config.compute, 0).in_float32())

    def read(self, run: Run, fold: int) -> dict[str, NDArray[np.float32]]:
        """The parts of all images of the run, each float32 (N, D), in the order in which a head reads them.

        Raises:
            DamagedError: a file is missing, damaged or of other images, maps or weights.
        """
        there = replace(self, config=replace(self.config, run=run.folder.path))  # of a report, it is the detectors'
        found = there._read(there.path, run, None)
        return found | there._read(there.path_of(fold), run, fold) if self.guided else found

    def read_changes(self, run: Run, fold: int) -> dict[str, NDArray[np.float32]]:
        """What other light changes in the parts of the fold's normal training images, each float32 (M, D).

        Raises:
            DamagedError: as `read`.
        """
        rows = np.repeat(relit_rows(run), COPIES)
        known = np.isin(rows, run.rows(run.folds[fold].train))
        parts = self.read(run, fold)
        relit_parts = self._read(self.path, run, None, RELIT_KEY)
        if self.guided:
            relit_parts |= self._read(self.path_of(fold), run, fold, RELIT_KEY)
        return {name: (values - parts[name][rows])[known] for name, values in relit_parts.items()}

    def _read(self, path: Path, run: Run, fold: int | None, of: str = "") -> dict[str, NDArray[np.float32]]:
        """The parts of all images in a file or, with RELIT_KEY, of the copies in other light."""
        if made_from(path) not in self._fingerprints(run, fold):
            raise DamagedError(path, "of other images or weights. Repeat `leanet detect` to make it again.")
        tensors = read_safetensors(path)[1]
        keys = {name: of + _key(name) for name in (FEATURES, ATTENTION, MAP)}
        return {name: tensors[key].numpy() for name, key in keys.items() if key in tensors}

    def _fingerprints(self, run: Run, fold: int | None = None) -> tuple[str, str]:
        """What the file of these images, maps and weights is marked with, now and by earlier versions.

        Earlier versions had no copies in other light.
        """
        weights = self.config.detector.weights or ""
        of_file = sha256_of(Path(weights)) if Path(weights).is_file() else weights
        images = [image.sha256 for image in run.images]
        made: tuple[object, ...] = (images, run.side, self.config.detector.adn, of_file)
        if fold is not None:
            made = (*made, run.maps(fold, unpack=False).identity, map_scale(self.config))
        now, earlier = (hashlib.sha256(repr(each).encode()).hexdigest() for each in ((*made, RELIT, COPIES), made))
        return now, earlier


def relit_rows(run: Run) -> NDArray[np.int64]:
    """Rows of the normal images that are described in other light too, at even steps."""
    normal = np.flatnonzero(run.labels == 0)
    return normal[np.linspace(0, len(normal) - 1, min(RELIT, -(-len(normal) // 2))).astype(np.int64)]


def _save(parts: Described, images: int, path: Path, made_of: str) -> None:
    """Write parts of so many images, and then of copies in other light."""
    holder = nn.Module()
    for name, values in parts.items():
        holder.register_buffer(_key(name), values[:images].contiguous())
        holder.register_buffer(RELIT_KEY + _key(name), values[images:].contiguous())
    save_weights(holder, path, made_of)


def _key(part: str) -> str:
    """The name of a part's tensor."""
    return part.replace(" ", "_")
