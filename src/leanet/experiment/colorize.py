"""Stage 1 over the folds: train a map source on a fold's normal training images, map all images."""

from __future__ import annotations

import logging

from leanet.config import COLOR_MAP, ColorizeConfig, parse_folds
from leanet.experiment.description_task import descriptions_for
from leanet.experiment.executors.registry import executor
from leanet.experiment.map_tasks import compute_of, image_passes, plan_maps
from leanet.experiment.open_run import Run, begin, normal_rows
from leanet.lock import alone_in
from leanet.results.words import explain
from leanet.training.compute import find_device
from leanet.training.processes import first_before_others, wait_for_all

_log = logging.getLogger(__name__)

LOOKED_AT = 50
"""Images that tell whether a data set is grey."""

MOST_GREY = 8
"""Largest difference between a grey pixel's primaries, of 255: JPEG and old paper tint a little."""


def colorize(config: ColorizeConfig, begun: Run | None = None) -> Run:
    """Fit the map sources of the requested folds and write their anomaly maps; skip finished folds.

    Args:
        config: the stage's options.
        begun: the run that `begin` returned for them, if it was called already.
    Raises:
        UserError: bad data, or a run folder of another data set, with other options, or in use by another process.
    """
    with alone_in(config.out):
        return _colorize(config, begun)


def _colorize(config: ColorizeConfig, begun: Run | None) -> Run:
    device, chosen = find_device(config.compute.device), executor(config.compute)
    if not begun:
        with first_before_others(device):
            begun = begin(config)
    run = begun
    title = "colorizers" if config.colorizer.map_source == COLOR_MAP else "anomaly maps"
    tasks = plan_maps(config, run, parse_folds(config.compute.folds, len(run.folds)))
    if not tasks:
        _log.info(f"{title}: all requested folds are already finished")
        return run
    wait_for_all(device)  # before any write that changes which tasks are open
    normals = len(normal_rows(run, tasks[0].fold))
    each = f", {config.colorizer.cross_fit + 1} for each fold" if config.colorizer.cross_fit else ""
    epochs = image_passes(config, normals) // normals
    if config.colorizer.map_source == COLOR_MAP:
        explain("fold", "ΔE00")
        if _is_grey(run):
            _log.info("note: the images have no color: ΔE tells little of them. Try --maps features")
        _log.info(f"{title}: {config.colorizer.colorizer}{each}, {epochs} epochs, {compute_of(config, run)}")
    else:
        _log.info(f"{title}: {config.colorizer.map_source}{each}, {compute_of(config, run)}")
    chosen.execute([*descriptions_for(config), *tasks], [run], title)
    wait_for_all(device)
    return run


def _is_grey(run: Run) -> bool:
    """Whether all of the images, or of LOOKED_AT of them, are grey."""
    some = run.pixels[:: -(-len(run.images) // LOOKED_AT)]
    return bool((some.max(-1) - some.min(-1)).max() <= MOST_GREY)
