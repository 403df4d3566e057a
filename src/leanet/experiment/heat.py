"""What a model shows over an image: chosen by the anomalies that stand out from unseen normal images."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from leanet.data.tensors import images_to_tensor
from leanet.experiment.detector_task import build_detector
from leanet.experiment.experiment import Experiment
from leanet.experiment.map_reader import map_reader, map_scale
from leanet.experiment.open_run import Run
from leanet.maps.store import Maps as StoredMaps
from leanet.model.card import Heat, Scales
from leanet.model.heat import heat_map
from leanet.model.where import ceilings, strength
from leanet.networks.folding import fold_batch_norm
from leanet.training.checkpoint import load_weights
from leanet.training.prediction import in_single_threads

MOST = 100
"""Images of each sort to look at: training normals, unseen normals, unseen anomalies."""

FEWEST = 4
"""Unseen anomalies to choose by; with fewer, the anomaly map is shown."""

KINDS: tuple[Heat, ...] = ("map", "evidence", "both")

Peaks = tuple[tuple[float, ...], ...]

Maps = Sequence[NDArray[np.float32]]
"""Maps (S, S), one an image."""


@dataclass(frozen=True)
class ChosenHeat:
    """Fields of a card: what is shown, how it is scaled, and its peaks in normal images."""

    heat: Heat
    heat_scales: Scales | None
    normals_peaks: Peaks | None


@torch.inference_mode()
def heat_maps(trained: Experiment, fold: int, rows: NDArray[np.int64]) -> dict[Heat, NDArray[np.float32]]:
    """Every kind of heat map of a head for these rows' images, each (N, S, S), scaled by the training normals."""
    read = _reader(trained, fold)
    found, scales = read(rows), _scales(*read(_some(_rows(trained.run, fold)[0])))
    return {kind: np.stack(_shown(kind, scales, *found)) for kind in KINDS}


@torch.inference_mode()
def choose_heat(trained: Experiment) -> ChosenHeat:
    """The heat map above whose ceilings the most unseen anomalies are; without a head, the anomaly map.

    Args:
        trained: a detector on one fold, whose test images are the unseen ones.
    """
    run = trained.run
    training, normals, anomalies = _rows(run, 0)
    if not trained.detector.has_frozen_adn or not len(normals) or len(anomalies) < FEWEST:
        return ChosenHeat("map", None, peaks_of_maps(run))
    read = _reader(trained, trained.folds[0])
    found = [read(_some(rows)) for rows in (training, normals, anomalies)]
    scales = _scales(*found[1])
    choices: dict[Heat, tuple[NDArray[np.float64], int]] = {}
    for kind in KINDS:
        maps = [_shown(kind, scales, *of_sort) for of_sort in found]
        limits = ceilings(maps[0], maps[1])
        choices[kind] = limits, sum(bool((strength(one, limits.tolist()) > 1).any()) for one in maps[2])
    best = max(KINDS, key=lambda kind: choices[kind][1])  # of equals the first
    return ChosenHeat(best, None if best == "map" else scales, _rounded(choices[best][0]))


@torch.inference_mode()
def for_another_head(chosen: ChosenHeat, trained: Experiment, final: Experiment) -> ChosenHeat:
    """The same choice for a head that was fitted to more images, whose evidence has another scale.

    Its evidence on training normals is scaled to the same mean and standard deviation as that of the head by which
    the choice was made.

    Args:
        trained, final: the detectors on the first fold of their runs.
    """
    if chosen.heat_scales is None:
        return chosen
    (mean, spread), of_map = chosen.heat_scales
    before, now = (_reader(e, 0)(_some(_rows(e.run, 0)[0]))[1] for e in (trained, final))
    new_spread = spread * float(now.std() / before.std())
    new_mean = float(now.mean()) - (float(before.mean()) - mean) / spread * new_spread
    return replace(chosen, heat_scales=((new_mean, new_spread), of_map))


def peaks_of_maps(run: Run) -> Peaks | None:
    """The ceilings of normal anomaly maps; None if groups left the fold no normal test image."""
    training, held_out, _ = _rows(run, 0)
    if not len(training) or not len(held_out):
        return None
    maps = run.maps(0, unpack=False)
    return _rounded(ceilings(_one_by_one(maps, training), _one_by_one(maps, held_out)))


def _one_by_one(maps: StoredMaps, rows: NDArray[np.int64]) -> Iterator[NDArray[np.float32]]:
    return (maps.delta_e(row)[0] for row in rows[:, None])


def _some(rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """At most MOST of the rows, at even steps."""
    return rows[:: -(-len(rows) // MOST)]


def _rows(run: Run, number: int) -> list[NDArray[np.int64]]:
    """Rows of a fold's training normals, its unseen normals and its unseen anomalies."""
    fold = run.folds[number]
    train, test = run.rows(fold.train), run.rows(fold.test)
    return [train[run.labels[train] == 0], test[run.labels[test] == 0], test[run.labels[test] == 1]]


def _reader(trained: Experiment, fold: int) -> Callable[[NDArray[np.int64]], tuple[Tensor, Tensor]]:
    """A function from rows to anomaly maps (N, 1, S, S) and evidence (N, 1, h, w), both of a fold."""
    run = trained.run
    network = build_detector(trained.detector, run.side)
    load_weights(network, trained.folder(fold).weights)
    network = fold_batch_norm(network)
    head = network.head
    assert head is not None, "a frozen ADN has one"
    maps = run.maps(fold, unpack=False)
    scaled = map_reader(maps, map_scale(trained.config))

    @torch.inference_mode()  # of each thread
    def evidence(row: NDArray[np.int64]) -> Tensor:
        return head.evidence(network.adn, images_to_tensor(run.pixels, row), scaled(row))

    def read(rows: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        each = list(in_single_threads(evidence, list(rows[:, None]), torch.device("cpu")))
        return torch.from_numpy(maps.delta_e(rows))[:, None], torch.cat(each)

    return read


def _scales(anomaly_maps: Tensor, evidence: Tensor) -> Scales:
    """Mean and standard deviation of both over unseen normal images' pixels."""
    (m, s), (map_m, map_s) = ((float(x.mean()), max(float(x.std()), 1e-6)) for x in (evidence, anomaly_maps))
    return (m, s), (map_m, map_s)


def _shown(kind: Heat, scales: Scales, anomaly_maps: Tensor, evidence: Tensor) -> Maps:
    return list(heat_map(kind, scales, anomaly_maps, evidence)[:, 0].numpy())


def _rounded(limits: NDArray[np.float64]) -> Peaks:
    return tuple(tuple(round(float(value), 3) for value in row) for row in limits)
