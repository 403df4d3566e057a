"""How long a run will take on this machine: a few steps of each training are timed, and multiplied."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from leanet.experiment.colorize import image_passes_of
from leanet.experiment.display import note
from leanet.experiment.open_run import read_dataset
from leanet.networks.registry import build_colorizer, build_leanet
from leanet.settings import CheckConfig, DetectorConfig, RunConfig, parse_folds
from leanet.training import colorization, detection
from leanet.training.compute import resolve
from leanet.training.loop import Engine, Loss
from leanet.training.recipe import Recipe

TIMED_STEPS = 2


@dataclass(frozen=True)
class Estimate:
    """Seconds of each part of a run."""

    colorizers: float
    maps: float
    detectors: dict[str, float]

    @property
    def total(self) -> float:
        """Seconds of the whole run."""
        return self.colorizers + self.maps + sum(self.detectors.values())


def estimate_run(config: RunConfig | CheckConfig) -> Estimate:
    """Time a few steps, print what the run will take, and return it.

    Raises:
        UserError: as `read_dataset`.
    """
    dataset = read_dataset(config.dataset, config.data, config.compute.seed)
    normals = len(dataset.of_class(0))
    images = len(dataset.samples)
    anomalous = (images - normals) * config.detector.p_rate
    train_share = 1 - 1 / config.data.n_splits
    folds = len(parse_folds(config.compute.folds, config.data.n_splits))
    side = config.data.image_size

    recipe = colorization.RECIPES[config.compute.recipe].override(
        config.colorizer.colorizer_epochs,
        config.colorizer.colorizer_batch_size,
        config.colorizer.colorizer_lr,
    )
    step = _seconds_an_image(
        config,
        lambda: build_colorizer(config.colorizer.colorizer, side),
        colorization.loss,
        recipe,
        _lab_batch,
    )
    inner = config.colorizer.cross_fit
    passes = image_passes_of(recipe, round(normals * train_share))
    if inner:
        passes += inner * image_passes_of(recipe, round(normals * train_share * (1 - 1 / inner)))
    colorizers = folds * passes * step
    maps = folds * images * step * 0.5
    d = config.detector
    recipe = detection.RECIPES[config.compute.recipe].override(d.epochs, d.batch_size, d.lr)
    detectors: dict[str, float] = {}
    for detector in [d] if d.caan == "none" or not getattr(config, "compare", True) else [d, d.baseline()]:
        step = _seconds_an_image(config, _builder(detector, side), detection.loss, recipe, _labelled_batch)
        passes = image_passes_of(recipe, round((normals + anomalous) * train_share))
        detectors[detector.name] = d.seeds * folds * passes * step
    estimate = Estimate(colorizers, maps, detectors)
    parts = [f"colorizers {_minutes(colorizers + maps)}"] + [f"{n} {_minutes(s)}" for n, s in detectors.items()]
    note(f"estimated time on this machine: {_minutes(estimate.total)} ({', '.join(parts)})")
    return estimate


def _builder(detector: DetectorConfig, side: int) -> Callable[[], nn.Module]:
    return lambda: build_leanet(detector.adn, detector.caan, detector.attention_point, side, detector.attention)


def _seconds_an_image(
    config: RunConfig | CheckConfig,
    build: Callable[[], nn.Module],
    loss: Loss,
    recipe: Recipe,
    make_batch: Callable[[int, int], tuple[Tensor, ...]],
) -> float:
    """Seconds of an eager training step, per image; compilation is left out of the reckoning."""
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


def _minutes(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"
