"""How a run's detectors do on their test images in other light, compressed, and at half the resolution."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from sklearn.metrics import f1_score, roc_auc_score

from leanet.color.light import DIRECTIONS, Gains, cast_gains, relit
from leanet.config import Aspect, DataConfig
from leanet.config.options import from_options
from leanet.data.decode import UnreadableImageError, decode_bytes
from leanet.data.pictures import joined, read_place
from leanet.data.remote import address
from leanet.data.shape import to_square
from leanet.data.tensors import images_to_tensor, tensor_to_image
from leanet.data.threads import in_threads
from leanet.errors import UserError
from leanet.experiment.experiment import Experiment
from leanet.experiment.fold_model import fold_model
from leanet.experiment.open_run import Run
from leanet.files import write_json
from leanet.progress import progress_bar
from leanet.reading import parse_json, read_bytes
from leanet.results.metrics import PLAIN_THRESHOLD, Scored
from leanet.results.rows import Key

Pixels = NDArray[np.uint8]
"""One image, uint8 (H, W, 3)."""

Change = Callable[[Pixels, int], Pixels]
"""Changes an image, given its number: casts take turns."""

MOST, FEWEST, SIDE = 100, 40, 256
"""Test images in all, half of them anomalous, evenly from the folds: MOST up to this side, then fewer, whose
predictions take about as long, but FEWEST at least."""

VERSION = 1
"""To be raised when the changes are others."""

LARGEST = 100_000
"""Most bytes of the file of results."""

AS_TAKEN = "as taken"


@dataclass(frozen=True)
class Condition:
    """The results of the same images under one change.

    Attributes:
        name: of the change.
        auroc: mean over the folds; None if no fold has both classes.
        f1: of all decisions by the folds' thresholds.
        found, false_alarms: shares of the anomalous and of the normal images that were called anomalous.
    """

    name: str
    auroc: float | None
    f1: float
    found: float | None
    false_alarms: float | None


@dataclass(frozen=True)
class Robustness:
    """Results of so many images, half of them anomalous, under each change."""

    images: int
    conditions: tuple[Condition, ...]


def robustness(trained: Experiment, scored: Mapping[Key, Scored], kept: Path) -> Robustness:
    """The results of some test images under each change; the first is of none.

    Args:
        trained: the detectors; those of the first seed are tried.
        scored: their scores, with the thresholds that are kept.
        kept: file of the results, which are read if they are of the same detectors, and else measured and written.
    """
    thresholds = {fold: scored[fold, 0].threshold or PLAIN_THRESHOLD for fold in trained.folds}
    made_of = _made_of(trained, thresholds)
    with contextlib.suppress(OSError, UserError, KeyError, TypeError, ValueError):
        stored = parse_json(read_bytes(kept, LARGEST))
        if stored["made_of"] == made_of:
            return Robustness(int(stored["images"]), tuple(Condition(**one) for one in stored["conditions"]))
    found = _measure(trained, thresholds)
    write_json(kept, {"made_of": made_of, **dataclasses.asdict(found)})
    return found


def _measure(trained: Experiment, thresholds: Mapping[int, float]) -> Robustness:
    changes = _changes()
    chosen = {fold: _chosen(trained, fold) for fold in trained.folds}
    labels = [trained.run.labels[rows] for rows in chosen.values()]
    said: dict[str, list[NDArray[np.float64]]] = {name: [] for name in changes}
    with progress_bar("other light", len(changes) * sum(map(len, labels))) as set_done:
        done = 0
        for fold, rows in chosen.items():
            model = fold_model(trained, fold)
            images = as_decoded(trained.run, rows)
            for name, change in changes.items():
                set_done(done, name)
                results = model.predict_pixels([change(image, i) for i, image in enumerate(images)])
                said[name].append(np.array([result.probability for result in results]))
                done += len(rows)
    limits = list(thresholds.values())
    conditions = tuple(_condition(name, labels, found, limits) for name, found in said.items())
    return Robustness(sum(map(len, labels)), conditions)


def _made_of(trained: Experiment, thresholds: Mapping[int, float]) -> str:
    """A hash of the detectors' files and thresholds, and of the changes."""
    weights = [trained.folder(fold).read_metrics()["sha256"] for fold in trained.folds]
    made: tuple[object, ...] = (VERSION, MOST, weights, sorted(thresholds.items()))
    if _data_options(trained.run).white_balance != "none":
        made = (*made, "changed before white balance")  # earlier versions changed the balanced images
    return hashlib.sha256(repr(made).encode()).hexdigest()


def as_decoded(run: Run, rows: NDArray[np.int64]) -> list[Pixels]:
    """Images as they were before any white balance: other light belongs before it. They may be decoded again.

    Raises:
        UserError: a picture is missing or has changed since the run.
    """
    options = _data_options(run)
    if options.white_balance == "none":
        return [np.array(run.pixels[row]) for row in rows]
    return in_threads(lambda row: _decoded_again(run, int(row), options.aspect), rows)


def _decoded_again(run: Run, row: int, aspect: Aspect) -> Pixels:
    image = run.images[row]
    place = joined(address(run.images_in), image.file)
    remedy = "Put the picture back: with --white-balance, other light is tried on what it was before."
    try:
        data = read_place(place)
        if hashlib.sha256(data).hexdigest() != image.sha256:
            raise UserError(f"{place}: changed since the run. {remedy}")
        return to_square(decode_bytes(data, Path(place)).pixels, run.side, aspect)
    except UnreadableImageError as error:
        raise UserError(f"{place}: cannot be decoded again ({error.reason}). {remedy}") from None


def _data_options(run: Run) -> DataConfig:
    return from_options(DataConfig, run.folder.read_config())


def _chosen(trained: Experiment, fold: int) -> NDArray[np.int64]:
    """Rows of test images of a fold, half of them anomalous if there are enough, at even steps."""
    run = trained.run
    rows = run.rows(run.folds[fold].test)
    images = max(FEWEST, MOST * min(1.0, (SIDE / run.side) ** 2))
    most = max(1, int(images) // (2 * len(trained.folds)))
    of_classes = [rows[run.labels[rows] == label] for label in (0, 1)]
    return np.concatenate([some[:: -(-len(some) // most)] for some in of_classes if len(some)])


def _condition(
    name: str, labels: list[NDArray[np.int64]], said: list[NDArray[np.float64]], thresholds: list[float]
) -> Condition:
    aurocs = [roc_auc_score(y, p) for y, p in zip(labels, said, strict=True) if 0 < y.sum() < len(y)]
    y = np.concatenate(labels)
    called = np.concatenate([p >= t for p, t in zip(said, thresholds, strict=True)])
    shares = [float(called[y == label].mean()) if (y == label).any() else None for label in (0, 1)]
    auroc = float(np.mean(aurocs)) if aurocs else None
    return Condition(name, auroc, float(f1_score(y, called, zero_division=0)), shares[1], shares[0])


def _changes() -> dict[str, Change]:
    """The changes by name."""
    changes: dict[str, Change] = {AS_TAKEN: lambda image, _: image}
    for delta_e in (3, 6, 12):
        changes[f"cast of {delta_e} ΔE"] = _in_turn([cast_gains(cast, delta_e) for cast in DIRECTIONS])
    for stops in (-1.0, -0.5, 0.5, 1.0):
        changes[f"exposure {stops:+g}"] = _exposed(stops)
    return changes | {"JPEG, quality 50": _jpeg, "half the resolution": _halved}


def _in_turn(gains: list[Gains]) -> Change:
    return lambda image, i: _relit(image, gains[i % len(gains)])


def _exposed(stops: float) -> Change:
    return lambda image, _: _relit(image, stops=stops)


def _relit(image: Pixels, gains: Gains = (1.0, 1.0, 1.0), stops: float = 0.0) -> Pixels:
    rgb = images_to_tensor(image[None], np.arange(1))
    return tensor_to_image(relit(rgb, gains, stops)[0])


def _jpeg(image: Pixels, _: int) -> Pixels:
    written = io.BytesIO()
    Image.fromarray(image).save(written, "JPEG", quality=50)
    return np.array(Image.open(written).convert("RGB"))


def _halved(image: Pixels, _: int) -> Pixels:
    whole, height, width = Image.fromarray(image), *image.shape[:2]
    small = whole.resize((width // 2, height // 2), Image.Resampling.BOX)
    return np.array(small.resize((width, height), Image.Resampling.BILINEAR))
