"""The published program's fold folders, and runs, made of images that are noise."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from leanet.compat import fold_files
from leanet.data.splits import Fold, write_splits
from leanet.experiment.open_run import Run, find
from leanet.experiment.run_folder import ImageRow, RunFolder, write_config
from leanet.files import write_csv
from leanet.maps.store import MapWriter

STEP = 0.005
FILES = ("RGB.npz", "Colored.npz", "Attention.npz", "Label.npz")
Array = NDArray[Any]


def parts_of_three() -> Iterator[None]:
    """For a fixture: sides of 8 and of 4 images are read and written in several parts, the last one smaller."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fold_files, "CHUNK", 3)
        yield


@dataclass(frozen=True)
class Made:
    """Images with, for each fold, maps and recoloured Lab of all of them, and the order of its two sides."""

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    maps: NDArray[np.float32]
    colored: NDArray[np.float32]
    sides: list[tuple[NDArray[np.int64], NDArray[np.int64]]]


def make(n: int, folds: int, side: int, seed: int = 0) -> Made:
    """Image i is tested in fold i % folds; labels take turns every `folds` images; the sides are shuffled."""
    r = np.random.default_rng(seed)
    images = r.integers(0, 256, (n, side, side, 3), dtype=np.uint8)
    labels = np.arange(n) // folds % 2
    maps = 40 * r.random((folds, n, side, side, 1), dtype=np.float32)
    colored = r.random((folds, n, side, side, 3), dtype=np.float32)
    number = np.arange(n) % folds
    sides = [
        (r.permutation(np.flatnonzero(number != f)), r.permutation(np.flatnonzero(number == f)))
        for f in range(folds)
    ]
    return Made(images, labels, maps, colored, sides)


def with_copies(made: Made) -> Made:
    """Of three folds: images 1, 7 and 2 become one picture, the first two of them tested in the same fold."""
    images = made.images.copy()
    images[[7, 2]] = images[1]
    return dataclasses.replace(made, images=images)


def save(made: Made, folder: Path) -> Path:
    """Write fold folders; labels' types, compression and small errors of the colours differ, as they may."""
    for f, sides in enumerate(made.sides):
        (folder / str(f)).mkdir(parents=True)
        savez = np.savez_compressed if f == 1 else np.savez
        blur = np.float32(5e-4 if f == 2 else 0)
        shape, dtype = ((-1,), np.int64) if f == 0 else ((-1, 1), np.float32 if f == 1 else np.bool_)
        savez(folder / str(f) / "RGB.npz", *(made.images[s].astype(np.float32) / 255 - blur for s in sides))
        savez(folder / str(f) / "Colored.npz", *(made.colored[f, s] for s in sides))
        savez(folder / str(f) / "Attention.npz", *(made.maps[f, s] for s in sides))
        savez(folder / str(f) / "Label.npz", *(made.labels[s].reshape(shape).astype(dtype) for s in sides))
    return folder


def make_run(path: Path, made: Made) -> Path:
    """A run folder as stage 1 leaves it, with these images, maps and folds."""
    folder = RunFolder(path)
    folder.pixels.mkdir(parents=True)
    np.save(folder.pixels / "made.npy", made.images)
    side = made.images.shape[1]
    files = [f"leaf {i}.png" for i in range(len(made.images))]
    images = [
        ImageRow(f, int(label), "", f, "", f"hash {f}", side, side)
        for f, label in zip(files, made.labels, strict=True)
    ]
    write_csv(folder.images, [f.name for f in dataclasses.fields(ImageRow)], map(dataclasses.astuple, images))
    folds = [Fold(*(tuple(files[i] for i in side) for side in sides)) for sides in made.sides]
    write_splits(folder.splits, folds, seed=0)
    write_config(folder.config, {}, {"pixels": "made.npy"})
    run = find(path)
    for f in range(len(folds)):
        writer = MapWriter(folder.fold(f).maps, len(files), side)
        writer.write(np.arange(len(files)), made.maps[f, ..., 0], made.colored[f, ..., 1:].transpose(0, 3, 1, 2))
        means = made.maps[f].mean((1, 2, 3), dtype=np.float64).tolist()
        described = {"coding": "true", "fingerprint": run.fingerprint(f), "normals_p99": 1.0, "mean_delta_e": means}
        writer.close(described)
    return path


def assert_holds(run: Run, made: Made) -> None:
    """The run has the folds of `made`, in their order, with the same pixels, labels, maps and a*b*."""
    assert len(run.folds) == len(made.sides)
    for f, (fold, sides) in enumerate(zip(run.folds, made.sides, strict=True)):
        assert sorted(fold.train + fold.test) == sorted(image.file for image in run.images)
        for files, numbers in zip((fold.train, fold.test), sides, strict=True):
            rows = run.rows(files)
            np.testing.assert_array_equal(run.pixels[rows], made.images[numbers])
            np.testing.assert_array_equal(run.labels[rows], made.labels[numbers])
            delta_e = run.maps(f).delta_e(rows)
            np.testing.assert_allclose(delta_e, made.maps[f, numbers, ..., 0], rtol=0, atol=STEP / 2 + 1e-5)
            coded_ab = run.maps(f).coded_ab(rows).transpose(0, 2, 3, 1)
            np.testing.assert_allclose(coded_ab, made.colored[f, numbers, ..., 1:], rtol=0, atol=0.5 / 255 + 1e-6)


def with_other_things(made: Made, folder: Path) -> Path:
    """Fold folders with other things beside them, as in a dataset's folder."""
    save(made, folder)
    (folder / "Positive").mkdir()
    (folder / "7").write_text("a file, no fold")
    return folder


def make_large() -> Made:
    """Ten images of 256 px in five folds, one of them white."""
    made = make(10, 5, 256, seed=1)
    made.images[4] = 255
    return made
