"""`leanet fit`: one model from a folder of images, to predict new ones."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
from dataclasses import asdict
from pathlib import Path

import numpy as np

from leanet.config import COLOR_MAP, NO_CAAN, ColorizeConfig, DetectConfig, FitConfig
from leanet.config.options import to_options
from leanet.data.registry import list_images, open_source
from leanet.data.splits import Fold, inner_parts, refuse_one_normal
from leanet.errors import UserError
from leanet.experiment.colorize import colorize
from leanet.experiment.description_task import DescribeImages
from leanet.experiment.detect import refuse_unfit, refuse_unfit_weights, resolved, train_detectors, train_folds
from leanet.experiment.detector_task import build_detector
from leanet.experiment.estimate import estimate, unfinished
from leanet.experiment.executors.registry import executor
from leanet.experiment.experiment import Experiment
from leanet.experiment.familiar import add_familiarity
from leanet.experiment.feature_task import ComputeFeatures
from leanet.experiment.heat import choose_heat, for_another_head, peaks_of_maps
from leanet.experiment.map_reader import map_scale
from leanet.experiment.map_tasks import new_source
from leanet.experiment.open_run import (
    Run,
    begin,
    decode_images,
    facts_of_pixels,
    image_rows,
    record,
    refuse_among_images,
    refuse_other_images,
    refuse_other_options,
    refuse_other_pixels,
    refuse_unfit_maps,
    with_copies_grouped,
    write_images,
)
from leanet.experiment.predictions import rows_of_pictures
from leanet.experiment.run_folder import RunFolder, read_history, versions_here
from leanet.experiment.table import adn_scored, outcome, scored_as_pictures
from leanet.experiment.tasks import Worker
from leanet.experiment.training_set import refuse_too_few_labelled
from leanet.experiment.verdict import found_in_words
from leanet.files import is_free, remove
from leanet.lock import alone_in
from leanet.maps.source import MapSource
from leanet.model.card import Card
from leanet.model.deviation import deviation
from leanet.model.known import Known
from leanet.model.model import Model, refuse_existing, save
from leanet.ranks import count
from leanet.results.metrics import PLAIN_THRESHOLD, score
from leanet.training.checkpoint import load_weights
from leanet.training.compute import Compute, find_device, has_bfloat16

_log = logging.getLogger(__name__)

HELD_OUT, ALL = "held-out", "all"
"""Run folders of the two trainings, in OUT.work."""

COMPARED = 64
"""Most images on which predictions in bfloat16 are compared with those in float32."""
MARKER = ".leanet-fit"
"""This file marks an OUT.work that a fit made."""

NORMALS_BELOW = 0.95
"""Without anomalous images, the share of held-out normals whose map's mean is below the threshold."""


def fit(config: FitConfig) -> Card:
    """Train twice: on all parts but one, to choose epoch and threshold and to test; then on all images.

    Unfinished work is in OUT.work; a stopped fit resumes from there.

    Returns:
        The card of the model that was written.
    Raises:
        UserError: bad data, OUT exists, or another process makes it.
    """
    if count() > 1:
        raise UserError("leanet fit: one process only. Do not use `accelerate launch`; it is for run and study.")
    refuse_unfit(config.detector, config.data.image_size)
    refuse_unfit_weights(config.detector, config.data.image_size)
    executor(config.compute)
    if config.data.hold_out is not None:  # among a run's options
        _log.info("note: --hold-out: not used; a model is fitted to all images")
        config = dataclasses.replace(config, data=dataclasses.replace(config.data, hold_out=None))
    refuse_among_images(config.out, config.dataset, config.data)
    out = config.out.resolve()
    work = out.with_name(out.name + ".work")
    try:
        with alone_in(work):
            refuse_existing(config.out)
            card = _fit(config, work)
    finally:
        with contextlib.suppress(OSError):  # unfinished, or other files are there
            work.rmdir()
    _log.info(f"model: {config.out}")
    return card


def _fit(config: FitConfig, work: Path) -> Card:
    _claim(work)
    compute = dataclasses.replace(config.compute, folds="0")
    first = ColorizeConfig(config.dataset, work / HELD_OUT, config.data, config.colorizer, compute)
    try:
        if open_source(config.dataset, config.data).has_anomalies():
            card = _fit_detector(config, first, work)
        else:
            _log.info("no anomalous images: fitting only anomaly maps, and a threshold on their mean")
            card = _fit_map(config, first, work)
    except BaseException:
        if not first.out.exists():  # a fit that never began leaves nothing behind
            _leave(work)
        raise
    _leave(work)
    return card


def _claim(work: Path) -> None:
    """Make OUT.work; UserError if files that no fit made are in the way."""
    ours = (work / MARKER).is_file() or "recorded" in RunFolder(work / HELD_OUT).read_config()
    for made in (work / HELD_OUT, work / ALL):
        if not (ours or is_free(made)):
            raise UserError(f"{made}: exists, and no fit made it. Move it, or choose another --out.")
    RunFolder(work).make()
    (work / MARKER).touch()


def _leave(work: Path) -> None:
    """Remove a fit's files from OUT.work."""
    for made in HELD_OUT, ALL, MARKER:
        remove(work / made)


def _fit_detector(config: FitConfig, first: ColorizeConfig, work: Path) -> Card:
    if config.detector.seeds != 1:
        raise UserError("--seeds: a model is fitted once. Omit the option.")
    parts = f"{config.data.n_splits - 1} of {config.data.n_splits} parts of the images"
    asked = DetectConfig(first.out, None, config.detector, first.compute, compare=False)
    is_new = not first.out.exists()
    begun = begin(first)
    refuse_too_few_labelled(asked, begun)
    whole = everything(begun, work / ALL)
    second = dataclasses.replace(first, out=whole.folder.path)
    unchosen = dataclasses.replace(config.detector, validation=0.0)
    final = resolved(DetectConfig(second.out, None, unchosen, first.compute, compare=False), whole)
    if is_new:  # a stopped fit's remaining work is unknown
        later = [task for task in unfinished(second, [final], whole) if not isinstance(task, DescribeImages)]
        estimate([*unfinished(first, [asked], begun), *later], begun, whole)
    chosen = "what to show" if config.detector.has_frozen_adn else "epoch and threshold"
    _log.info(f"first training: {parts}, to choose {chosen}, and to test on the rest")
    colorize(first, begun)
    if config.detector.has_frozen_adn:
        colorize(second, whole)
        _compute_features(resolved(asked, begun), final, begun, whole)
    first_training = train_detectors(asked)
    run, folder = first_training.run, first_training.folder(0)
    metrics = folder.read_metrics()
    answered = scored_as_pictures if run.has_tiles else adn_scored
    scored = answered(outcome(run, folder, 0), config.detector)
    tested = asdict(score(scored)) if run.has_tiles else metrics["adn"]
    history_epochs = len(read_history(folder.history))
    share = metrics["epoch"] / history_epochs

    said = found_in_words(score(scored), [PLAIN_THRESHOLD if scored.threshold is None else scored.threshold])
    _log.info(f"test on the rest: {said}")
    _log.info("second training: all images")
    colorize(second, whole)
    second_training = Experiment(whole, final, (0,))
    train_folds(second_training, until=share)
    heat = for_another_head(choose_heat(first_training), first_training, second_training)

    d = config.detector
    if d.has_frozen_adn:  # all images are predicted out of fold
        scored = answered(outcome(whole, whole.folder.fold(0).detector(d.name), 0), d)
    network = build_detector(d, run.side)
    load_weights(network, whole.folder.fold(0).detector(d.name).weights)
    distances, known = add_familiarity(network, second_training)
    maps = _trained_source(first, whole)
    card = dataclasses.replace(
        _card(config, whole),
        adn=d.adn,
        caan=d.caan,
        attention_points=d.attention_point,
        attention=d.attention,
        tune=d.tune or "all",
        map_scale=map_scale(final),
        threshold=PLAIN_THRESHOLD if scored.threshold is None else scored.threshold,
        **asdict(heat),
        familiar_distances=distances,
        validation={
            "what": f"a detector trained on {parts}, tested on the others{', as pictures' * run.has_tiles}",
            "found": said,
            "threshold": "0.5: too few anomalous images to choose it by"
            if scored.threshold is None
            else "chosen by cross-validation of all labeled images"
            if d.has_frozen_adn
            else "chosen by an inner validation",
            "epoch": f"{metrics['epoch']} of {history_epochs}",
            **tested,
        },
    )
    return _save(config, Model(card, network.eval(), maps), run, known)


def _fit_map(config: FitConfig, first: ColorizeConfig, work: Path) -> Card:
    run = _normals_only(config, work / HELD_OUT)
    colorize(first, run)
    of_images = np.array(run.maps(0).attributes["mean_delta_e"])[run.rows(run.folds[0].test)]
    held_out = np.array([of_images[rows].max() for rows in rows_of_pictures(run.folds[0].test).values()])
    threshold = float(np.quantile(held_out, NORMALS_BELOW))
    whole = everything(run, work / ALL)
    colorize(dataclasses.replace(first, out=whole.folder.path), whole)
    maps = _trained_source(first, whole)
    card = dataclasses.replace(
        _card(config, whole),
        map_threshold=threshold,
        normals_peaks=peaks_of_maps(run),
        validation={
            "what": "normal images that the maps had not seen; there were no anomalous ones to test on",
            "images": len(held_out),
            "mean_delta_e": float(held_out.mean()),
            "threshold": f"mean of the map that {NORMALS_BELOW:.0%} of them lie below",
        },
    )
    return _save(config, Model(card, None, maps), run)


def _save(config: FitConfig, model: Model, held_out: Run, known: Known | None = None) -> Card:
    """Write the model; if the machine has bfloat16, measure its effect for the card.

    Args:
        held_out: the first training's run; its test images are used to measure.
        known: what the model keeps of its training images.
    """
    card, device = model.card, find_device(config.compute.device)
    if has_bfloat16(device):
        rows = held_out.rows(held_out.folds[0].test)
        pixels = held_out.pixels[rows[:: -(-len(rows) // COMPARED)]]
        exact, coarse = (
            dataclasses.replace(model, compute=Compute(device, bfloat16, compiled=False))
            for bfloat16 in (False, True)
        )
        found = deviation(exact, coarse, list(pixels))
        _log.info(f"--precision bfloat16, which is faster, {found}")
        card = dataclasses.replace(card, validation=card.validation | {"bfloat16": dataclasses.asdict(found)})
    save(config.out, card, model.network, model.maps, known)
    return card


def _trained_source(config: ColorizeConfig, whole: Run) -> MapSource:
    """The map source that was fitted on all images."""
    source = new_source(config, whole)
    load_weights(source.stored, whole.folder.fold(0).map_source(whole.map_source).weights())
    return source.eval()


def _compute_features(first: DetectConfig, second: DetectConfig, *runs: Run) -> None:
    """Compute what heads of both trainings read, in one pass over the images."""
    both = ComputeFeatures(first, (0,), (ComputeFeatures(second, (0,)),))
    if not both.done(Worker({run.folder.path: run for run in runs})):
        executor(first.compute).execute([both], runs, both.key)


def everything(run: Run, folder: Path) -> Run:
    """The same images in another folder, with one fold that trains on all of them; its test side is a formality.

    Both folders have what is computed of all images once.
    """
    firsts = {int(label): next(i.file for i in run.images if i.label == label) for label in np.unique(run.labels)}
    RunFolder(folder).make()
    _link(RunFolder(folder).computed, run.folder.computed)
    fold = Fold(tuple(image.file for image in run.images), tuple(firsts.values()))
    return dataclasses.replace(run, folder=RunFolder(folder), folds=(fold,))


def _link(path: Path, target: Path) -> None:
    """Make a path lead to a folder, if it is free and the file system has links."""
    with contextlib.suppress(OSError):
        path.symlink_to(os.path.relpath(target, path.parent), target_is_directory=True)


def _normals_only(config: FitConfig, folder: Path) -> Run:
    """A run on normal images alone; the test side of its one fold is a fifth of them, in whole groups."""
    refuse_unfit_maps(config.colorizer)
    data = config.data
    dataset = list_images(config.dataset, data, config.compute.seed, normals_only=True)
    for text in dataset.notes:
        _log.info(f"note: {text}")
    home = RunFolder(folder)
    if home.config.exists():
        refuse_other_options(home, config)
    home.make()
    record(home, to_options(config))
    cache = decode_images(home, dataset, data)
    dataset = with_copies_grouped(dataset.without([file for file, _ in cache.skipped]), cache)
    images = image_rows(dataset, cache)
    refuse_other_images(home, images)
    refuse_other_pixels(home, cache)
    record(home, {}, **facts_of_pixels(cache))
    try:
        parts = inner_parts([0] * len(images), [i.group for i in images], data.n_splits, config.compute.seed)
    except UserError as error:
        raise UserError(f"--n-splits {data.n_splits}: {error}") from None
    sides = [tuple(i.file for i, part in zip(images, parts, strict=True) if (part == 0) == test) for test in (0, 1)]
    labels, maps = np.zeros(len(images), dtype=np.int64), config.colorizer
    refuse_one_normal(f"--n-splits {data.n_splits}", len(sides[0]))
    write_images(home, images)
    return Run(home, images, labels, cache.pixels, (Fold(*sides),), maps.map_coding, maps.map_source)


def _card(config: FitConfig, whole: Run) -> Card:
    """A card with the fields of every model; the maps of `everything` must be made."""
    return Card(
        adn="",
        caan=NO_CAAN,
        attention_points=(),
        image_size=whole.side,
        aspect=config.data.aspect,
        white_balance=config.data.white_balance,
        tile=config.data.tile,
        map_coding=whole.map_coding,
        map_scale="normals",
        normals_unit=whole.maps(0).normals_p99,
        threshold=PLAIN_THRESHOLD,
        origin="leanet fit",
        colorizer=config.colorizer.colorizer if COLOR_MAP in config.colorizer.maps else None,
        map_source=whole.map_source,
        settings={k: v for k, v in to_options(config).items() if k not in {"dataset", "out", "groups"}},
        versions=versions_here(),
        training={
            "images": len(whole.images),
            "anomalous": int(whole.labels.sum()),
            "kinds": sorted({image.kind for image in whole.images if image.kind}),
            "fingerprint": whole.fingerprint(0),
        },
    )
