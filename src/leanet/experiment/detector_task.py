"""The task of stage 2: a LEA-Net trained on a fold's images and anomaly maps, its predictions and metrics."""

from __future__ import annotations

import dataclasses
import hashlib
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import log_loss
from torch import Tensor, nn

from leanet.config import ColorizerConfig, DataConfig, DetectConfig, DetectorConfig, RecipeName
from leanet.config.options import from_options, to_options
from leanet.data.tensors import images_to_tensor
from leanet.errors import DamagedError
from leanet.experiment.feature_task import ComputeFeatures
from leanet.experiment.map_reader import ReadMaps, map_reader, map_scale
from leanet.experiment.open_run import FREE_TO_CHANGE, Run, differing_option
from leanet.experiment.predictions import write_labelled, write_predictions
from leanet.experiment.run_folder import DetectorFolder, RunFolder, write_config, write_history
from leanet.experiment.table import adn_scored, outcome
from leanet.experiment.tasks import Worker, fingerprint_of
from leanet.experiment.training_set import TrainingSet, all_labelled, divide
from leanet.files import write_json
from leanet.networks.leanet import LEANet, LEANetOutput, probability
from leanet.networks.registry import CAANS, build_leanet, find_adn
from leanet.ranks import is_first
from leanet.reading import sha256_of
from leanet.results.metrics import Scored, metric_text, score
from leanet.training.checkpoint import Checkpoint, save_weights
from leanet.training.compute import Compute, resolve
from leanet.training.detection import RECIPES, DetectionData, authors_loss, class_weights, loss
from leanet.training.head import fit_head
from leanet.training.loop import Loss, train
from leanet.training.prediction import predictor
from leanet.training.processes import wait_for_all
from leanet.training.recipe import Recipe

_log = logging.getLogger(__name__)

PREDICTION_BATCH = 32


@dataclass(frozen=True)
class TrainDetector:
    """Train a detector on a fold, with one of the seeds; predict the test images and what was held out.

    Attributes:
        config: the stage's options, resolved.
        fold, seed: which fold, and which of the seeds, counted from 0.
        until: leave the schedule after this share of its epochs.
    """

    config: DetectConfig
    fold: int
    seed: int
    until: float = 1.0

    def __str__(self) -> str:
        return f"fold {self.fold}" + (f", seed {self.seed}" if self.seed else "")

    @property
    def key(self) -> str:
        place = f"{self.config.out.name}, " if self.config.out else ""  # a study has more of the same name
        return f"{place}{self}: {self.config.detector.name}"

    @property
    def needs(self) -> tuple[str, ...]:
        maps = (f"fold {self.fold}: maps",)
        return (*maps, self.features.key) if self.config.detector.has_frozen_adn else maps

    @property
    def features(self) -> ComputeFeatures:
        """The task that computes what a head is fitted to, if the ADN is frozen."""
        return ComputeFeatures(self.config, (self.fold,))

    @property
    def folder(self) -> DetectorFolder:
        """Where the detector is written to."""
        return RunFolder(self.config.home).fold(self.fold).detector(self.config.detector.name_with(self.seed))

    @property
    def recipe(self) -> Recipe:
        """How it is trained."""
        return dataclasses.replace(recipe_of(self.config.detector, self.config.compute.recipe), until=self.until)

    def images(self, run: Run) -> TrainingSet:
        """What it learns from."""
        if self.config.detector.has_frozen_adn:
            return all_labelled(self.config, run, self.fold, self.seed)
        return divide(self.config, run, self.fold, self.seed)

    def read_maps(self, run: Run) -> ReadMaps:
        """The reader of the anomaly maps that it learns from and predicts with."""
        return map_reader(run.maps(self.fold), map_scale(self.config))

    def cost(self, worker: Worker) -> int:
        if self.config.detector.has_frozen_adn:
            return 0
        return self.recipe.image_passes_for(len(self.images(worker.run_at(self.config.run)).train))

    def done(self, worker: Worker) -> bool:
        """Whether the detector has all its files, these are whole, and its maps are those it was trained on."""
        run, folder = worker.run_at(self.config.run), self.folder
        try:
            if folder.lacking() or self.is_of_earlier_maps(run):
                return False
            outcome(run, folder, self.fold)
        except DamagedError:
            return False
        return True

    def is_of_earlier_maps(self, run: Run) -> bool:
        """Whether the detector's maps were made again since, by the same options of the same images, and differ a
        little.

        That is so where the maps or their colorizer were damaged, and another machine, or number of threads, made
        them again. Earlier versions did not record what tells that from other maps.
        """
        recorded, facts = self.folder.read_config().get("recorded", {}), self._facts(run)
        if recorded.get("maps", facts["maps"]) == facts["maps"]:
            return False
        same = {"side": facts["side"], "maps_made_from": _maps_made_from(run, self.fold)}
        return all(recorded.get(name) == value for name, value in same.items())

    def made_otherwise(self, run: Run) -> str | None:
        """What the detector was made with that these options, resolved, do not say; None if all agree."""
        before, options = self.folder.read_config(), to_options(self.config)
        recorded = before.get("recorded", {})
        if any(recorded.get(key, value) != value for key, value in self._facts(run).items()):
            return "other images or anomaly maps than this run's"
        d, unsaid = self.config.detector, {"weights": None} if before else {}
        if before and (was := from_options(DetectorConfig, before).ignores_light) != d.ignores_light:
            return f"--light {_light(was)}, now {_light(d.ignores_light)}"
        before, options = ({k: v for k, v in each.items() if k != "light"} for each in (before, options))
        # The recipe before all else: where it differs, it may be why the maps' scale does.
        return differing_option(unsaid | before, {"recipe": options["recipe"], **unsaid, **options})

    def run(self, worker: Worker) -> None:
        if self.config.detector.has_frozen_adn:
            self._fit_head(worker.run_at(self.config.run))
        else:
            self._train(worker)

    def _fit_head(self, run: Run) -> None:
        """Fit a head to the frozen ADN's features; what is held out is every labeled image, out of fold."""
        compute, d, folder = resolve(self.config.compute, 0).in_float32(), self.config.detector, self.folder
        if is_first():
            images, parts, started = self.images(run), self.features.read(run, self.fold), time.monotonic()
            rows, test = images.train, run.rows(run.folds[self.fold].test)
            seed = self.config.compute.seed + self.seed
            known = {name: values[rows] for name, values in parts.items()}
            changes = self.features.read_changes(run, self.fold) if d.ignores_light else None
            fitted = fit_head(known, run.labels[rows], run.groups_of(rows), d.p_rate, seed, changes)
            self._record(run, compute, self._facts(run))
            torch.manual_seed(seed)  # the ADN's own head is drawn, and stored, though it does not decide
            model = build_detector(d, run.side, initial_weights(d))
            assert model.head is not None, "a frozen ADN has one"
            model.head.set(torch.from_numpy(fitted.weight), fitted.bias)
            write_labelled(folder.labelled, run, rows)
            with torch.inference_mode():
                described = torch.from_numpy(np.concatenate([values[test] for values in parts.values()], 1))
                said = probability(model.head.logits(described)).numpy()
            write_predictions(folder.predictions, run, self.fold, test, said, None)
            if fitted.unseen is None:
                images = dataclasses.replace(images, validation=rows[:0])
            else:
                write_predictions(folder.validation, run, self.fold, rows, fitted.unseen, None)
            history = [{"epoch": 1.0, "seconds": time.monotonic() - started}]
            write_history(folder.history, history)
            save_weights(model, folder.weights)
            self._score(run, images, history, parts=fitted.parts, shrinkage=fitted.shrinkage)
        wait_for_all(compute.device)

    def _train(self, worker: Worker) -> None:
        """Train the network, and predict with it."""
        run, config = worker.run_at(self.config.run), self.config
        compute = resolve(config.compute, 0)  # compiled detectors are slower: see docs/explanation/performance.md
        images, folder = self.images(run), self.folder
        read_maps, facts = self.read_maps(run), self._facts(run)
        if is_first():
            self._record(run, compute, facts)
        checkpoint = Checkpoint(
            folder.checkpoint,
            fingerprint_of({**to_options(config), "which": self.seed, **facts}, run, images.train, compute),
            config.compute.checkpoint_seconds,
        )
        d, recipe, held = config.detector, self.recipe, images.validation
        engine = worker.engines.get(
            ("detector", dataclasses.replace(d, seeds=1), run.side, config.compute.recipe),
            lambda: build_detector(d, run.side, initial_weights(d)),
            _loss(d, recipe),
            compute,
        )

        def on_images(n: int, loss_now: float) -> None:
            worker.on_images(n, f"{self}, loss {loss_now:.3f}")

        def validate(model: nn.Module) -> float:
            adn, _ = predict(partial(_forward, model, compute), run.pixels, read_maps, held)
            known = run.labels[held]
            counts = class_weights(known, run.labels[images.train]) if recipe.balance else None
            return float(log_loss(known, adn, labels=[0, 1], sample_weight=counts))

        data = DetectionData(run.pixels, read_maps, run.labels, images.train, recipe)
        seed = config.compute.seed * 1000 + self.fold + 1_000_000 * self.seed
        history = train(engine, data, recipe, seed, checkpoint, on_images, validate if len(held) else None)
        if is_first():
            write_history(folder.history, history)
            save_weights(engine.bare_model, folder.weights)
            write_labelled(folder.labelled, run, images.labelled)
            self._predict(run, predictor(engine.bare_model, compute.in_float32()), read_maps, images)
            self._score(run, images, history)
            checkpoint.remove()
        wait_for_all(compute.device)

    def _facts(self, run: Run) -> dict[str, Any]:
        """What the detector is made from besides its options: the side of the images, and which anomaly maps."""
        maps = run.maps(self.fold).identity if self.config.detector.has_attention else None
        facts = {"side": run.side, "maps": maps}
        weights = Path(self.config.detector.weights or "")
        return {**facts, "weights_sha256": sha256_of(weights)} if weights.is_file() else facts

    def _record(self, run: Run, compute: Compute, facts: Mapping[str, Any]) -> None:
        """Write down what the detector is made with."""
        recorded = {
            "fold": self.fold,
            "seed": self.seed,
            "compute": str(compute),
            "maps_made_from": _maps_made_from(run, self.fold),
            **facts,
        }
        write_config(self.folder.config, to_options(self.config), recorded)

    def _predict(
        self, run: Run, model: Callable[[Tensor, Tensor], LEANetOutput], read_maps: ReadMaps, images: TrainingSet
    ) -> None:
        """Write what the detector says of the fold's test images, and of those held out."""
        test = run.rows(run.folds[self.fold].test)
        for path, rows in ((self.folder.predictions, test), (self.folder.validation, images.validation)):
            if len(rows):
                write_predictions(path, run, self.fold, rows, *predict(model, run.pixels, read_maps, rows))

    def _score(
        self, run: Run, images: TrainingSet, history: Sequence[Mapping[str, float]], **chosen: object
    ) -> None:
        """Write the metrics, and what else was chosen, last: where they are, the detector is done."""
        found, labelled, held = outcome(run, self.folder, self.fold), images.labelled, images.validation
        adn = score(adn_scored(found, self.config.detector))
        write_json(
            self.folder.metrics,
            {
                "train": {"images": len(labelled), "anomalous": int(run.labels[labelled].sum())},
                "validation": {"images": len(held), "anomalous": int(run.labels[held].sum())},
                "epoch": _epoch_kept(history),
                **chosen,
                "adn": asdict(adn),
                "caan": None
                if found.test.caan is None
                else asdict(score(Scored(found.test.labels, found.test.caan))),
                "sha256": self.folder.hashes(),
            },
        )
        if run.keeps_test_apart(self.fold):
            numbers = f"F1 {metric_text(adn.f1)} ({adn.prevalence:.0%} anomalous), AUROC {metric_text(adn.auroc)}"
            _log.info(f"{self.config.detector.name} {self}: {numbers}")


def _light(ignored: bool) -> str:
    return "ignored" if ignored else "as-taken"


def build_detector(detector: DetectorConfig, side: int, weights: str | None = None) -> LEANet:
    """The LEA-Net, or the plain ADN, with new weights, or with the ADN's `initial_weights`."""
    d = detector
    tune = d.tune or "all"
    return build_leanet(d.adn, d.caan, d.attention_point, side, d.attention, weights or "none", tune)


def initial_weights(detector: DetectorConfig) -> str | None:
    """What a new detector's ADN starts from: 'imagenet', 'none' or a file; None where it has no choice."""
    if find_adn(detector.adn).pretrained:
        return detector.weights or "imagenet"
    return None if detector.weights == "none" else detector.weights


def recipe_of(detector: DetectorConfig, recipe: RecipeName) -> Recipe:
    """The recipe with the user's own numbers in it."""
    chosen = RECIPES[recipe].override(detector.epochs, detector.batch_size, detector.lr)
    return dataclasses.replace(chosen, other_light=detector.ignores_light)


def _forward(model: nn.Module, compute: Compute, images: Tensor, maps: Tensor) -> LEANetOutput:
    with torch.inference_mode(), torch.autocast(compute.device.type, torch.bfloat16, enabled=compute.bfloat16):
        output: LEANetOutput = model(images.to(compute.device), maps.to(compute.device))
    return output


def _epoch_kept(history: Sequence[Mapping[str, float]]) -> int:
    """The epoch, from 1, whose weights were kept: the one with the lowest validation loss, or the last."""
    best = min(history, key=lambda row: row.get("validation_loss", -row["epoch"]))
    return int(best["epoch"])


def _loss(d: DetectorConfig, recipe: Recipe) -> Loss:
    if not recipe.published:
        return partial(loss, caan_weight=d.caan_weight)
    caan_activation = CAANS[d.caan].activation if d.has_attention else ""
    return authors_loss(find_adn(d.adn).activation, caan_activation, caan_weight=d.caan_weight)


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


def _maps_made_from(run: Run, number: int) -> str:
    """A hash of all that decides over a fold's maps but rounding: images, split, pixels and stage 1's options."""
    options = run.folder.read_config()
    of_stage = {f.name for part in (ColorizerConfig, DataConfig) for f in dataclasses.fields(part)}
    decisive = (of_stage | {"seed", "recipe"}) - FREE_TO_CHANGE
    kept = sorted((k, str(v)) for k, v in options.items() if k in decisive)
    return hashlib.sha256(repr((run.fingerprint(number), run.side, kept)).encode()).hexdigest()
