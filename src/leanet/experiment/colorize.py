"""Stage 1 over the folds: a colorizer from a fold's training normals, anomaly maps of all images."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from leanet.color.anomaly_map import anomaly_map, authors_anomaly_map
from leanet.color.lab import decode_lab, encode_lab, rgb_to_lab
from leanet.color.opencv_lab import opencv_lab_8_bit
from leanet.experiment.display import note, progress_bar
from leanet.experiment.map_summary import MapSummary
from leanet.experiment.open_run import Run, begin, normal_rows
from leanet.experiment.run_folder import FoldFolder, MapWriter, write_history
from leanet.networks.registry import build_colorizer
from leanet.settings import ColorizeConfig, MapCoding, parse_folds, to_options
from leanet.training.checkpoint import Checkpoint, load_weights, save_weights
from leanet.training.colorization import RECIPES, ColorizationData, images_to_tensor, loss
from leanet.training.compute import Compute, find_device, fused, resolve
from leanet.training.loop import Engine, train
from leanet.training.prediction import predictor
from leanet.training.processes import first_before_others, is_first, wait_for_all
from leanet.training.recipe import Recipe

PREDICTION_BATCH = 32


def colorize(config: ColorizeConfig, begun: Run | None = None) -> Run:
    """Train the colorizers of the folds asked for and write their anomaly maps; finished folds are skipped.

    Args:
        config: the stage's options.
        begun: what `begin` returned for them, where that is done already.
    Raises:
        UserError: bad data, or a run folder of another data set or with other options.
    """
    device = find_device(config.compute.device)
    if not begun:
        with first_before_others(device):
            begun = begin(config)
    run = begun
    folds = parse_folds(config.compute.folds, len(run.folds))
    to_do = [n for n in folds if not run.folder.fold(n).maps.exists()]
    if not to_do:
        note("colorizers: all folds asked for are done already")
        return run
    recipe = recipe_of(config)
    compute = resolve(config.compute, image_passes(run, recipe))
    wait_for_all(device)  # before anything is written that would change what is to do
    epochs = recipe.epochs_for(len(normal_rows(run, to_do[0])))
    note(f"colorizers: {config.colorizer.colorizer}, {epochs} epochs, {compute}")
    engine = Engine(lambda: build_colorizer(config.colorizer.colorizer, run.side), loss, compute)
    sizes = [image_passes_of(recipe, len(normal_rows(run, n))) for n in to_do]
    with progress_bar("colorizers", sum(sizes)) as set_done:
        for k, number in enumerate(to_do):
            _one_fold(config, run, number, engine, recipe, partial(shift, set_done, sum(sizes[:k])))
    wait_for_all(device)
    return run


def shift(set_done: Callable[[int, str], None], start: int, done: int, now: str) -> None:
    """Report progress of one fold as progress of all of them."""
    set_done(start + done, now)


def recipe_of(config: ColorizeConfig) -> Recipe:
    """The recipe with the user's own numbers in it."""
    c = config.colorizer
    recipe = RECIPES[config.compute.recipe]
    return recipe.override(c.colorizer_epochs, c.colorizer_batch_size, c.colorizer_lr)


def image_passes(run: Run, recipe: Recipe) -> float:
    """Training work of the stage, all folds, in passes of one 256 x 256 image."""
    passes = sum(image_passes_of(recipe, len(normal_rows(run, n))) for n in range(len(run.folds)))
    return passes * (run.side / 256) ** 2


def image_passes_of(recipe: Recipe, images: int) -> int:
    """How many images a training on this many images sees, each counted as often as it is seen."""
    return recipe.epochs_for(images) * images


def _one_fold(
    config: ColorizeConfig,
    run: Run,
    number: int,
    engine: Engine,
    recipe: Recipe,
    set_done: Callable[[int, str], None],
) -> None:
    folder = run.folder.fold(number)
    if folder.colorizer_weights.exists():
        load_weights(engine.bare_model, folder.colorizer_weights)
    else:
        _train(config, folder, run, number, engine, recipe, set_done)
    if not is_first():
        return
    summary = write_maps(engine.bare_model, engine.compute, run, number)
    note(
        f"fold {number}: mean ΔE of training normals {summary['train_normals']:.2f}, "
        f"test normals {summary['test_normals']:.2f}, test anomalies {summary['test_anomalies']:.2f}"
    )


def _train(
    config: ColorizeConfig,
    folder: FoldFolder,
    run: Run,
    number: int,
    engine: Engine,
    recipe: Recipe,
    set_done: Callable[[int, str], None],
) -> None:
    normals, seed = normal_rows(run, number), config.compute.seed * 1000 + number
    fingerprint = fingerprint_of(to_options(config), run, normals, engine.compute)
    checkpoint = Checkpoint(folder.colorizer_checkpoint, fingerprint, config.compute.checkpoint_seconds)
    images = 0

    def on_images(n: int, loss_now: float) -> None:
        nonlocal images
        images += n
        set_done(images, f"fold {number}, loss {loss_now:.5f}")

    data = ColorizationData(run.pixels, normals, config.compute.recipe, engine.compute.compiled)
    history = train(engine, data, recipe, seed, checkpoint, on_images)
    if not is_first():
        return
    write_history(folder.colorizer_history, history)
    save_weights(engine.bare_model, folder.colorizer_weights)
    checkpoint.remove()


def write_maps(model: nn.Module, compute: Compute, run: Run, number: int) -> dict[str, Any]:
    """Recolour every image and write a fold's anomaly maps; returns what is stored beside them."""
    writer = MapWriter(run.folder.fold(number).maps, len(run.images), run.side)
    summary, colorizer = MapSummary(run, number), predictor(model, compute)
    for start in range(0, len(run.images), PREDICTION_BATCH):
        rows = np.arange(start, min(start + PREDICTION_BATCH, len(run.images)))
        images = images_to_tensor(run.pixels, rows).to(compute.device)
        delta_e, chroma = recolour(colorizer, images, run.map_coding, compiled=compute.compiled)
        maps = delta_e[:, 0].cpu().numpy()
        writer.write(start, maps, chroma.cpu().numpy())
        summary.add(rows, maps)
    attributes = summary.attributes()
    writer.close(attributes)
    return attributes


@torch.inference_mode()
def recolour(
    colorizer: Callable[[Tensor], Tensor],
    images: Tensor,
    map_coding: MapCoding = "true",
    *,
    compiled: bool = False,
) -> tuple[Tensor, Tensor]:
    """Recolour images and compare.

    Args:
        colorizer: a colorizer, ready to predict.
        images: float32 (N, 3, H, W), sRGB in [0, 1].
        map_coding: 'true' compares in exact CIELAB; 'authors' gives the colorizer OpenCV's 8-bit lightness, as the
            published program does, and compares as it does.
        compiled: whether to compile the colour functions, for some thousands of images.
    Returns:
        anomaly maps (N, 1, H, W) in ΔE00, and the predicted chrominance (N, 2, H, W) coded to [0, 1].
    Raises:
        ImportError: the coding 'authors' without OpenCV.
    """
    if map_coding == "authors":
        coded = opencv_lab_8_bit(images)
        chroma = colorizer(coded[:, :1])
        return authors_anomaly_map(coded, torch.cat([coded[:, :1], chroma], 1)), chroma
    to_lab, compare = (fused(rgb_to_lab), fused(_map_of_chroma)) if compiled else (rgb_to_lab, _map_of_chroma)
    lab = to_lab(images)
    chroma = colorizer(encode_lab(lab)[:, :1])
    return compare(lab, chroma), chroma


def _map_of_chroma(lab: Tensor, chroma: Tensor) -> Tensor:
    """The anomaly map of an image whose chrominance, coded to [0, 1], is taken for another."""
    recoloured = torch.cat([encode_lab(lab)[:, :1], chroma], 1)
    return anomaly_map(lab, decode_lab(recoloured))


def fingerprint_of(options: dict[str, Any], run: Run, rows: NDArray[np.int64], compute: Compute) -> str:
    """A hash of everything that a training depends on, to recognise its checkpoint by."""
    loose = {
        "dataset",
        "out",
        "run",
        "folds",
        "checkpoint_seconds",
        "compare",
        "skip_unreadable",
        "groups",
        "device",
    }
    kept = sorted((k, str(v)) for k, v in options.items() if k not in loose)
    images = [run.images[row].sha256 for row in rows]
    return hashlib.sha256(repr((kept, images, str(compute))).encode()).hexdigest()
