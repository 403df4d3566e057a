"""Stage 2 over the folds: LEA-Nets trained on images and anomaly maps, their predictions and metrics."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import log_loss
from torch import Tensor, nn

from leanet.color.anomaly_map import scale_map
from leanet.config import (
    ColorizerConfig,
    DataConfig,
    DetectConfig,
    DetectorConfig,
    RecipeName,
    parse_folds,
)
from leanet.config.options import from_options, to_options
from leanet.console import note, progress_bar
from leanet.errors import DamagedError, UserError
from leanet.experiment.colorize import PREDICTION_BATCH, fingerprint_of, image_passes_of, shift
from leanet.experiment.open_run import (
    FREE_TO_CHANGE,
    Run,
    differing_option,
    find,
    record,
    refuse_among_images,
    write_images,
)
from leanet.experiment.predictions import write_predictions
from leanet.experiment.run_folder import (
    DetectorFolder,
    RunFolder,
    amend_config,
    write_config,
    write_history,
)
from leanet.experiment.table import Table, adn_scored, outcome, table
from leanet.experiment.training_set import TrainingSet, divide, validation_share
from leanet.files import LARGEST, write_bytes, write_json
from leanet.lock import alone_in
from leanet.maps.store import Maps
from leanet.networks.leanet import LEANet, LEANetOutput, probability
from leanet.networks.registry import ADNS, CAANS, build_leanet
from leanet.ranks import is_first
from leanet.reading import read_bytes
from leanet.results.metrics import FEWEST_POSITIVES, Scored, metric_text, score
from leanet.results.words import explain
from leanet.training.checkpoint import Checkpoint, save_weights
from leanet.training.colorization import images_to_tensor
from leanet.training.compute import Compute, find_device, resolve
from leanet.training.detection import RECIPES, DetectionData, authors_loss, class_weights, loss
from leanet.training.loop import Engine, Loss, train
from leanet.training.prediction import predictor
from leanet.training.processes import wait_for_all
from leanet.training.recipe import Recipe

_SCALES: dict[RecipeName, Literal["normals", "max"]] = {"leanet": "normals", "authors": "max"}
"""How anomaly maps are scaled unless --map-scale says otherwise."""


def detect(config: DetectConfig) -> Table:
    """Train the detector, and its baseline unless told not to, on the folds asked for; finished folds are skipped.

    Returns:
        The results over the folds asked for; no rows but in the first of several processes.
    Raises:
        UserError: no run there, a fold without anomaly maps or with maps of another coding than asked for, or a
            detector made with other options; or another process works in the folder that is written to.
    """
    run, home, config, folds = train_detectors(config)
    return table(run, home, config, folds) if is_first() else Table((), ())


def train_detectors(config: DetectConfig) -> tuple[Run, RunFolder, DetectConfig, tuple[int, ...]]:
    """Do as `detect`, without the results: returns run, folder of the detectors, options resolved, and folds."""
    run = find(config.run)
    home = RunFolder(config.out) if config.out else run.folder
    with alone_in(home.path):
        return _train_detectors(config, run, home)


def _train_detectors(
    config: DetectConfig, run: Run, home: RunFolder
) -> tuple[Run, RunFolder, DetectConfig, tuple[int, ...]]:
    config = resolved(config, run)
    folds = parse_folds(config.compute.folds, len(run.folds))
    for number in folds:
        run.maps(number)
    detectors = config.detector.beside_baseline(config.compare)
    configs = [dataclasses.replace(config, detector=detector) for detector in detectors]
    for each in configs:
        for number in folds:
            for seed in range(each.detector.seeds):
                folder = home.fold(number).detector(each.detector.name_with(seed))
                if of_earlier_maps(folder, each, run, number):
                    continue
                if difference := made_otherwise(folder, each, run, number):
                    raise UserError(
                        f"{folder.path}: this detector was made with {difference}. Repeat its options, delete it, "
                        "or choose another --out."
                    )
    if is_first():
        _prepare(home, config, run)
    # Seed by seed: stopped early, there are whole results of the seeds before, beside their baseline's.
    for seed in range(config.detector.seeds):
        for each in configs:
            train_folds(each, run, home, folds, seeds=[seed])
    return run, home, config, folds


def resolved(config: DetectConfig, run: Run) -> DetectConfig:
    """The options with what the run and the recipe decide filled in: the anomaly maps' coding and scale.

    Raises:
        UserError: another coding than the run's was asked for.
    """
    if config.map_coding not in (None, run.map_coding):
        raise UserError(
            f"--map-coding {config.map_coding}: the anomaly maps of {run.folder.path} were made with --map-coding "
            f"{run.map_coding}. Leave the option out, or make another run with `leanet colorize --map-coding "
            f"{config.map_coding}`."
        )
    scale = None if config.detector.caan == "none" else map_scale(config)  # the baseline looks at no maps
    detector = dataclasses.replace(config.detector, map_scale=scale)
    return dataclasses.replace(config, detector=detector, map_coding=run.map_coding)


def build_detector(detector: DetectorConfig, side: int) -> LEANet:
    """The LEA-Net, or the plain ADN, with new weights."""
    return build_leanet(detector.adn, detector.caan, detector.attention_point, side, detector.attention)


def recipe_of(detector: DetectorConfig, recipe: RecipeName) -> Recipe:
    """The recipe with the user's own numbers in it."""
    return RECIPES[recipe].override(detector.epochs, detector.batch_size, detector.lr)


def _prepare(home: RunFolder, config: DetectConfig, run: Run) -> None:
    """Record the options in the folder that detectors are written to; into --out, copy what describes the run."""
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
    # The run's own config keeps what its colorizers were made with; each detector's folder has its own config.
    stage1 = set() if config.out else set(to_options(config.compute))
    options = {k: v for k, v in to_options(config).items() if k not in {"run", "out"} | stage1}
    extra = {"maps_from": str(config.run.resolve())} if config.out else {}
    record(home, options, **extra)


def train_folds(
    config: DetectConfig,
    run: Run,
    home: RunFolder,
    folds: Sequence[int],
    until: float = 1.0,
    seeds: Sequence[int] = (0,),
) -> None:
    """Train one detector on the folds asked for, with some of the seeds; what is finished is skipped.

    Args:
        config: with the options resolved.
        home: the folder that detectors are written to.
        until: leave the schedule after this share of its epochs.
        seeds: which, counted from 0.
    """
    name = config.detector.name + (f", seed {', '.join(map(str, seeds))}" if any(seeds) else "")
    trainings = [Training(n, s, home.fold(n).detector(config.detector.name_with(s))) for s in seeds for n in folds]
    to_do = [t for t in trainings if not is_done(t, config, run)]
    of_earlier = [t for t in to_do if of_earlier_maps(t.folder, config, run, t.fold)]
    for training in to_do:
        if training in of_earlier:
            note(f"note: {training.folder.path}: its anomaly maps were made anew; this detector is trained anew")
        elif training.folder.metrics.exists():  # written last
            note(f"note: {training.folder.path}: damaged or incomplete; this detector is trained anew")
    if is_first():
        for training in (t for t in trainings if t not in to_do):
            _choose_again(config, run, training)
    if not to_do:
        note(f"{name}: all folds asked for are done already")
        return
    recipe = dataclasses.replace(recipe_of(config.detector, config.compute.recipe), until=until)
    device = find_device(config.compute.device)
    wait_for_all(device)  # before anything is written that would change what is to do
    if is_first():
        for training in to_do:
            training.folder.metrics.unlink(missing_ok=True)  # the folder counts as done once this is there
        for training in of_earlier:
            training.folder.checkpoint.unlink(missing_ok=True)
    wait_for_all(device)
    compute = resolve(config.compute, 0)  # compiled detectors are slower: see docs/explanation/performance.md
    sets = [divide(config, run, t.fold, t.seed) for t in to_do]
    held_out = _validation_note(config, run.labels, sets)
    explain("F1", "AUROC")
    note(f"{name}: {recipe.last_epoch_for(len(sets[0].train))} epochs, {held_out}, {compute}")
    d = config.detector
    engine = Engine(
        lambda: build_detector(d, run.side),
        _loss(config),
        compute,
    )
    sizes = [image_passes_of(recipe, len(s.train)) for s in sets]
    with progress_bar(name, sum(sizes)) as set_done:
        for k, (training, images) in enumerate(zip(to_do, sets, strict=True)):
            _train(config, run, training, images, engine, recipe, partial(shift, set_done, sum(sizes[:k])))


@dataclass(frozen=True)
class Training:
    """One detector to train: its fold, which of the seeds, and its folder."""

    fold: int
    seed: int
    folder: DetectorFolder

    def __str__(self) -> str:
        return f"fold {self.fold}" + (f", seed {self.seed}" if self.seed else "")


def is_done(training: Training, config: DetectConfig, run: Run) -> bool:
    """Whether a detector has all its files, these are whole, and its anomaly maps are those it was trained on."""
    try:
        if training.folder.lacking() or of_earlier_maps(training.folder, config, run, training.fold):
            return False
        outcome(run, training.folder, training.fold)
    except DamagedError:
        return False
    return True


def _choose_again(config: DetectConfig, run: Run, training: Training) -> None:
    """Give a finished detector the threshold of another --target-recall."""
    folder, recall = training.folder, config.detector.target_recall
    if folder.read_config().get("target_recall") == recall:
        return
    adn = score(adn_scored(outcome(run, folder, training.fold), config.detector))
    write_json(folder.metrics, folder.read_metrics() | {"adn": asdict(adn)})
    amend_config(folder.config, target_recall=recall)


def _validation_note(config: DetectConfig, labels: NDArray[np.int64], sets: Sequence[TrainingSet]) -> str:
    sizes = [len(s.validation) for s in sets if len(s.validation)]
    if sizes:
        few = "" if len(sizes) == len(sets) else f" in {len(sizes)} of {len(sets)} trainings"
        enough = all(int(labels[s.validation].sum()) >= FEWEST_POSITIVES for s in sets)
        chosen = "epoch and threshold" if enough else "the epoch, and the threshold where enough are anomalous"
        return f"about {round(sum(sizes) / len(sizes))} images held out to choose {chosen}{few}"
    if validation_share(config):
        return f"threshold 0.5 and last epoch, for fewer than {FEWEST_POSITIVES} anomalous images could be held out"
    return "threshold 0.5 and last epoch"


def _train(
    config: DetectConfig,
    run: Run,
    training: Training,
    images: TrainingSet,
    engine: Engine,
    recipe: Recipe,
    set_done: Callable[[int, str], None],
) -> None:
    folder, number = training.folder, training.fold
    read_maps = map_reader(run.maps(number), map_scale(config))
    options = to_options(config)
    facts = facts_of(config, run, number)
    if is_first():
        write_config(
            folder.config,
            options,
            {
                "fold": number,
                "seed": training.seed,
                "compute": str(engine.compute),
                "maps_made_from": _maps_made_from(run, number),
                **facts,
            },
        )
    checkpoint = Checkpoint(
        folder.checkpoint,
        fingerprint_of({**options, "which": training.seed, **facts}, run, images.train, engine.compute),
        config.compute.checkpoint_seconds,
    )
    done, ours = 0, config.compute.recipe == "leanet"

    def on_images(n: int, loss_now: float) -> None:
        nonlocal done
        done += n
        set_done(done, f"{training}, loss {loss_now:.3f}")

    def validate(model: nn.Module) -> float:
        adn, _ = predict(partial(_forward, model, engine.compute), run.pixels, read_maps, images.validation)
        held = run.labels[images.validation]
        counts = class_weights(held, run.labels[images.train]) if ours else None
        return float(log_loss(held, adn, labels=[0, 1], sample_weight=counts))

    data = DetectionData(run.pixels, read_maps, run.labels, images.train, augment=ours, balance=ours)
    seed = config.compute.seed * 1000 + number + 1_000_000 * training.seed
    held = images.validation
    history = train(engine, data, recipe, seed, checkpoint, on_images, validate if len(held) else None)
    if not is_first():
        return
    write_history(folder.history, history)
    save_weights(engine.bare_model, folder.weights)
    model = predictor(engine.bare_model, engine.compute.in_float32())
    for path, rows in ((folder.predictions, run.rows(run.folds[number].test)), (folder.validation, held)):
        if len(rows):
            write_predictions(path, run, number, rows, *predict(model, run.pixels, read_maps, rows))
    found = outcome(run, training.folder, number)
    adn = score(adn_scored(found, config.detector))
    labelled = images.labelled
    write_json(
        folder.metrics,
        {
            "train": {"images": len(labelled), "anomalous": int(run.labels[labelled].sum())},
            "validation": {"images": len(held), "anomalous": int(run.labels[held].sum())},
            "epoch": _epoch_kept(history),
            "adn": asdict(adn),
            "caan": None if found.test.caan is None else asdict(score(Scored(found.test.labels, found.test.caan))),
            "sha256": folder.hashes(),
        },
    )
    checkpoint.remove()
    if run.keeps_test_apart(number):
        numbers = f"F1 {metric_text(adn.f1)} ({adn.prevalence:.0%} anomalous), AUROC {metric_text(adn.auroc)}"
        note(f"{config.detector.name} {training}: {numbers}")


def _forward(model: nn.Module, compute: Compute, images: Tensor, maps: Tensor) -> LEANetOutput:
    with torch.inference_mode(), torch.autocast(compute.device.type, torch.bfloat16, enabled=compute.bfloat16):
        output: LEANetOutput = model(images.to(compute.device), maps.to(compute.device))
    return output


def _epoch_kept(history: Sequence[Mapping[str, float]]) -> int:
    """The epoch, from 1, whose weights were kept: the one with the lowest validation loss, or the last."""
    best = min(history, key=lambda row: row.get("validation_loss", -row["epoch"]))
    return int(best["epoch"])


def _loss(config: DetectConfig) -> Loss:
    d = config.detector
    if config.compute.recipe == "leanet":
        return partial(loss, caan_weight=d.caan_weight)
    caan_activation = "" if d.caan == "none" else CAANS[d.caan].activation
    return authors_loss(ADNS[d.adn].activation, caan_activation, caan_weight=d.caan_weight)


def map_scale(config: DetectConfig) -> Literal["normals", "max"]:
    """How anomaly maps are scaled: as asked for, or as the recipe has it."""
    return config.detector.map_scale or _SCALES[config.compute.recipe]


def map_reader(maps: Maps, scale: Literal["normals", "max"]) -> Callable[[NDArray[np.int64]], Tensor]:
    """A function from rows to scaled anomaly maps, float32 (N, 1, H, W)."""

    def read(rows: NDArray[np.int64]) -> Tensor:
        delta_e = torch.from_numpy(maps.delta_e(rows))[:, None]
        return scale_map(delta_e, scale, maps.normals_p99)

    return read


def predict(
    model: Callable[[Tensor, Tensor], LEANetOutput],
    pixels: NDArray[np.uint8],
    read_maps: Callable[[NDArray[np.int64]], Tensor],
    rows: NDArray[np.int64],
) -> tuple[NDArray[np.float64], NDArray[np.float64] | None]:
    """Probability of an anomaly of each of these rows, by the ADN and by the CAAN (None without its logits).

    Args:
        model: a LEA-Net, ready to predict.
        pixels: uint8 (N, H, W, 3), of every image of the data set.
        read_maps: rows -> scaled anomaly maps, float32 (n, 1, H, W).
        rows: which images.
    """
    adn, caan = [], []
    for start in range(0, len(rows), PREDICTION_BATCH):
        some = rows[start : start + PREDICTION_BATCH]
        output = model(images_to_tensor(pixels, some), read_maps(some))
        adn.append(probability(output.adn_logits).numpy())
        if output.caan_logits is not None:
            caan.append(probability(output.caan_logits).numpy())
    return np.concatenate(adn), np.concatenate(caan) if caan else None


def facts_of(config: DetectConfig, run: Run, number: int) -> dict[str, Any]:
    """What a detector is made from besides its options: the side of the images, and which anomaly maps."""
    maps = None if config.detector.caan == "none" else run.maps(number).identity
    return {"side": run.side, "maps": maps}


def of_earlier_maps(folder: DetectorFolder, config: DetectConfig, run: Run, number: int) -> bool:
    """Whether a detector's maps were made anew since, by the same options of the same images, and differ a little.

    That is so where the maps or their colorizer were damaged, and another machine, or number of threads, made them
    again. Earlier versions did not record what tells that from other maps.
    """
    recorded = folder.read_config().get("recorded", {})
    facts = facts_of(config, run, number)
    if recorded.get("maps", facts["maps"]) == facts["maps"]:
        return False
    same = {"side": facts["side"], "maps_made_from": _maps_made_from(run, number)}
    return all(recorded.get(name) == value for name, value in same.items())


def _maps_made_from(run: Run, number: int) -> str:
    """A hash of all that decides over a fold's maps but rounding: images, split, pixels and stage 1's options."""
    options = run.folder.read_config()
    of_stage = {f.name for part in (ColorizerConfig, DataConfig) for f in dataclasses.fields(part)}
    decisive = (of_stage | {"seed", "recipe"}) - FREE_TO_CHANGE
    kept = sorted((k, str(v)) for k, v in options.items() if k in decisive)
    return hashlib.sha256(repr((run.fingerprint(number), run.side, kept)).encode()).hexdigest()


def made_otherwise(folder: DetectorFolder, config: DetectConfig, run: Run, number: int) -> str | None:
    """What a fold's detector was made with that these options, resolved, do not say; None where all agree."""
    before, options = folder.read_config(), to_options(config)
    recorded = before.get("recorded", {})
    if any(recorded.get(key, value) != value for key, value in facts_of(config, run, number).items()):
        return "other images or anomaly maps than this run's"
    # The recipe before all else: where it differs, it may be why the maps' scale does.
    return differing_option(before, {"recipe": options["recipe"], **options})
