"""A detector's predictions, and the images it learned from, as files."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from leanet.data.tiles import part_of
from leanet.errors import DamagedError, UserError
from leanet.experiment.open_run import Run
from leanet.files import read_csv, write_csv
from leanet.results.metrics import PLAIN_THRESHOLD

COLUMNS = ("file", "label", "fold", "adn_probability", "caan_probability", "prediction")
"""`prediction` is the plain decision, at probability 0.5."""


@dataclass(frozen=True)
class Predictions:
    """A detector's predictions for some images; `caan` is None for a detector without CAAN logits."""

    files: tuple[str, ...]
    labels: NDArray[np.int64]
    adn: NDArray[np.float64]
    caan: NDArray[np.float64] | None


def of_pictures(tiles: Predictions) -> Predictions:
    """The predictions of pictures by those of their tiles: a picture is what its highest tile is.

    A picture is anomalous if one of these tiles is.
    """
    rows = rows_of_pictures(tiles.files)
    labels, adn = (np.array([of[some].max() for some in rows.values()]) for of in (tiles.labels, tiles.adn))
    return Predictions(tuple(rows), labels, adn, None)


def rows_of_pictures(files: Iterable[str]) -> dict[str, list[int]]:
    """The rows of each picture's tiles, or of the picture itself, in the order of the first ones."""
    rows: dict[str, list[int]] = {}
    for row, file in enumerate(files):
        rows.setdefault(part_of(file)[0], []).append(row)
    return rows


def read_predictions(path: Path) -> Predictions:
    """Read a predictions.csv.

    Raises:
        UserError: the file is missing, because the fold is not finished.
        DamagedError: the file is damaged.
    """
    if not path.exists():
        raise UserError(f"{path}: no predictions yet. Run `leanet detect` for this fold.")
    try:
        rows = read_csv(path)
        caan = [row["caan_probability"] for row in rows]
        labels = [int(row["label"]) for row in rows]
        found = Predictions(
            tuple(row["file"] for row in rows),
            np.array(labels),
            np.array([float(row["adn_probability"]) for row in rows]),
            np.array([float(p) for p in caan]) if all(caan) else None,
        )
        probabilities = found.adn if found.caan is None else np.concatenate([found.adn, found.caan])
        if set(labels) - {0, 1} or not ((probabilities >= 0) & (probabilities <= 1)).all() or not rows:
            raise ValueError("other values than predictions have")
    except (KeyError, TypeError, ValueError, OSError):
        raise DamagedError(path, "damaged. Run the command again to train this detector again.") from None
    return found


def write_predictions(
    path: Path,
    run: Run,
    number: int,
    rows: NDArray[np.int64],
    adn: NDArray[np.float64],
    caan: NDArray[np.float64] | None,
) -> None:
    """Write the probabilities of these rows' images, one line per image."""
    lines = []
    for i, row in enumerate(rows):
        image = run.images[row]
        second = "" if caan is None else f"{caan[i]:.10g}"
        lines.append((image.file, image.label, number, f"{adn[i]:.10g}", second, int(adn[i] >= PLAIN_THRESHOLD)))
    write_csv(path, COLUMNS, lines)


def write_labelled(path: Path, run: Run, rows: NDArray[np.int64]) -> None:
    """Write the file and label of these rows' images: those whose labels a detector saw."""
    write_csv(path, ("file", "label"), [(run.images[row].file, run.images[row].label) for row in rows])
