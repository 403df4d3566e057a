"""`leanet check`: the content of a dataset folder, in words."""

from __future__ import annotations

import dataclasses
import logging
import shlex
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from leanet.config import CheckConfig, ColorizeConfig, DataConfig, DetectConfig
from leanet.config.options import argument, from_options, to_options
from leanet.data.check import CheckReport, check_dataset
from leanet.data.dataset import Dataset
from leanet.data.find import cut, listed
from leanet.data.hold_out import planned_folds
from leanet.data.registry import list_images, open_source
from leanet.data.splits import too_large_groups
from leanet.errors import UserError
from leanet.experiment.detect import refuse_unfit
from leanet.experiment.estimate import Planned, estimate, minutes, time_of, unfinished
from leanet.experiment.open_run import Run, refuse_unfit_maps
from leanet.experiment.run_folder import ImageRow, RunFolder
from leanet.progress import progress_bar

_log = logging.getLogger(__name__)

ALONE, UNREAD = "only `leanet fit` works", "not read:"
"""In the error where there are normal images alone; at the start of the note on folders that are not read."""

ENOUGH_NORMALS = 100
"""With fewer normal images, the colorizers of different folds differ much."""

QUICK_SIDE, QUICK_FOLDS = 128, "0"
"""A quick run: one fold of small images. Images below this side show little."""


def check_and_print(config: CheckConfig) -> int:
    """Log the check of a data set and the estimated time of a run; returns 2 if there are problems, else 0."""
    refuse_unfit(config.detector, config.data.image_size)
    refuse_unfit_maps(config.colorizer)
    data = config.data
    dataset, missing = _listed_or_normals(config)
    with progress_bar("checking images", len(dataset.samples)) as set_done:
        report = check_dataset(
            dataset,
            data.n_splits,
            config.compute.seed,
            hold_out=data.hold_out,
            skip_unreadable=data.skip_unreadable,
            on_progress=lambda done: set_done(done, ""),
        )
    for line in [*_lines(report, data.image_size), *missing]:
        _log.info(line)
    large = [] if data.hold_out else too_large_groups(dataset, data.n_splits)
    for line in cut([f"note: {text}" for text in large], "groups are as large"):
        _log.info(line)
    for line in cut([f"problem: {problem}" for problem in report.problems], "problems"):
        _log.info(line)
    if report.problems:
        return 2
    if config.estimate and not missing:
        _estimate(config, dataset.without([file for file, _ in report.unreadable]))
    _log.info("no problems found")
    return 0


def _listed_or_normals(config: CheckConfig) -> tuple[Dataset, list[str]]:
    """The data set and nothing, or its normal images, if there are no others, and a note that says so."""
    try:
        return list_images(config.dataset, config.data, config.compute.seed), []
    except UserError as error:
        named = config.data.hold_out or config.data.abnormal_dir != DataConfig.abnormal_dir
        if named or ALONE not in str(error) or open_source(config.dataset, config.data).has_anomalies():
            raise
        normals = list_images(config.dataset, config.data, config.compute.seed, normals_only=True)
        if any(note.startswith(UNREAD) for note in normals.notes):
            raise
        return normals, [f"note: normal images alone. {error}"]


def _estimate(config: CheckConfig, dataset: Dataset) -> None:
    """Log how long a run takes and, unless it is the same, how long a quick run takes."""
    estimate(*_planned(config, dataset))
    first = dataclasses.replace(
        config,
        data=dataclasses.replace(config.data, image_size=min(QUICK_SIDE, config.data.image_size)),
        compute=dataclasses.replace(config.compute, folds=QUICK_FOLDS),
    )
    if first != config:
        quick = time_of(*_planned(first, dataset))
        _log.info(f"a quick run takes {minutes(quick.total)}: {quick_command(first)}")


def _planned(config: CheckConfig, dataset: Dataset) -> tuple[list[Planned], Run]:
    """The tasks of a run with these options, and that run as it would begin, without its pixels."""
    side, maps = config.data.image_size, config.colorizer
    rows = tuple(ImageRow(s.file, s.label, s.kind, s.group, s.mask or "", "", 0, 0) for s in dataset.samples)
    pixels = np.broadcast_to(np.uint8(0), (len(rows), side, side, 3))
    labels = np.array([row.label for row in rows], dtype=np.int64)
    folds = planned_folds(dataset, config.data.n_splits, config.compute.seed, config.data.hold_out)
    with TemporaryDirectory() as empty:
        run = Run(RunFolder(Path(empty)), rows, labels, pixels, folds, maps.map_coding, maps.map_source)
        first = ColorizeConfig(config.dataset, run.folder.path, config.data, maps, config.compute)
        detectors = [
            DetectConfig(run.folder.path, None, d, config.compute) for d in config.detector.beside_baseline(True)
        ]
        return unfinished(first, detectors, run), run


def quick_command(first: CheckConfig) -> str:
    """The command of a quick run, with the other given options: those that the same run cannot do without."""
    given = {"maps": list(first.colorizer.maps), **to_options(first)}
    del given["dataset"]
    for name in [*given, *given]:  # what one option chooses, another may say too
        rest = {other: value for other, value in given.items() if other != name}
        if from_options(CheckConfig, rest, recorded=False, dataset=first.dataset) == first:
            given = rest
    given = {"image_size": first.data.image_size, "folds": first.compute.folds, **given}
    arguments = [part for name, value in given.items() for part in argument(name, value)]
    return shlex.join(["leanet", "run", str(first.dataset), "--out", "quick", *arguments])


def _lines(report: CheckReport, side: int) -> list[str]:
    normal, anomalous = report.counts["normal"], report.counts["anomalous"]
    lines = [f"images: {normal} normal, {anomalous} anomalous"]
    if normal < ENOUGH_NORMALS:
        lines.append(f"few normal images: use {ENOUGH_NORMALS} or more; with fewer, results vary")
    if any(report.kinds):
        named = {kind: count for kind, count in report.kinds.items() if kind}
        bare = {"without a kind": report.kinds[""]} if "" in report.kinds else {}
        lines.append("kinds of anomaly: " + _listed(bare | named))
    if report.masks:
        lines.append(f"masks: {report.masks}")
    if report.smallest and report.median and report.largest:
        sizes = [f"{w} x {h}" for w, h in (report.smallest, report.median, report.largest)]
        lines.append(
            f"sizes: smallest {sizes[0]}, median {sizes[1]}, largest {sizes[2]}; {report.distinct_sizes} different"
        )
    if report.aspect is not None:
        many = sum(report.formats.values())
        lines.append(
            f"not square: {report.squeezed} of {many}, typically {_ratio(report.aspect)}; a run squeezes them to "
            f"{side} x {side}, unless --aspect says otherwise"
        )
    lines.append("formats: " + _listed(report.formats))
    if report.converted:
        lines.append("converted on reading: " + _listed(report.converted))
    if report.profiles:
        lines.append("color profiles: " + _listed(report.profiles))
    if report.broken_profiles:
        lines.append(f"unusable color profiles: {report.broken_profiles}; these images count as sRGB")
    name, size = report.largest_group
    if size > 1:
        lines.append(f"groups: {report.groups}, the largest is {name} with {size} images")
    lines += cut([f"unreadable: {file} ({reason})" for file, reason in report.unreadable], "are unreadable")
    copies = [
        f"exact duplicates (splits keep them together): {listed(files)}" for files in report.duplicates.within
    ]
    lines += cut(copies, "sets of duplicates")
    return lines + [f"note: {text}" for text in report.notes]


def _listed(counts: dict[str, int]) -> str:
    return listed([f"{name} {count}" for name, count in counts.items()])


def _ratio(aspect: float) -> str:
    """Width : height with the larger side as a multiple of the smaller."""
    return f"{aspect:.2f} : 1" if aspect > 1 else f"1 : {1 / aspect:.2f}"
