"""Estimate how long training takes on this machine, from a few timed steps of each network."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from leanet.config import CheckConfig, DetectorConfig, FitConfig, RunConfig, StudyConfig, parse_folds
from leanet.experiment.detector_task import build_detector, recipe_of
from leanet.experiment.open_run import read_dataset
from leanet.experiment.run_folder import RunFolder
from leanet.maps.source import build_map_source, find_map_source
from leanet.maps.sources import color
from leanet.networks.registry import build_colorizer
from leanet.training import colorization, detection
from leanet.training.compute import find_device, resolve
from leanet.training.loop import Engine, Loss
from leanet.training.prediction import predictor
from leanet.training.recipe import Recipe

_log = logging.getLogger(__name__)

TIMED_STEPS = 2
TIMED_MAPS = 8
BUSY = 0.6
"""Below this share of the processors' time, other programs use the machine."""

MOST_NAMED = 3
"""More detectors than this are summed up in one entry."""

Config = RunConfig | CheckConfig | StudyConfig | FitConfig


@dataclass(frozen=True)
class Estimate:
    """Seconds of each part; finished parts count 0.

    Attributes:
        idle_share: the share of this time without other programs on the machine, 1 at most.
    """

    colorizers: float
    maps: float
    detectors: dict[str, float]
    idle_share: float = 1.0

    @property
    def total(self) -> float:
        """Seconds in total."""
        return self.colorizers + self.maps + sum(self.detectors.values())


def estimate(config: Config, detectors: Iterable[tuple[DetectorConfig, RunFolder | None]]) -> Estimate:
    """Time a few steps, log the time of the remaining training, and return it; see `time_of`."""
    found = time_of(config, detectors)
    if found.total:
        _log.info(f"estimated time on this machine: {minutes(found.total)} ({', '.join(_parts(found))})")
        if found.idle_share < BUSY:
            idle = minutes(found.total * found.idle_share)
            _log.info(f"other programs are using this machine; without them: about {idle}")
    return found


def time_of(config: Config, detectors: Iterable[tuple[DetectorConfig, RunFolder | None]]) -> Estimate:
    """Time a few steps, and estimate the time of the remaining training.

    A stopped training counts in full.

    Args:
        detectors: each with its folder; None: nothing is trained yet.
    Raises:
        UserError: as `read_dataset`.
    """
    dataset = read_dataset(config.dataset, config.data, config.compute.seed)
    normals = len(dataset.of_class(0))
    train_share = 1 - 1 / config.data.n_splits
    folds = parse_folds(config.compute.folds, config.data.n_splits)
    run = None if isinstance(config, CheckConfig) else RunFolder(config.out)

    started = time.perf_counter(), time.process_time()
    without_maps = [n for n in folds if run is None or not run.fold(n).maps.exists()]
    colorizers = maps = 0.0
    if without_maps:
        an_image = _seconds_of_colorizer(config)
        colorizers = len(without_maps) * _colorizer_passes(config, round(normals * train_share)) * an_image
        maps = len(without_maps) * len(dataset.samples) * _seconds_of_a_map(config)

    seconds: dict[str, float] = {}
    steps: dict[str, float] = {}
    for d, home in detectors:
        trainings = [(n, d.name_with(seed)) for n in folds for seed in range(d.seeds)]
        to_do = [name for n, name in trainings if home is None or home.fold(n).detector(name).lacking()]
        if to_do:
            recipe = recipe_of(d, config.compute.recipe)
            if d.name not in steps:
                build = partial(build_detector, d, config.data.image_size)
                steps[d.name] = _seconds_an_image(config, build, detection.loss, recipe, _labelled_batch)
            labelled = normals + len(dataset.of_class(1)) * d.p_rate
            passes = recipe.image_passes_for(round(labelled * train_share))
            seconds[d.name] = seconds.get(d.name, 0) + len(to_do) * passes * steps[d.name]
    return Estimate(colorizers, maps, seconds, _idle_share(config, *started))


def _idle_share(config: Config, wall: float, cpu: float) -> float:
    """The share of the processors' time that this process had since then; on a GPU, 1."""
    if find_device(config.compute.device).type != "cpu":
        return 1.0
    passed, used = time.perf_counter() - wall, time.process_time() - cpu
    return min(1.0, used / torch.get_num_threads() / passed)


def _parts(found: Estimate) -> list[str]:
    """The time of each part, in words."""
    detectors = [f"{name} {minutes(seconds)}" for name, seconds in found.detectors.items()]
    if len(detectors) > MOST_NAMED:
        detectors = [f"{len(detectors)} different detectors {minutes(sum(found.detectors.values()))}"]
    colorizers = found.colorizers + found.maps
    return ([f"colorizers {minutes(colorizers)}"] if colorizers else []) + detectors


def _colorizer_passes(config: Config, normals: int) -> int:
    """Images that a fold's colorizers train on, times the epochs."""
    passes = partial(
        find_map_source(config.colorizer.map_source).image_passes, config.colorizer, config.compute.recipe
    )
    parts = config.colorizer.cross_fit
    inner = parts * passes(round(normals * (1 - 1 / parts))) if parts else 0
    return passes(normals) + inner


def _seconds_of_colorizer(config: Config) -> float:
    """Seconds per training image of the map source: of a training step, or of a map if no step is known."""
    if find_map_source(config.colorizer.map_source) is not color.ColorMap:
        return _seconds_of_a_map(config)
    build = partial(build_colorizer, config.colorizer.colorizer, config.data.image_size)
    recipe = color.recipe_of(config.colorizer, config.compute.recipe)
    return _seconds_an_image(config, build, colorization.loss, recipe, _lab_batch)


def _seconds_of_a_map(config: Config) -> float:
    """Seconds to map an image, always in float32."""
    side = config.data.image_size
    source = build_map_source(config.colorizer.map_source, side, config.colorizer)
    make = predictor(source, resolve(config.compute, 0).in_float32())
    images = torch.rand(TIMED_MAPS, 3, side, side)
    make(images)
    started = time.perf_counter()
    make(images).values.cpu()
    return (time.perf_counter() - started) / TIMED_MAPS


def _seconds_an_image(
    config: Config,
    build: Callable[[], nn.Module],
    loss: Loss,
    recipe: Recipe,
    make_batch: Callable[[int, int], tuple[Tensor, ...]],
) -> float:
    """Seconds per image of an eager training step; compilation is not counted."""
    engine = Engine(build, loss, resolve(config.compute, 0))
    optimizer = recipe.make_optimizer(engine.model.parameters())
    batch = [t.to(engine.compute.device) for t in make_batch(recipe.batch_size, config.data.image_size)]
    for timed in range(TIMED_STEPS + 1):
        if timed == 1:
            started = time.perf_counter()
        engine.accelerator.backward(engine.eager_loss(*batch)[0])
        optimizer.step()
        optimizer.zero_grad()
    return (time.perf_counter() - started) / TIMED_STEPS / recipe.batch_size


def _lab_batch(n: int, side: int) -> tuple[Tensor, ...]:
    return torch.rand(n, 1, side, side), torch.rand(n, 2, side, side)


def _labelled_batch(n: int, side: int) -> tuple[Tensor, ...]:
    images = torch.rand(n, 3, side, side).contiguous(memory_format=torch.channels_last)
    return images, torch.rand(n, 1, side, side), torch.arange(n) % 2


def minutes(seconds: float) -> str:
    """A time in words: seconds, or minutes from a minute and a half on."""
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"
