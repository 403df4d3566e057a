"""What of a run's folder is finished, and with which options: all that can be shown of it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from leanet.config import DetectConfig, DetectorConfig, parse_folds
from leanet.config.options import from_options, omitted_by_default
from leanet.errors import OptionError, UserError
from leanet.experiment.detect import refuse_unfit
from leanet.experiment.detector_task import TrainDetector
from leanet.experiment.experiment import Experiment
from leanet.experiment.open_run import find, source_of
from leanet.experiment.run_folder import RunFolder


def recorded_detector(home: RunFolder, name: str | None = None) -> DetectConfig:
    """A detector of a folder, with the options that it was trained with.

    Args:
        name: of its folder, such as ResNet18-ResNet-p2; None: the one that was trained last.
    Raises:
        UserError: no detector was trained yet, or none of this name.
    """
    options = home.read_config()
    if "adn" not in options:
        raise UserError(f"{home.path}: no detector was trained in this folder. {_without_detectors(home)}")
    latest = from_options(DetectConfig, options, run=home.path, out=None).detector
    try:
        refuse_unfit(latest)
    except OptionError as error:
        raise UserError(f"{home.config}: {error} Mend that file, or register the network.") from None
    last = latest.name
    made = _configs(home, name or last)
    if name and not made:
        there = sorted({folder.path.name for folder in home.detectors()})
        raise UserError(f"--detector {name}: {home.path} has {', '.join(there) or 'none'}. Name one of these.")
    if not made:
        return from_options(DetectConfig, options, run=home.path, out=None)
    if made[0].get("recorded", {}).get("seed"):
        raise UserError(f"--detector {name}: a further seed's folder. Name that of the first one, without -s.")
    folds = sorted({str(each.get("folds", "all")) for each in made})
    asked = made[0] | {"folds": "all" if "all" in folds else ",".join(folds)}
    if name in (None, last):
        asked |= {k: options[k] for k in ("seeds", "target_recall", "compare") if k in options}
    else:
        asked["seeds"] = max(int(each.get("seeds", 1)) for each in made)
        asked["compare"] = all(each.get("compare", True) for each in made)
    others = {k: v for k, v in options.items() if k not in omitted_by_default(DetectorConfig)}
    return from_options(DetectConfig, {**others, **asked}, run=home.path, out=None)


def _configs(home: RunFolder, name: str) -> list[dict[str, Any]]:
    """What a detector's trainings were asked for with, on all folds: those with the first seed come first."""
    own = re.compile(re.escape(name) + r"(-s\d+)?")
    found = [folder for folder in home.detectors() if own.fullmatch(folder.path.name)]
    return [folder.read_config() for folder in sorted(found, key=lambda f: f.path.name != name)]


def _without_detectors(home: RunFolder) -> str:
    """What there is instead, and what to do; UserError if it is no run folder at all."""
    if studies := [cell.path.name for cell in home.cells()]:
        return f"Name one of its {', '.join(studies)}."
    run = find(home.path)
    lacking = [str(n) for n in range(len(run.folds)) if not home.fold(n).maps.exists()]
    if not lacking:
        return f"Its {len(run.folds)} folds have their anomaly maps: run `leanet detect {home.path}`."
    return (
        f"Of its {len(run.folds)} folds, {', '.join(lacking)} have no anomaly maps yet: "
        "go on with the same command as before."
    )


def finished(config: DetectConfig) -> tuple[Experiment, dict[int, list[str]]]:
    """What of a run can be shown: folds with at least the first seed, the baseline where it has that for all folds
    and was trained with the same options, and as many seeds as all of these have.

    Args:
        config: what was asked for, as `recorded_detector` has it.
    Returns:
        that much, and what else was asked for and is missing: fold -> files.
    Raises:
        UserError: as `source_of`.
    """
    d, run = config.detector, source_of(RunFolder(config.home))

    def lacking(detector: DetectorConfig, fold: int, seed: int) -> list[str]:
        task = TrainDetector(replace(config, detector=detector), fold, seed)
        if not run.folder.fold(fold).maps.exists():
            return [f"{fold}/maps.zarr"]
        if files := task.folder.lacking():
            return [f"{fold}/{task.folder.path.name}/{name}" for name in files]
        difference = task.made_otherwise(run)
        return [f"{fold}/{task.folder.path.name} of these options (made with {difference})"] if difference else []

    folds = tuple(n for n in range(len(run.folds)) if not lacking(d, n, 0))
    enough = range(1 if config.compare else d.seeds)  # one that nobody asked for takes no seed away
    has_baseline = d.has_attention and not any(lacking(d.baseline(), n, s) for n in folds for s in enough)
    shown, seeds = d.beside_baseline(has_baseline), 1
    while seeds < d.seeds and not any(lacking(each, n, seeds) for each in shown for n in folds):
        seeds += 1
    wanted, asked = d.beside_baseline(config.compare), parse_folds(config.compute.folds, len(run.folds))
    missing = {n: [f for each in wanted for s in range(d.seeds) for f in lacking(each, n, s)] for n in asked}
    there = replace(config, detector=replace(d, seeds=seeds), compare=has_baseline)
    return Experiment(run, there, folds), {n: list(dict.fromkeys(files)) for n, files in missing.items() if files}


def what_is_missing(missing: Mapping[int, Sequence[str]]) -> str:
    """The folds that lack something, in words."""
    parts = [
        f"fold {n} lacks {files[0]}" + (f" and {len(files) - 1} more" if files[1:] else "")
        for n, files in missing.items()
    ]
    return "; ".join(parts) + "."
