"""Stage 2 over the folds: LEA-Nets trained on images and anomaly maps, their predictions and metrics."""

from __future__ import annotations

import csv
import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from leanet.color.anomaly_map import scale_map
from leanet.data.splits import keep_share_of_positives
from leanet.errors import UserError
from leanet.experiment.colorize import PREDICTION_BATCH, fingerprint_of, image_passes_of, shift
from leanet.experiment.display import note, progress_bar
from leanet.experiment.evaluate import Row, make_row, score
from leanet.experiment.open_run import Run, differing_option, find, record
from leanet.experiment.run_folder import (
    DetectorFolder,
    Maps,
    RunFolder,
    read_config,
    write_config,
    write_csv,
    write_history,
    write_json,
    write_text,
)
from leanet.networks.leanet import LEANetOutput
from leanet.networks.registry import ADNS, CAANS, build_leanet
from leanet.settings import DetectConfig, RecipeName, parse_folds, to_options
from leanet.training.checkpoint import Checkpoint, save_weights
from leanet.training.colorization import images_to_tensor
from leanet.training.compute import find_device, resolve
from leanet.training.detection import RECIPES, DetectionData, authors_loss, loss, probability
from leanet.training.loop import Engine, Loss, train
from leanet.training.prediction import predictor
from leanet.training.processes import is_first, wait_for_all
from leanet.training.recipe import Recipe

_SCALES: dict[RecipeName, Literal["normals", "max"]] = {"leanet": "normals", "authors": "max"}
"""How anomaly maps are scaled unless --map-scale says otherwise."""

COLUMNS = ("file", "label", "fold", "adn_probability", "caan_probability", "prediction")


@dataclass(frozen=True)
class Predictions:
    """One fold's test predictions, from predictions.csv; `caan` is None for a detector without CAAN logits."""

    files: tuple[str, ...]
    labels: NDArray[np.int64]
    adn: NDArray[np.float64]
    caan: NDArray[np.float64] | None


def detect(config: DetectConfig) -> list[Row]:
    """Train the detector, and its baseline unless told not to, on the folds asked for; finished folds are skipped.

    Returns:
        The rows of the results table over the folds asked for; none but in the first of several processes.
    Raises:
        UserError: no run there, a fold without anomaly maps or with maps of another coding than asked for, or a
            detector made with other options.
    """
    run = find(config.run)
    config = resolved(config, run)
    folds = parse_folds(config.compute.folds, len(run.folds))
    for number in folds:
        run.maps(number)
    home = RunFolder(config.out) if config.out else run.folder
    configs = [config]
    if config.compare and config.detector.caan != "none":
        configs.append(dataclasses.replace(config, detector=config.detector.baseline()))
    for each in configs:
        for number in folds:
            _refuse_other_options(home.fold(number).detector(each.detector.name), to_options(each))
    if is_first():
        _prepare(home, config, run)
    for each in configs:
        _all_folds(each, run, home, folds)
    return [] if not is_first() else results(run, home, [each.detector.name for each in configs], folds)


def results(run: Run, home: RunFolder, detectors: Sequence[str], folds: Sequence[int]) -> list[Row]:
    """The results table: each detector's ADN and CAAN, and the mean ΔE of the anomaly map by itself."""
    rows: list[Row] = []
    for name in detectors:
        predictions = {n: _predictions_of(run, n, home.fold(n).detector(name)) for n in folds}
        title = f"{name} without attention" if "-" not in name else name
        rows.append(make_row(f"{title}: ADN", {n: (p.labels, p.adn) for n, p in predictions.items()}))
        caan = {n: (p.labels, p.caan) for n, p in predictions.items() if p.caan is not None}
        if caan:
            rows.append(make_row(f"{title}: CAAN", caan))
    by_fold = {}
    for number in folds:
        means = np.array(run.maps(number).attributes["mean_delta_e"])
        test = run.rows(run.folds[number].test)
        by_fold[number] = (run.labels[test], means[test])
    rows.append(make_row("mean ΔE of the anomaly map", by_fold, threshold=None))
    return rows


def _predictions_of(run: Run, number: int, folder: DetectorFolder) -> Predictions:
    """A fold's predictions, of exactly its test images."""
    predictions = read_predictions(folder.predictions)
    if predictions.files != run.folds[number].test:
        raise UserError(
            f"{folder.predictions}: not of this fold's test images. "
            f"Delete {folder.path} and run `leanet detect` again."
        )
    return predictions


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


def recipe_of(config: DetectConfig) -> Recipe:
    """The recipe with the user's own numbers in it."""
    d = config.detector
    return RECIPES[config.compute.recipe].override(d.epochs, d.batch_size, d.lr)


def _prepare(home: RunFolder, config: DetectConfig, run: Run) -> None:
    """Record the options in the folder that detectors are written to; into --out, copy what describes the run."""
    home.make()
    if config.out:
        for source, copy in ((run.folder.images, home.images), (run.folder.splits, home.splits)):
            text = source.read_text(encoding="utf-8")
            if copy.exists() and copy.read_text(encoding="utf-8") != text:
                raise UserError(
                    f"{home.path}: holds results of another run than {run.folder.path}. Choose another --out."
                )
            write_text(copy, text)
    # The run's own config keeps what its colorizers were made with; each detector's folder has its own config.
    stage1 = set() if config.out else set(to_options(config.compute))
    options = {k: v for k, v in to_options(config).items() if k not in {"run", "out"} | stage1}
    extra = {"maps_from": str(config.run.resolve())} if config.out else {}
    record(home, options, **extra)


def _all_folds(config: DetectConfig, run: Run, home: RunFolder, folds: Sequence[int]) -> None:
    name = config.detector.name
    folders = {n: home.fold(n).detector(name) for n in folds}
    to_do = [n for n in folds if not folders[n].metrics.exists()]
    if not to_do:
        note(f"{name}: all folds asked for are done already")
        return
    recipe = recipe_of(config)
    wait_for_all(find_device(config.compute.device))  # before anything is written that would change what is to do
    compute = resolve(config.compute, 0)  # compiled detectors are slower: see docs/performance.md
    images = [len(training_rows(config, run, n)) for n in to_do]
    note(f"{name}: {recipe.epochs_for(images[0])} epochs, {compute}")
    d = config.detector
    engine = Engine(
        lambda: build_leanet(d.adn, d.caan, d.attention_point, run.side),
        _loss(config),
        compute,
    )
    sizes = [image_passes_of(recipe, n) for n in images]
    with progress_bar(name, sum(sizes)) as set_done:
        for k, number in enumerate(to_do):
            _one_fold(
                config,
                run,
                number,
                folders[number],
                engine,
                recipe,
                partial(shift, set_done, sum(sizes[:k])),
            )


def _one_fold(
    config: DetectConfig,
    run: Run,
    number: int,
    folder: DetectorFolder,
    engine: Engine,
    recipe: Recipe,
    set_done: Callable[[int, str], None],
) -> None:
    read_maps = map_reader(run.maps(number), map_scale(config))
    rows = training_rows(config, run, number)
    options = to_options(config)
    if is_first():
        write_config(folder.config, options, {"fold": number, "compute": str(engine.compute)})
    checkpoint = Checkpoint(
        folder.checkpoint,
        fingerprint_of(options, run, rows, engine.compute),
        config.compute.checkpoint_seconds,
    )
    images = 0

    def on_images(n: int, loss_now: float) -> None:
        nonlocal images
        images += n
        set_done(images, f"fold {number}, loss {loss_now:.3f}")

    data = DetectionData(run.pixels, read_maps, run.labels, rows, augment=config.compute.recipe == "leanet")
    history = train(engine, data, recipe, config.compute.seed * 1000 + number, checkpoint, on_images)
    if not is_first():
        return
    write_history(folder.history, history)
    save_weights(engine.bare_model, folder.weights)
    test = run.rows(run.folds[number].test)
    adn, caan = predict(predictor(engine.bare_model, engine.compute), run.pixels, read_maps, test)
    _write_predictions(folder.predictions, run, number, test, adn, caan)
    p = read_predictions(folder.predictions)
    adn_scores = score(p.labels, p.adn)
    write_json(
        folder.metrics,
        {
            "train": {"images": len(rows), "anomalous": int(run.labels[rows].sum())},
            "adn": asdict(adn_scores),
            "caan": None if p.caan is None else asdict(score(p.labels, p.caan)),
        },
    )
    checkpoint.remove()
    note(f"{config.detector.name} fold {number}: F1 {shown(adn_scores.f1)}, AUROC {shown(adn_scores.auroc)}")


def _loss(config: DetectConfig) -> Loss:
    if config.compute.recipe == "leanet":
        return loss
    d = config.detector
    return authors_loss(ADNS[d.adn].activation, "" if d.caan == "none" else CAANS[d.caan].activation)


def shown(value: float | None) -> str:
    """A metric for a table; an undefined one is called so."""
    return "undefined" if value is None else f"{value:.4f}"


def training_rows(config: DetectConfig, run: Run, number: int) -> NDArray[np.int64]:
    """Rows of a fold's training images, with the share of anomalies that --p-rate keeps."""
    files = run.folds[number].train
    labels = run.labels[run.rows(files)].tolist()
    return run.rows(keep_share_of_positives(files, labels, config.detector.p_rate, config.compute.seed))


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
        adn.append(probability(output.adn_logits).cpu().numpy())
        if output.caan_logits is not None:
            caan.append(probability(output.caan_logits).cpu().numpy())
    return np.concatenate(adn), np.concatenate(caan) if caan else None


def read_predictions(path: Path) -> Predictions:
    """Read a predictions.csv.

    Raises:
        UserError: it is missing: the fold is not done.
    """
    if not path.exists():
        raise UserError(f"{path}: no predictions yet. Run `leanet detect` for this fold.")
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        caan = [row["caan_probability"] for row in rows]
        return Predictions(
            tuple(row["file"] for row in rows),
            np.array([int(row["label"]) for row in rows]),
            np.array([float(row["adn_probability"]) for row in rows]),
            np.array([float(p) for p in caan]) if all(caan) else None,
        )
    except (KeyError, TypeError, ValueError, OSError):
        raise UserError(f"{path}: damaged. Delete {path.parent} and run `leanet detect` again.") from None


def _write_predictions(
    path: Path,
    run: Run,
    number: int,
    rows: NDArray[np.int64],
    adn: NDArray[np.float64],
    caan: NDArray[np.float64] | None,
) -> None:
    lines = []
    for i, row in enumerate(rows):
        image = run.images[row]
        second = "" if caan is None else f"{caan[i]:.10g}"
        lines.append((image.file, image.label, number, f"{adn[i]:.10g}", second, int(adn[i] >= 0.5)))
    write_csv(path, COLUMNS, lines)


def _refuse_other_options(folder: DetectorFolder, options: dict[str, Any]) -> None:
    # The recipe before all else: where it differs, it may be why the maps' scale does.
    difference = differing_option(read_config(folder.config), {"recipe": options["recipe"], **options})
    if difference:
        raise UserError(
            f"{folder.path}: this detector was made with {difference}. Repeat its options, or pass another --out."
        )
