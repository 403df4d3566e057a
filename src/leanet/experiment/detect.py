"""Stage 2 over the folds: LEA-Nets trained on images and anomaly maps, their predictions and metrics."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from leanet.config import NO_CAAN, TIMM, DataConfig, DetectConfig, DetectorConfig, parse_folds
from leanet.config.options import from_options, to_options
from leanet.errors import OptionError, UserError
from leanet.experiment.detector_task import TrainDetector, build_detector, initial_weights
from leanet.experiment.executors.registry import executor
from leanet.experiment.experiment import Experiment
from leanet.experiment.feature_task import ComputeFeatures
from leanet.experiment.map_reader import map_scale
from leanet.experiment.open_run import Run, find, record, refuse_among_images, write_images
from leanet.experiment.run_folder import amend_config
from leanet.experiment.table import Table, adn_scored, outcome, table
from leanet.experiment.tasks import Executor, Task, Worker
from leanet.experiment.training_set import TrainingSet, validation_share
from leanet.files import LARGEST, write_bytes, write_json
from leanet.lock import alone_in
from leanet.networks.contract import point_of
from leanet.networks.registry import ADNS, CAANS, check_adn, find_adn
from leanet.ranks import is_first
from leanet.reading import read_bytes
from leanet.results.metrics import FEWEST_POSITIVES, score
from leanet.results.words import explain
from leanet.training.compute import find_device, resolve
from leanet.training.processes import wait_for_all

_log = logging.getLogger(__name__)


def detect(config: DetectConfig) -> Table:
    """Train the detector and, unless `compare` is off, its baseline on the requested folds; skip finished folds.

    Returns:
        The results over the requested folds; no rows except in the first of several processes.
    Raises:
        UserError: no run there, a fold without anomaly maps or with maps of another coding than requested, or a
            detector made with other options; or another process works in the folder that is written to.
    """
    experiment = train_detectors(config)
    return table(experiment) if is_first() else Table((), ())


def train_detectors(config: DetectConfig) -> Experiment:
    """Train as `detect` does, and return what was trained."""
    return next(train_each([config]))


def train_each(
    configs: Sequence[DetectConfig], announce: Callable[[int], None] = lambda _: None
) -> Iterator[Experiment]:
    """Train as `detect` does by each of these options, of one run; an executor may take the tasks of all at once.

    Args:
        announce: called with the number of each, before what is said of it.
    Yields:
        What was trained, in the order of the options: each when it is trained, or all at the end.
    """
    run, chosen = find(configs[0].run), executor(configs[0].compute)
    trained: list[Experiment] = []

    def offers_of(numbers: Iterable[int], locks: contextlib.ExitStack) -> Iterator[Offer]:
        for number in numbers:
            announce(number)
            locks.enter_context(alone_in(configs[number].home))
            trained.append(_prepared(configs[number], run))
            yield from _all_offers(trained[-1])

    together = [range(len(configs))] if chosen.at_once else [range(n, n + 1) for n in range(len(configs))]
    for numbers in together:
        with contextlib.ExitStack() as locks:
            execute(chosen, offers_of(numbers, locks), [run])
        yield from trained[numbers.start :]


def _prepared(config: DetectConfig, run: Run) -> Experiment:
    """The experiment of these options, resolved; its folder is ready."""
    config = resolved(config, run)
    experiment = Experiment(run, config, parse_folds(config.compute.folds, len(run.folds)))
    for number in experiment.folds:
        run.maps(number)
    experiments = experiment.beside_baseline()
    for task in (TrainDetector(each.config, n, s) for each in experiments for n, s in each.trainings):
        if not task.is_of_earlier_maps(run) and (difference := task.made_otherwise(run)):
            raise UserError(
                f"{task.folder.path}: this detector was made with {difference}. Use its options, delete it, "
                "or choose another --out."
            )
    if is_first():
        _prepare(experiment)
    return experiment


def _all_offers(experiment: Experiment) -> Iterator[Offer]:
    """The trainings of an experiment and its baseline.

    They come seed by seed: a stopped study has complete results of the earlier seeds, with their baselines.
    """
    for seed in range(experiment.detector.seeds):
        for each in experiment.beside_baseline():
            yield from offers(each, seed)


@dataclass(frozen=True)
class Offer:
    """Tasks that do not need each other, under the title of their progress."""

    title: str
    tasks: Sequence[Task]


def execute(chosen: Executor, offered: Iterable[Offer], runs: Sequence[Run]) -> None:
    """Execute offers all at once, if the executor can; else each is made when the one before is done."""
    if not chosen.at_once:
        for offer in offered:
            chosen.execute(offer.tasks, runs, offer.title)
        return
    if tasks := list(dict.fromkeys(task for offer in offered for task in offer.tasks)):
        chosen.execute(tasks, runs, "detectors")


def resolved(config: DetectConfig, run: Run) -> DetectConfig:
    """The options, completed by the run, the recipe and the ADN: the maps' coding and scale, the initial weights.

    Raises:
        UserError: another coding than the run's was requested, or see `refuse_unfit`.
    """
    if config.map_coding not in (None, run.map_coding):
        raise UserError(
            f"--map-coding {config.map_coding}: the anomaly maps of {run.folder.path} were made with --map-coding "
            f"{run.map_coding}. Omit the option, or make another run with `leanet colorize --map-coding "
            f"{config.map_coding}`."
        )
    refuse_unfit(config.detector, run.side)
    scale = map_scale(config) if config.detector.has_attention else None  # the baseline reads no maps
    detector = dataclasses.replace(config.detector, map_scale=scale, weights=initial_weights(config.detector))
    return dataclasses.replace(config, detector=detector, map_coding=run.map_coding)


def refuse_unfit(detector: DetectorConfig, side: int | None = None) -> None:
    """Raise UserError if a network is unknown, or lacks a requested attention point or loss.

    Args:
        side: of the images, which the ADN must take; None: whatever it was trained on.
    """
    if detector.adn not in ADNS and not detector.adn.startswith(TIMM):
        raise OptionError("adn", detector.adn, f"choose from {', '.join(ADNS)}, or {TIMM}NAME.")
    if detector.caan not in CAANS and detector.has_attention:
        raise OptionError("caan", detector.caan, f"choose from {', '.join((*CAANS, NO_CAAN))}.")
    try:
        adn = find_adn(detector.adn) if side is None else check_adn(detector.adn, side)
    except ValueError as error:
        raise OptionError("adn", detector.adn, str(error)) from None
    if detector.has_frozen_adn and (not adn.pretrained or detector.weights == "none"):
        raise OptionError(
            "tune", "head", "the ADN needs pretrained weights. Choose --adn EfficientNet-Lite0, or all."
        )
    if not detector.has_attention:
        return
    caan = CAANS[detector.caan]
    if detector.caan_weight != 1 and not caan.has_logits:
        raise OptionError(
            "caan_weight", f"{detector.caan_weight:g}", f"{detector.caan} has no loss. Omit the option."
        )
    shared = sorted({point_of(s) for s in adn.strides} & {point_of(s) for s in caan.strides})
    if wrong := sorted(set(detector.attention_point) - set(shared)):
        choice = " ".join(map(str, shared))
        networks = f"{detector.adn} with {detector.caan}"
        raise OptionError("attention_point", wrong[0], f"{networks} has the attention points {choice}.")


def refuse_unfit_weights(detector: DetectorConfig, side: int) -> None:
    """Raise OptionError if the ADN cannot start from the requested weights; they are fetched, or read, for that."""
    if weights := initial_weights(detector):
        build_detector(detector, side, weights)


def _prepare(experiment: Experiment) -> None:
    """Record the options in the detectors' folder; copy the run's images.csv and splits.json to --out."""
    run, home, config = experiment.run, experiment.home, experiment.config
    if config.out and run.images_in.is_absolute():  # an imported run has no folder of images
        refuse_among_images(config.out, run.images_in, from_options(DataConfig, run.folder.read_config()))
    home.refuse_others(len(run.folds))
    home.make()
    if config.out:
        splits = read_bytes(run.folder.splits, LARGEST)
        same_images = not home.images.exists() or tuple(home.read_images()) == run.images
        if not same_images or (home.splits.exists() and read_bytes(home.splits, LARGEST) != splits):
            raise UserError(
                f"{home.path}: holds results of another run than {run.folder.path}. Choose another --out."
            )
        write_images(home, run.images)
        write_bytes(home.splits, splits)
    # The run's own config keeps the options of its colorizers; each detector's folder has its own config.
    stage1 = set() if config.out else set(to_options(config.compute))
    options = {k: v for k, v in to_options(config).items() if k not in {"run", "out"} | stage1}
    extra = {"maps_from": str(config.run.resolve())} if config.out else {}
    record(home, options, **extra)


def train_folds(experiment: Experiment, until: float = 1.0) -> None:
    """Train one detector on the experiment's folds; skip what is finished.

    Args:
        until: stop the schedule after this share of its epochs.
    """
    execute(executor(experiment.config.compute), offers(experiment, until=until), [experiment.run])


def offers(experiment: Experiment, seed: int = 0, until: float = 1.0) -> Iterator[Offer]:
    """What to do to train one detector on the experiment's folds, with one of the seeds; without what is finished.

    What is said of a training is logged before it is offered.

    Args:
        experiment: its options name the run and the folder of the detectors.
        seed: which, counted from 0.
        until: stop the schedule after this share of its epochs.
    """
    run, config = experiment.run, experiment.config
    name = config.detector.name + (f", seed {seed}" if seed else "")
    worker = Worker({config.run: run})
    if config.detector.has_frozen_adn and not (features := ComputeFeatures(config, experiment.folds)).done(worker):
        if features.is_of_earlier_version(run):
            _log.info("note: finished heads are of an earlier version, and do not ignore other light; new ones do")
        yield Offer(f"features of {config.detector.adn}", [features])
    tasks = [TrainDetector(config, number, seed, until) for number in experiment.folds]
    to_do = [task for task in tasks if not task.done(worker)]
    of_earlier = [task for task in to_do if task.is_of_earlier_maps(run)]
    for task in to_do:
        if task in of_earlier:
            _log.info(f"note: {task.folder.path}: its anomaly maps were made again; this detector is trained again")
        elif task.folder.metrics.exists():  # written last
            _log.info(f"note: {task.folder.path}: damaged or incomplete; this detector is trained again")
    if is_first():
        for task in (task for task in tasks if task not in to_do):
            _choose_again(run, task)
    if not to_do:
        _log.info(f"{name}: all requested folds are already finished")
        return
    device = find_device(config.compute.device)
    wait_for_all(device)  # before any write that changes which tasks are open
    if is_first():
        for task in to_do:
            task.folder.metrics.unlink(missing_ok=True)  # with this file, the folder counts as finished
        for task in of_earlier:
            task.folder.checkpoint.unlink(missing_ok=True)
    wait_for_all(device)
    explain("F1", "AUROC")
    if config.detector.has_frozen_adn:
        _log.info(f"{name}: a head on frozen features, threshold by cross-validation of all labeled images")
        yield Offer(name, to_do)
        return
    sets = [task.images(run) for task in to_do]
    epochs = to_do[0].recipe.last_epoch_for(len(sets[0].train))
    _log.info(
        f"{name}: {epochs} epochs, {_validation_note(config, run.labels, sets)}, {resolve(config.compute, 0)}"
    )
    yield Offer(name, to_do)


def _choose_again(run: Run, task: TrainDetector) -> None:
    """Choose a finished detector's threshold again, for another --target-recall."""
    folder, detector = task.folder, task.config.detector
    if folder.read_config().get("target_recall") == detector.target_recall:
        return
    adn = score(adn_scored(outcome(run, folder, task.fold), detector))
    write_json(folder.metrics, folder.read_metrics() | {"adn": asdict(adn)})
    amend_config(folder.config, target_recall=detector.target_recall)


def _validation_note(config: DetectConfig, labels: NDArray[np.int64], sets: Sequence[TrainingSet]) -> str:
    sizes = [len(s.validation) for s in sets if len(s.validation)]
    if sizes:
        few = "" if len(sizes) == len(sets) else f" in {len(sizes)} of {len(sets)} trainings"
        enough = all(int(labels[s.validation].sum()) >= FEWEST_POSITIVES for s in sets)
        chosen = "epoch and threshold" if enough else "the epoch, and the threshold if enough are anomalous"
        return f"about {round(sum(sizes) / len(sizes))} images held out to choose {chosen}{few}"
    if validation_share(config):
        return f"threshold 0.5 and last epoch: fewer than {FEWEST_POSITIVES} anomalous images can be held out"
    return "threshold 0.5 and last epoch"
