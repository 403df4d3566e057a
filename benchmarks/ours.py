"""The parts of leanet that the scripts time: a run's pixel cache and its training loop."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.common import BASELINE, OURS, alternate, facts, parser, report
from leanet.config import ColorizeConfig, ComputeConfig, DataConfig
from leanet.data.synthetic import make_leaves
from leanet.experiment.open_run import Run, begin
from leanet.training.checkpoint import Checkpoint
from leanet.training.compute import Compute, resolve
from leanet.training.loop import Engine, TrainingData, train
from leanet.training.recipe import Recipe

FOLDS = 5


def timing_parser(description: str | None, name: str, batch: int) -> argparse.ArgumentParser:
    """A parser with the options of scripts that measure time per image."""
    made = parser(description, name)
    made.add_argument("--images", type=Path, help="data set folder (default: synthetic leaves, made on the spot)")
    made.add_argument("--side", type=int, default=256, help="side of the images in pixels (%(default)s)")
    made.add_argument("--batch", type=int, default=batch, help="images a batch (%(default)s)")
    made.add_argument("--batches", type=int, default=2, help="batches a repetition (%(default)s)")
    made.add_argument("--rounds", type=int, default=5, help="repetitions of both, in turn (%(default)s)")
    return made


def training_parser(description: str | None, name: str) -> argparse.ArgumentParser:
    """The same, for a training."""
    made = timing_parser(description, name, batch=16)
    made.add_argument(
        "--epochs",
        type=int,
        help="epochs of leanet's training (default: the fewest of its recipe; the last counts)",
    )
    return made


@dataclasses.dataclass(frozen=True)
class Images:
    """A prepared run, and the files of its rows."""

    run: Run
    files: tuple[str, ...]

    def of(self, rows: NDArray[np.int64]) -> list[str]:
        """The files of these rows."""
        return [self.files[row] for row in rows]

    def choose(self, rows: NDArray[np.int64], arguments: argparse.Namespace) -> NDArray[np.int64]:
        """The first of these rows: as many as the requested batches hold, without an incomplete batch."""
        batches = min(arguments.batches, len(rows) // arguments.batch)
        if not batches:
            raise SystemExit(f"{len(rows)} images are too few for a batch of {arguments.batch}: pass --batch.")
        return rows[: batches * arguments.batch]


@contextlib.contextmanager
def open_images(arguments: argparse.Namespace) -> Iterator[Images]:
    """Images of the requested folder, or synthetic leaves, decoded into the cache of a temporary run."""
    wanted = max(FOLDS, arguments.batches * arguments.batch)
    with tempfile.TemporaryDirectory(prefix="leanet-benchmark-") as scratch:
        folder: Path | None = arguments.images
        if folder is None:
            folder = Path(scratch) / "leaves"
            make_leaves(folder, n_normal=wanted, n_anomalous=wanted, image_size=arguments.side)
        data = DataConfig(image_size=arguments.side, n_splits=FOLDS, max_per_class=wanted)
        run = begin(ColorizeConfig(folder, Path(scratch) / "run", data))
        yield Images(run, tuple(str(folder / image.file) for image in run.images))


def batches_of(rows: NDArray[np.int64], batch: int) -> list[NDArray[np.int64]]:
    """The rows in batches."""
    return [rows[start : start + batch] for start in range(0, len(rows), batch)]


def best_compute(*, compiled: bool) -> Compute:
    """The package's choice on this machine for long work; `compiled`: whether compilation speeds it up."""
    compute = resolve(ComputeConfig(), 1e9 if compiled else 0)
    print(f"leanet computes on {compute}")
    return compute


def compare_training(
    arguments: argparse.Namespace,
    bar: float,
    baseline: Callable[[], float],
    engine: Engine,
    data: TrainingData,
    recipe: Recipe,
    rows: NDArray[np.int64],
) -> None:
    """Time the baseline's steps and our training alternately; print and write the result.

    Args:
        arguments: from `training_parser`.
        baseline: does an epoch of the baseline and returns its seconds.
        engine, data, recipe: our training; the arguments override the recipe's batch size and epochs.
        rows: rows that both train on.
    """
    machine = facts()
    recipe = recipe.override(arguments.epochs or recipe.epochs, arguments.batch, None)

    times = alternate(
        lambda: {BASELINE: baseline() / len(rows)},
        lambda: train_once(engine, data, recipe),
        arguments.rounds,
    )
    settings = {"side": arguments.side, "batch": arguments.batch, "epochs": recipe.epochs}
    report(times, bar, arguments.csv, machine, **settings, compute=engine.compute)


def train_once(engine: Engine, data: TrainingData, recipe: Recipe) -> dict[str, float]:
    """A whole training in the package's loop: seconds per image, including batches and optimizer."""
    moments: list[float] = []

    def on_images(images: int, loss: float) -> None:  # noqa: ARG001
        moments.append(time.perf_counter())

    with tempfile.TemporaryDirectory() as scratch:
        checkpoint = Checkpoint(Path(scratch) / "checkpoint", "benchmark", every_seconds=1e9)
        train(engine, data, recipe, 0, checkpoint, on_images)
    seconds = np.diff(moments) / recipe.batch_size  # the loop calls at the start and after each step
    last = len(seconds) // recipe.epochs
    times = {OURS: float(seconds.mean()), f"{OURS}, last epoch": float(seconds[-last:].mean())}
    if recipe.epochs > 1:
        times[f"{OURS}, epochs before the last"] = float(seconds[:-last].mean())
    return times
