"""The tasks of stage 1: fit a fold's map source on its training normals, and make the maps of all images."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from leanet.config import ColorizeConfig
from leanet.config.maps import JOINED
from leanet.config.options import to_options
from leanet.errors import DamagedError, UserError
from leanet.experiment.description_task import descriptions_for, read_descriptions
from leanet.experiment.open_run import Run, normal_rows, parts_of_training_side
from leanet.experiment.run_folder import MapFolder, RunFolder, write_history
from leanet.experiment.tasks import Worker, fingerprint_of
from leanet.files import remove
from leanet.maps.registry import build_map_source, find_map_source, version_of
from leanet.maps.source import AnomalyMap, MapSource, Normals
from leanet.maps.sources.color import CHROMA
from leanet.maps.store import DELTA_E_STEP, Maps, MapWriter
from leanet.maps.summary import MapSummary
from leanet.ranks import is_first
from leanet.training.checkpoint import Checkpoint, is_whole, load_weights, made_from, save_weights
from leanet.training.compute import Compute, resolve, return_freed_memory
from leanet.training.prediction import predictor
from leanet.training.processes import wait_for_all
from leanet.training.session import Session

_log = logging.getLogger(__name__)

PREDICTION_BATCH = 32

Say = Callable[[str], None]


@dataclass(frozen=True)
class FitMap:
    """Fit the map source of a fold, or of an inner part of it.

    A training image's map is made by a source that has seen neither it nor its group, normal or anomalous alike:
    if the two classes' maps came from different sources, a detector could learn to tell these apart.

    Attributes:
        config: the stage's options.
        fold, part: the fold, and the inner part that is left out; None for the fold's own source.
    """

    config: ColorizeConfig
    fold: int
    part: int | None

    @property
    def key(self) -> str:
        return f"fold {self.fold}: {self.config.colorizer.map_source}" + (
            "" if self.part is None else f" without part {self.part}"
        )

    @property
    def needs(self) -> tuple[str, ...]:
        return tuple(task.key for task in descriptions_for(self.config))

    @property
    def folder(self) -> MapFolder:
        """Where the source is written to."""
        return _folder(self.config, self.fold)

    def normals(self, run: Run) -> NDArray[np.int64]:
        """The rows to learn from."""
        all_of_them = normal_rows(run, self.fold)
        return all_of_them if self.part is None else np.setdiff1d(all_of_them, self.mapped(run))

    def mapped(self, run: Run) -> NDArray[np.int64]:
        """The rows whose maps this source makes."""
        k, everything = self.config.colorizer.cross_fit, np.arange(len(run.images))
        if not k:
            return everything
        train = run.rows(run.folds[self.fold].train)
        if self.part is None:
            return np.setdiff1d(everything, train)
        unseen: NDArray[np.int64] = train[
            parts_of_training_side(run, self.fold, k, self.config.compute.seed) == self.part
        ]
        return unseen

    def cost(self, worker: Worker) -> int:
        return image_passes(self.config, len(self.normals(worker.run_at(self.config.out))))

    def done(self, worker: Worker) -> bool:
        """Whether the source is there, and learned from these images: the splits may have been edited since."""
        weights = self.folder.weights(self.part)
        if not weights.exists():
            return False
        if not is_whole(weights):
            _log.info(f"note: {weights}: damaged; this colorizer is trained again")
            return False
        run = worker.run_at(self.config.out)
        if made_from(weights) not in ("", images_of(self.normals(run), run)):
            _log.info(f"note: {weights}: trained on other images, or by another version; it is trained again")
            return False
        return True

    def run(self, worker: Worker) -> None:
        run, config, part = worker.run_at(self.config.out), self.config, self.part
        compute, rows = compute_of(config, run), self.normals(run)
        fingerprint = fingerprint_of(to_options(config), run, rows, compute)
        checkpoint = Checkpoint(self.folder.checkpoint(part), fingerprint, config.compute.checkpoint_seconds)
        seed = config.compute.seed * 1000 + self.fold + (0 if part is None else 1_000_000 * (part + 1))
        of_part = "" if part is None else f" part {part}"

        def on_images(images: int, loss: float) -> None:
            worker.on_images(images, f"fold {self.fold}{of_part}, loss {loss:.5f}")

        source = new_source(config, run)
        session = Session(config.compute.recipe, compute, seed, checkpoint, on_images, worker.engines)
        history = source.fit(Normals(run.pixels, rows, read_descriptions(run)), session)
        if is_first():
            remove(run.folder.fold(self.fold).maps)  # of another source; they are due again
            write_history(self.folder.history(part), history)
            save_weights(source.stored, self.folder.weights(part), images_of(rows, run))
            checkpoint.remove()
        wait_for_all(compute.device)


@dataclass(frozen=True)
class MakeMaps:
    """Make a fold's anomaly maps of all images by the sources that were fitted for them."""

    config: ColorizeConfig
    fold: int

    @property
    def key(self) -> str:
        return f"fold {self.fold}: maps"

    @property
    def needs(self) -> tuple[str, ...]:
        return (*self.sources[-1].needs, *(task.key for task in self.sources))

    @property
    def sources(self) -> list[FitMap]:
        """The fold's own source, last, and before it those of cross-fitting."""
        parts = range(self.config.colorizer.cross_fit)
        return [FitMap(self.config, self.fold, part) for part in (*parts, None)]

    def cost(self, worker: Worker) -> int:
        return len(worker.run_at(self.config.out).images)

    def done(self, worker: Worker) -> bool:
        return is_made(worker.run_at(self.config.out), self.fold, lambda _: None)

    def run(self, worker: Worker) -> None:
        if not is_first():
            return
        run = worker.run_at(self.config.out)
        source, compute = new_source(self.config, run).eval(), compute_of(self.config, run)
        writer = map_writer(run, self.fold, source)
        summary = map_summary(run, self.fold, source.step)
        return_freed_memory()  # of the trainings
        for task in self.sources:
            load_weights(source.stored, task.folder.weights(task.part))
            rows = task.mapped(run)
            write_maps(source, compute, run, rows, writer, summary)
            worker.on_images(len(rows), f"fold {self.fold}, maps")
        attributes = {**made_of(run, self.fold), **summary.attributes()}
        writer.close(attributes)
        for task in self.sources:
            task.folder.checkpoint(task.part).unlink(missing_ok=True)  # left by a kill after its weights were saved
            if task.part is not None:
                task.folder.weights(task.part).unlink()
        if run.keeps_test_apart(self.fold):
            _tell(self.fold, attributes, source.unit)


def made_of(run: Run, number: int) -> dict[str, str]:
    """What is stored with a fold's maps to tell from which images, split and coding they were made."""
    return {"coding": run.map_coding, "fingerprint": run.fingerprint(number)}


def map_summary(run: Run, number: int, step: float = DELTA_E_STEP) -> MapSummary:
    """A summary of a fold's maps, to take them in."""
    return MapSummary(run.labels, normal_rows(run, number), run.rows(run.folds[number].test), step)


def map_writer(run: Run, number: int, source: MapSource) -> MapWriter:
    """A writer of a fold's maps by a source."""
    path = run.folder.fold(number).maps
    return MapWriter(path, len(run.images), run.side, with_chroma=source.has_chroma, step=source.step)


def _tell(number: int, attributes: dict[str, object], unit: str) -> None:
    means = {name: attributes[name] for name in ("train_normals", "test_normals", "test_anomalies")}
    listed = ", ".join(
        f"{name.replace('train', 'training').replace('_', ' ')} {m:.2f}"
        for name, m in means.items()
        if m is not None
    )
    _log.info(f"fold {number}: mean {unit.removesuffix('00')} of {listed}")


def _folder(config: ColorizeConfig, number: int) -> MapFolder:
    return RunFolder(config.out).fold(number).map_source(config.colorizer.map_source)


def new_source(config: ColorizeConfig, run: Run) -> MapSource:
    """The map source that the options ask for, with new weights.

    Raises:
        UserError: there is none of that name, or one of its options is wrong.
    """
    try:
        return build_map_source(config.colorizer.map_source, run.side, config.colorizer)
    except ValueError as error:
        raise UserError(f"anomaly maps: {error}") from None


def image_passes(config: ColorizeConfig, normals: int) -> int:
    """Images that a map source processes in training on this many normal ones, summed over the epochs.

    Raises:
        UserError: there is no map source of that name.
    """
    try:
        kinds = [find_map_source(name) for name in config.colorizer.maps]
    except ValueError as error:
        raise UserError(f"anomaly maps: {error}") from None
    return sum(kind.image_passes(config.colorizer, config.compute.recipe, normals) for kind in kinds)


def compute_of(config: ColorizeConfig, run: Run) -> Compute:
    """How the map sources of a run are trained.

    Decided by the whole run's work, whatever is asked for or left of it: compiled and eager training differ in
    rounding.
    """
    worker = Worker({config.out: run})
    passes = sum(task.cost(worker) for n in range(len(run.folds)) for task in MakeMaps(config, n).sources)
    return resolve(config.compute, passes * (run.side / 256) ** 2)


def images_of(normals: NDArray[np.int64], run: Run) -> str:
    """A fingerprint of the images, by their rows, that a map source learned from, and of its version."""
    images = [run.images[row].sha256 for row in normals]
    version = version_of(run.map_source)
    return hashlib.sha256(repr((images, version) if version else images).encode()).hexdigest()


def is_made(run: Run, number: int, say: Say = _log.info) -> bool:
    """Whether a fold's maps are there and whole, and so is their source; says so where the maps are not."""
    folder = run.folder.fold(number)
    if not folder.maps.exists():
        return False
    try:
        maps = Maps(folder.maps, len(run.images), run.side)
        maps.verify()
    except DamagedError:
        say(f"note: {folder.maps}: damaged; these anomaly maps are made again")
        return False
    made_of, own = maps.attributes.get("fingerprint"), run.fingerprint(number)
    if made_of != own:
        if made_of not in {run.fingerprint(n) for n in range(len(run.folds))}:
            return True  # of other images or splits: `Run.maps` refuses them
        say(f"note: {folder.maps}: another fold's; these anomaly maps are made again")
        return False
    weights = folder.map_source(run.map_source).weights()
    try:
        return made_from(weights) in ("", images_of(normal_rows(run, number), run))
    except DamagedError:
        return not weights.exists()


def write_maps(
    source: MapSource,
    compute: Compute,
    run: Run,
    rows: NDArray[np.int64],
    writer: MapWriter,
    summary: MapSummary,
) -> None:
    """Make the maps of these rows' images, write them, and take them into the summary."""
    names = run.map_source.split(JOINED)
    for some, found in maps_of(source, compute, run, rows):
        maps = found.values[:, 0].cpu().numpy()
        chroma = found.extras[CHROMA].cpu().numpy() if CHROMA in found.extras else None
        try:
            writer.write(some, maps, chroma)
        except ValueError as error:
            raise UserError(f"map source {run.map_source}: {error}. Correct its forward.") from None
        of_parts = {name: found.extras[name][:, 0].cpu().numpy() for name in names} if len(names) > 1 else {}
        summary.add(some, maps, of_parts)


def maps_of(
    source: MapSource, compute: Compute, run: Run, rows: NDArray[np.int64]
) -> Iterator[tuple[NDArray[np.int64], AnomalyMap]]:
    """Maps of these rows' images in float32, some rows at a time."""
    for part in source.modules():
        if isinstance(part, MapSource):
            part.compiled = compute.compiled
    descriptions, make = read_descriptions(run), predictor(source, compute.in_float32(), "compare")
    for start in range(0, len(rows), PREDICTION_BATCH):
        some = rows[start : start + PREDICTION_BATCH]
        images = run.pixels[some].transpose(0, 3, 1, 2) if descriptions is None else descriptions[some]
        yield some, make(torch.from_numpy(images))


def plan_maps(config: ColorizeConfig, run: Run, folds: Sequence[int]) -> list[FitMap | MakeMaps]:
    """The tasks of stage 1 for these folds, less the folds whose maps are made."""
    tasks: list[FitMap | MakeMaps] = []
    for number in folds:
        if not is_made(run, number):
            make = MakeMaps(config, number)
            tasks += [*make.sources, make]
    return tasks
