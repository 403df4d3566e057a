"""What of a run's folder is finished, and with which options: all that can be shown of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from leanet.errors import UserError
from leanet.experiment.open_run import Run
from leanet.experiment.run_folder import RunFolder, read_config
from leanet.options import from_options
from leanet.settings import DetectConfig, DetectorConfig

NEEDED = ("weights.safetensors", "history.csv", "predictions.csv", "metrics.json")
"""What a finished detector's folder holds."""


def recorded_detector(home: RunFolder) -> DetectConfig:
    """The detector that was trained last in a folder, with the options that it was trained with.

    Raises:
        UserError: no detector was trained yet.
    """
    options = home.read_config()
    if "adn" not in options:
        studies = sorted(path.parent.name for path in home.path.glob("p-rate-*/config.yaml"))
        remedy = f"Name one of its {', '.join(studies)}." if studies else f"Run `leanet detect {home.path}`."
        raise UserError(f"{home.path}: no detector was trained in this folder. {remedy}")
    name = from_options(DetectConfig, options, run=home.path, out=None).detector.name
    own = next((read_config(path) for path in sorted(home.path.glob(f"*/{name}/config.yaml"))), {})
    latest: dict[str, object] = {key: options[key] for key in ("seeds", "target_recall") if key in options}
    return from_options(DetectConfig, {**options, **own, **latest}, run=home.path, out=None)


def finished(
    run: Run, home: RunFolder, config: DetectConfig
) -> tuple[DetectConfig, list[int], dict[int, list[str]]]:
    """What of a run can be shown: folds with at least the first seed, the baseline where it has that for all folds,
    and as many seeds as all of these have.

    Returns:
        the options for that much, its folds, and what else was asked for and is missing: fold -> files.
    """
    d, every = config.detector, range(len(run.folds))

    def lacking(detector: DetectorConfig, fold: int, seed: int) -> list[str]:
        folder = home.fold(fold).detector(detector.name_with(seed)).path
        maps = [] if run.folder.fold(fold).maps.exists() else [f"{fold}/maps.zarr"]
        return maps + [f"{fold}/{folder.name}/{name}" for name in NEEDED if not (folder / name).exists()]

    folds = [n for n in every if not lacking(d, n, 0)]
    has_baseline = d.caan != "none" and not any(lacking(d.baseline(), n, 0) for n in folds)
    shown, seeds = d.beside_baseline(has_baseline), 1
    while seeds < d.seeds and not any(lacking(each, n, seeds) for each in shown for n in folds):
        seeds += 1
    wanted = d.beside_baseline(config.compare)
    missing = {n: [f for each in wanted for s in range(d.seeds) for f in lacking(each, n, s)] for n in every}
    there = replace(config, detector=replace(d, seeds=seeds), compare=has_baseline)
    return there, folds, {n: list(dict.fromkeys(files)) for n, files in missing.items() if files}


def what_is_missing(missing: Mapping[int, Sequence[str]]) -> str:
    """The folds that lack something, in words."""
    parts = [
        f"fold {n} lacks {files[0]}" + (f" and {len(files) - 1} more" if files[1:] else "")
        for n, files in missing.items()
    ]
    return "; ".join(parts) + "."
