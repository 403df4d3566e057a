"""Stage 1 over the folds: a colorizer from a fold's training normals, anomaly maps of all images."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from leanet.color.anomaly_map import anomaly_map, authors_anomaly_map
from leanet.color.lab import decode_chrominance, rgb_to_lab
from leanet.color.opencv_lab import opencv_lab_8_bit
from leanet.config import ColorizeConfig, ColorizerConfig, MapCoding, RecipeName, parse_folds
from leanet.config.options import to_options
from leanet.console import note, progress_bar
from leanet.errors import DamagedError
from leanet.experiment.open_run import FREE_TO_CHANGE, Run, begin, normal_rows, parts_of_training_side
from leanet.experiment.run_folder import FoldFolder, write_history
from leanet.lock import alone_in
from leanet.maps.store import Maps, MapWriter
from leanet.maps.summary import MapSummary
from leanet.networks.registry import build_colorizer
from leanet.ranks import is_first
from leanet.results.words import explain
from leanet.training.checkpoint import Checkpoint, is_whole, load_weights, made_from, save_weights
from leanet.training.colorization import RECIPES, ColorizationData, loss
from leanet.training.compute import Compute, find_device, fused, resolve, return_freed_memory
from leanet.training.loop import Engine, train
from leanet.training.prediction import predictor
from leanet.training.processes import first_before_others, wait_for_all
from leanet.training.recipe import Recipe

PREDICTION_BATCH = 32


def colorize(config: ColorizeConfig, begun: Run | None = None) -> Run:
    """Train the colorizers of the folds asked for and write their anomaly maps; finished folds are skipped.

    Args:
        config: the stage's options.
        begun: what `begin` returned for them, where that is done already.
    Raises:
        UserError: bad data, or a run folder of another data set, with other options, or that another process works
            in.
    """
    with alone_in(config.out):
        return _colorize(config, begun)


def _colorize(config: ColorizeConfig, begun: Run | None) -> Run:
    device = find_device(config.compute.device)
    if not begun:
        with first_before_others(device):
            begun = begin(config)
    run = begun
    folds = parse_folds(config.compute.folds, len(run.folds))
    to_do = [n for n in folds if not is_made(run, n)]
    if not to_do:
        note("colorizers: all folds asked for are done already")
        return run
    recipe = recipe_of(config.colorizer, config.compute.recipe)
    jobs = {n: jobs_of(config, run, n) for n in range(len(run.folds))}
    passes = {n: sum(image_passes_of(recipe, len(job.normals)) for job in jobs[n]) for n in jobs}
    # By the whole run's work, whatever is asked for or left of it: compiled and eager training differ in rounding.
    compute = resolve(config.compute, sum(passes.values()) * (run.side / 256) ** 2)
    wait_for_all(device)  # before anything is written that would change what is to do
    each = f", {len(jobs[to_do[0]])} for each fold" if config.colorizer.cross_fit else ""
    epochs = recipe.epochs_for(len(normal_rows(run, to_do[0])))
    explain("fold", "ΔE00")
    note(f"colorizers: {config.colorizer.colorizer}{each}, {epochs} epochs, {compute}")
    engine = Engine(lambda: build_colorizer(config.colorizer.colorizer, run.side), loss, compute)
    with progress_bar("colorizers", sum(passes[n] for n in to_do)) as set_done:
        done = 0
        for number in to_do:
            for job in jobs[number]:
                if not is_trained(job, run):
                    _train(config, run, job, engine, recipe, partial(shift, set_done, done))
                    wait_for_all(device)
                done += image_passes_of(recipe, len(job.normals))
            if is_first():
                _make_maps(run, number, jobs[number], engine)
    wait_for_all(device)
    return run


@dataclass(frozen=True)
class Job:
    """One colorizer to train, and what it makes maps of.

    Attributes:
        fold, part: the fold, and the inner part that it does not see; None for the fold's own colorizer.
        normals: the rows to train on.
        recoloured: the rows whose maps it makes.
    """

    fold: FoldFolder
    part: int | None
    normals: NDArray[np.int64]
    recoloured: NDArray[np.int64]
    seed: int

    @property
    def weights(self) -> Path:
        return self.fold.colorizer_weights if self.part is None else self.fold.inner_weights(self.part)

    @property
    def checkpoint(self) -> Path:
        return self.fold.colorizer_checkpoint if self.part is None else self.fold.inner_checkpoint(self.part)

    @property
    def history(self) -> Path:
        return self.fold.colorizer_history if self.part is None else self.fold.inner_history(self.part)


def jobs_of(config: ColorizeConfig, run: Run, number: int) -> list[Job]:
    """The colorizers of a fold: its own, last, and before it those of cross-fitting.

    A training image's map is made by a colorizer that has seen neither it nor its group, normal or anomalous alike:
    if the two classes' maps came from different colorizers, a detector could learn to tell these apart.
    """
    folder, normals = run.folder.fold(number), normal_rows(run, number)
    seed = config.compute.seed * 1000 + number
    k = config.colorizer.cross_fit
    if not k:
        return [Job(folder, None, normals, np.arange(len(run.images)), seed)]
    train = run.rows(run.folds[number].train)
    parts = parts_of_training_side(run, number, k, config.compute.seed)
    jobs = []
    for part in range(k):
        unseen = train[parts == part]
        jobs.append(Job(folder, part, np.setdiff1d(normals, unseen), unseen, seed + 1_000_000 * (part + 1)))
    return [*jobs, Job(folder, None, normals, np.setdiff1d(np.arange(len(run.images)), train), seed)]


def images_of(normals: NDArray[np.int64], run: Run) -> str:
    """A fingerprint of the images, by their rows, that a colorizer is trained on."""
    return hashlib.sha256(repr([run.images[row].sha256 for row in normals]).encode()).hexdigest()


def is_trained(job: Job, run: Run) -> bool:
    """Whether the colorizer is there, and was trained on these images: the splits may have been edited since."""
    if not job.weights.exists():
        return False
    if not is_whole(job.weights):
        note(f"note: {job.weights}: damaged; this colorizer is trained anew")
        return False
    if made_from(job.weights) not in ("", images_of(job.normals, run)):
        note(f"note: {job.weights}: trained on other images; this colorizer is trained anew")
        return False
    return True


def is_made(run: Run, number: int) -> bool:
    """Whether a fold's maps are there and whole, and so is its colorizer; says so where the maps are not."""
    folder = run.folder.fold(number)
    if not folder.maps.exists():
        return False
    try:
        maps = Maps(folder.maps, len(run.images), run.side)
        maps.verify()
    except DamagedError:
        note(f"note: {folder.maps}: damaged; these anomaly maps are made anew")
        return False
    made_of, own = maps.attributes.get("fingerprint"), run.fingerprint(number)
    if made_of != own:
        if made_of not in {run.fingerprint(n) for n in range(len(run.folds))}:
            return True  # of other images or splits: `Run.maps` refuses them
        note(f"note: {folder.maps}: another fold's; these anomaly maps are made anew")
        return False
    try:
        return made_from(folder.colorizer_weights) in ("", images_of(normal_rows(run, number), run))
    except DamagedError:
        return not folder.colorizer_weights.exists()


def shift(set_done: Callable[[int, str], None], start: int, done: int, now: str) -> None:
    """Report progress of one fold as progress of all of them."""
    set_done(start + done, now)


def recipe_of(colorizer: ColorizerConfig, recipe: RecipeName) -> Recipe:
    """The recipe with the user's own numbers in it."""
    c = colorizer
    return RECIPES[recipe].override(c.colorizer_epochs, c.colorizer_batch_size, c.colorizer_lr)


def image_passes_of(recipe: Recipe, images: int) -> int:
    """How many images a training on this many images sees, each counted as often as it is seen."""
    return recipe.last_epoch_for(images) * images


def _train(
    config: ColorizeConfig,
    run: Run,
    job: Job,
    engine: Engine,
    recipe: Recipe,
    set_done: Callable[[int, str], None],
) -> None:
    fingerprint = fingerprint_of(to_options(config), run, job.normals, engine.compute)
    checkpoint = Checkpoint(job.checkpoint, fingerprint, config.compute.checkpoint_seconds)
    of_part = "" if job.part is None else f" part {job.part}"
    images = 0

    def on_images(n: int, loss_now: float) -> None:
        nonlocal images
        images += n
        set_done(images, f"fold {job.fold.path.name}{of_part}, loss {loss_now:.5f}")

    data = ColorizationData(run.pixels, job.normals, config.compute.recipe, engine.compute.compiled)
    history = train(engine, data, recipe, job.seed, checkpoint, on_images)
    if not is_first():
        return
    write_history(job.history, history)
    save_weights(engine.bare_model, job.weights, images_of(job.normals, run))
    checkpoint.remove()


def _make_maps(run: Run, number: int, jobs: Sequence[Job], engine: Engine) -> None:
    """Write a fold's maps by its colorizers, and say what they are like."""
    writer = MapWriter(run.folder.fold(number).maps, len(run.images), run.side)
    summary = MapSummary(run, number)
    for job in jobs:
        load_weights(engine.bare_model, job.weights)
        write_maps(engine.bare_model, engine.compute, run, job.recoloured, writer, summary)
    attributes = summary.attributes()
    writer.close(attributes)
    for job in jobs:
        job.checkpoint.unlink(missing_ok=True)  # left by a kill after its weights were saved
        if job.part is not None:
            job.weights.unlink()
    if not run.keeps_test_apart(number):
        return
    means = {name: attributes[name] for name in ("train_normals", "test_normals", "test_anomalies")}
    listed = ", ".join(
        f"{name.replace('train', 'training').replace('_', ' ')} {m:.2f}"
        for name, m in means.items()
        if m is not None
    )
    note(f"fold {number}: mean ΔE of {listed}")


def write_maps(
    model: nn.Module,
    compute: Compute,
    run: Run,
    rows: NDArray[np.int64],
    writer: MapWriter,
    summary: MapSummary,
) -> None:
    """Recolour these rows' images; write their anomaly maps, and take them into the summary."""
    return_freed_memory()
    colorizer = predictor(model, compute.in_float32())
    for start in range(0, len(rows), PREDICTION_BATCH):
        some = rows[start : start + PREDICTION_BATCH]
        images = torch.from_numpy(run.pixels[some]).permute(0, 3, 1, 2).to(compute.device)
        delta_e, chroma = recolour(colorizer, images, run.map_coding, compiled=compute.compiled)
        maps = delta_e[:, 0].cpu().numpy()
        writer.write(some, maps, chroma.cpu().numpy())
        summary.add(some, maps)


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
        images: (N, 3, H, W), sRGB: uint8, or float32 in [0, 1].
        map_coding: 'true' compares in exact CIELAB; 'authors' gives the colorizer OpenCV's 8-bit lightness, as the
            published program does, and compares as it does.
        compiled: whether to compile the colour functions, for some thousands of images.
    Returns:
        anomaly maps (N, 1, H, W) in ΔE00, and the predicted chrominance (N, 2, H, W) coded to [0, 1].
    Raises:
        ImportError: the coding 'authors' without OpenCV.
    """
    if map_coding == "authors":
        coded = opencv_lab_8_bit(_scaled(images))
        chroma = colorizer(coded[:, :1])
        return authors_anomaly_map(coded, torch.cat([coded[:, :1], chroma], 1)), chroma
    to_lab, compare = (fused(_lab), fused(_map_of_chroma)) if compiled else (_lab, _map_of_chroma)
    lab = to_lab(images)
    chroma = colorizer(lab[:, :1] / 100)
    return compare(lab, chroma), chroma


def _scaled(images: Tensor) -> Tensor:
    return images / 255 if images.dtype == torch.uint8 else images


def _lab(images: Tensor) -> Tensor:
    return rgb_to_lab(_scaled(images))


def _map_of_chroma(lab: Tensor, chroma: Tensor) -> Tensor:
    """The anomaly map of an image whose chrominance, coded to [0, 1], is taken for another."""
    # The lightness as it is, not coded and decoded again: that took three times as long, compiled.
    return anomaly_map(lab, torch.cat([lab[:, :1], decode_chrominance(chroma)], 1))


def fingerprint_of(options: dict[str, Any], run: Run, rows: NDArray[np.int64], compute: Compute) -> str:
    """A hash of everything that a training depends on, to recognise its checkpoint by."""
    kept = sorted((k, str(v)) for k, v in options.items() if k not in FREE_TO_CHANGE)
    images = [run.images[row].sha256 for row in rows]
    return hashlib.sha256(repr((kept, images, str(compute))).encode()).hexdigest()
