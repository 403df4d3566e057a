"""Estimate how long tasks take on this machine, from a few timed steps of each network."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from leanet.config import COLOR_MAP, ColorizeConfig, ComputeConfig, DetectConfig, parse_folds
from leanet.experiment.description_task import DescribeImages, descriptions_for
from leanet.experiment.detector_task import TrainDetector, build_detector
from leanet.experiment.feature_task import ComputeFeatures
from leanet.experiment.map_tasks import FitMap, MakeMaps
from leanet.experiment.open_run import Run
from leanet.experiment.tasks import Worker
from leanet.maps.registry import build_map_source, find_map_source
from leanet.maps.source import Normals
from leanet.maps.trained import TrainedMap, recipe_of
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

COLORIZERS, MAPS = "colorizers", "anomaly maps"
"""The part of an estimate that colorizers, or other map sources, and their maps take."""

Planned = DescribeImages | FitMap | MakeMaps | ComputeFeatures | TrainDetector


@dataclass(frozen=True)
class Estimate:
    """Seconds of each part.

    Attributes:
        parts: 'colorizers', or a detector's name -> seconds.
        idle_share: the share of this time without other programs on the machine, 1 at most.
    """

    parts: dict[str, float]
    idle_share: float = 1.0

    @property
    def total(self) -> float:
        """Seconds in total."""
        return sum(self.parts.values())


def unfinished(first: ColorizeConfig, detectors: Sequence[DetectConfig], run: Run) -> list[Planned]:
    """The tasks of both stages, less those whose output is there.

    A stopped training counts in full, and a damaged output as one that is there.
    """
    folds = parse_folds(first.compute.folds, len(run.folds))
    tasks: list[Planned] = []
    for made in (MakeMaps(first, n) for n in folds if not run.folder.fold(n).maps.exists()):
        tasks += [*made.sources, made]
    if tasks:
        tasks = [*(task for task in descriptions_for(first) if not task.path.exists()), *tasks]
    trainings = [TrainDetector(d, n, s) for d in detectors for n in folds for s in range(d.detector.seeds)]
    for each in (d for d in detectors if d.detector.has_frozen_adn):
        features = ComputeFeatures(each, tuple(folds))
        tasks += [features] if not all(path.exists() for path in features.paths) else []
    return tasks + [task for task in trainings if task.folder.lacking()]


def estimate(tasks: Sequence[Planned], *runs: Run) -> None:
    """Time a few steps, and log the time that the tasks take; see `time_of`."""
    found = time_of(tasks, *runs)
    if found.total:
        _log.info(f"estimated time on this machine: {minutes(found.total)} ({', '.join(_in_words(found))})")
        if found.idle_share < BUSY:
            idle = minutes(found.total * found.idle_share)
            _log.info(f"other programs are using this machine; without them: about {idle}")


def time_of(tasks: Sequence[Planned], *runs: Run) -> Estimate:
    """The sum of the tasks' costs, each times the seconds that an image takes here.

    Args:
        tasks: of one data set and side of the images.
        runs: the open runs that they work on.
    """
    started = time.perf_counter(), time.process_time()
    worker = Worker({run.folder.path: run for run in runs})
    speeds: dict[tuple[type[Planned], str], float] = {}
    parts: dict[str, float] = {}
    for task in tasks:
        part = _part_of(task)
        kind, cost = (type(task), part), task.cost(worker)
        if cost and kind not in speeds:
            speeds[kind] = _seconds_an_image(task, runs[0].side)
        parts[part] = parts.get(part, 0.0) + cost * speeds.get(kind, 0.0)
    return Estimate(parts, _idle_share(tasks[0].config.compute, *started) if tasks else 1.0)


def _part_of(task: Planned) -> str:
    if isinstance(task, TrainDetector | ComputeFeatures):
        return task.config.detector.name
    return COLORIZERS if task.config.colorizer.map_source == COLOR_MAP else MAPS


def _idle_share(compute: ComputeConfig, wall: float, cpu: float) -> float:
    """The share of the processors' time that this process had since then; on a GPU, 1."""
    if find_device(compute.device).type != "cpu":
        return 1.0
    passed, used = time.perf_counter() - wall, time.process_time() - cpu
    return min(1.0, used / torch.get_num_threads() / passed)


def _in_words(found: Estimate) -> list[str]:
    """The time of each part, in words; that of many detectors in one."""
    detectors = {name: seconds for name, seconds in found.parts.items() if name not in (COLORIZERS, MAPS)}
    if len(detectors) > MOST_NAMED:
        detectors = {f"{len(detectors)} different detectors": sum(detectors.values())}
    maps = {name: seconds for name, seconds in found.parts.items() if name in (COLORIZERS, MAPS)}
    return [f"{name} {minutes(seconds)}" for name, seconds in (maps | detectors).items()]


def _seconds_an_image(task: Planned, side: int) -> float:
    """Seconds per image of a task: of a training step, or of a map or features if no step is known."""
    compute = task.config.compute
    if isinstance(task, ComputeFeatures | DescribeImages):
        return _seconds_of_features(task, side)
    if isinstance(task, TrainDetector):
        build = partial(build_detector, task.config.detector, side)
        return _seconds_of_a_step(compute, build, detection.loss, task.recipe, _labelled_batch(task.recipe, side))
    options = task.config.colorizer
    kinds = [find_map_source(name) for name in options.maps]
    trained = [kind for kind in kinds if issubclass(kind, TrainedMap)]
    if isinstance(task, MakeMaps) or not trained:
        return _seconds_of_a_map(task.config, side)
    return sum(_seconds_of_training(kind, task.config, side) for kind in trained) / len(trained)


def _seconds_of_training(kind: type[TrainedMap], config: ColorizeConfig, side: int) -> float:
    """Seconds per image of training a map source."""
    options, recipe = config.colorizer, recipe_of(config.colorizer, config.compute.recipe)
    n = recipe.batch_size
    normals = Normals(np.random.default_rng(0).integers(0, 256, (n, side, side, 3), np.uint8), np.arange(n))
    batch = kind.data(normals, recipe, compiled=False).batch(range(n), torch.Generator().manual_seed(0))
    return _seconds_of_a_step(config.compute, partial(kind.build, side, options), colorization.loss, recipe, batch)


def _seconds_of_features(task: ComputeFeatures | DescribeImages, side: int) -> float:
    """Seconds to compute what describes an image to a head or a map source."""
    describe, inputs = task.describer(side), [torch.rand(1, 3, side, side)]
    inputs += (
        [torch.rand(1, len(task.guided), side, side)] if isinstance(task, ComputeFeatures) and task.guided else []
    )
    describe(*inputs)
    started = time.perf_counter()
    describe(*inputs)
    return time.perf_counter() - started


def _seconds_of_a_map(config: ColorizeConfig, side: int) -> float:
    """Seconds to map a described image, always in float32."""
    source = build_map_source(config.colorizer.map_source, side, config.colorizer).eval()
    make = predictor(source, resolve(config.compute, 0).in_float32(), "compare")
    with torch.inference_mode():
        described = source.describe(torch.rand(TIMED_MAPS, 3, side, side))
    make(described)
    started = time.perf_counter()
    make(described).values.cpu()
    return (time.perf_counter() - started) / TIMED_MAPS


def _seconds_of_a_step(
    compute: ComputeConfig, build: Callable[[], nn.Module], loss: Loss, recipe: Recipe, batch: tuple[Tensor, ...]
) -> float:
    """Seconds per image of an eager training step; compilation is not counted."""
    engine = Engine(build, loss, resolve(compute, 0))
    optimizer = recipe.make_optimizer(engine.model.parameters())
    batch = tuple(t.to(engine.compute.device) for t in batch)
    for timed in range(TIMED_STEPS + 1):
        if timed == 1:
            started = time.perf_counter()
        engine.accelerator.backward(engine.eager_loss(*batch)[0])
        optimizer.step()
        optimizer.zero_grad()
    return (time.perf_counter() - started) / TIMED_STEPS / recipe.batch_size


def _labelled_batch(recipe: Recipe, side: int) -> tuple[Tensor, ...]:
    n = recipe.batch_size
    images = torch.rand(n, 3, side, side).contiguous(memory_format=torch.channels_last)
    return images, torch.rand(n, 1, side, side), torch.arange(n) % 2


def minutes(seconds: float) -> str:
    """A time in words: seconds, or minutes from a minute and a half on."""
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"
