"""Convert the authors' fold folders to runs, and runs to fold folders.

Images have no names in a fold folder, and the order differs between folds: equal pixels identify an image.
"""

from __future__ import annotations

import dataclasses
import hashlib
import logging
import shutil
import zipfile
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TypeAlias

import numpy as np
from numpy.typing import NDArray

from leanet.color.lab import encode_lab, rgb_to_lab
from leanet.compat import fold_files
from leanet.compat.fold_files import ATTENTION, COLORED, KINDS, LABEL, RGB, SIDES, FoldFiles, read_images
from leanet.config import COLOR_MAP
from leanet.data.splits import Fold, write_splits
from leanet.data.tensors import images_to_tensor
from leanet.errors import UserError
from leanet.experiment.map_tasks import made_of, map_summary
from leanet.experiment.open_run import Run, find
from leanet.experiment.run_folder import ImageRow, RunFolder, write_config
from leanet.files import beside, is_free, write_csv
from leanet.maps.store import MapWriter
from leanet.progress import SetDone, progress_bar

_log = logging.getLogger(__name__)

EXPORT_SIDE, EXPORT_FOLDS = 256, 5
"""The size and the number of folds that the authors' program reads."""

Hashes: TypeAlias = tuple[list[str], list[str]]
"""Hashes of a fold's images: train side, test side."""

Advance: TypeAlias = Callable[[int, str], None]
"""advance(images done since the last call, the current work)"""


def import_folds(source: Path, out: Path) -> None:
    """Make a run folder, ready for `leanet detect`, from the authors' fold folders.

    An image's name is its position as a test image: 0/test/12 is number 12 of arr_1 in fold 0. Exact copies remain
    separate images; on a train side they cannot be told apart, which does not matter.

    Args:
        source: holds at least two fold folders 0..n-1; other content is ignored.
        out: run folder to make; must be missing or empty.
    Raises:
        UserError: out is not empty or cannot be written; a file or array is missing, damaged, or has another shape
            or range than expected; the folds do not hold the same images, each tested exactly once.
    """
    folds, side = fold_files.inspect(source)
    images = sum(len(labels) for fold in folds for labels in fold.labels.values())
    with _beside(out) as partial, progress_bar("importing", 2 * images) as set_done:
        advance = _counter(set_done)
        run = _write_run(RunFolder(partial), source, folds, side, advance)
        for number, fold in enumerate(folds):
            _import_maps(run, number, fold, advance)
    _log.info(f"{out}: {len(run.images)} images of {side} px, {len(folds)} folds; continue with leanet detect")


def export_folds(run: Path, out: Path) -> None:
    """Write a run as fold folders for the unmodified authors' program.

    Args:
        run: a run of 256 px and five folds, all with anomaly maps.
        out: folder to make; must be missing or empty.
    Raises:
        UserError: another size or number of folds; folds without maps; out is not empty, cannot be written, or its
            disk is too full.
    """
    opened = find(run)
    _refuse_unfit(opened)
    images = sum(len(fold.train) + len(fold.test) for fold in opened.folds)
    with _beside(out) as partial, progress_bar("exporting", len(KINDS) * images) as set_done:
        _refuse_full_disk(partial, out, images)
        advance = _counter(set_done)
        for number in range(EXPORT_FOLDS):
            _export_fold(opened, number, partial / str(number), advance)
    _log.info(f"{out}: {EXPORT_FOLDS} fold folders; continue with the published anomalydetection.py")


@contextmanager
def _beside(out: Path) -> Iterator[Path]:
    """A temporary folder that is renamed to `out` at the end, or removed on an error."""
    try:
        if not is_free(out):
            raise UserError(f"{out}: exists and is not an empty folder. Name a new one.")
        with beside(out) as partial:
            partial.mkdir()
            yield partial
    except OSError as error:
        raise UserError(f"{out}: cannot write there ({error.strerror}). Name another folder.") from None


def _counter(set_done: SetDone) -> Advance:
    """Sum up the images done for a progress bar."""
    done = 0

    def advance(more: int, now: str) -> None:
        nonlocal done
        done += more
        set_done(done, now)

    return advance


def _write_run(folder: RunFolder, source: Path, folds: Sequence[FoldFiles], side: int, advance: Advance) -> Run:
    """Write a run except its maps; its rows are the images of the test sides, fold by fold."""
    labels = np.concatenate([fold.labels["arr_1"] for fold in folds])
    folder.pixels.mkdir()
    pixels = folder.pixels / f"imported-{side}.npy"
    with pixels.open("wb") as stream:
        fold_files.write_header(stream, np.uint8, (len(labels), side, side, 3))
        hashes = [_hash_images(fold.path, stream, advance) for fold in folds]
    _refuse_two_labels(source, folds, hashes)
    _refuse_other_images(source, hashes)
    images = [
        ImageRow(place, label, "", place, "", sha256, side, side)
        for (sha256, place), label in zip(_places(hashes, "test"), labels.tolist(), strict=True)
    ]
    write_csv(folder.images, [f.name for f in dataclasses.fields(ImageRow)], map(dataclasses.astuple, images))
    splits = [
        Fold(tuple(images[row].file for row in train), tuple(images[row].file for row in test))
        for train, test in _match(hashes)
    ]
    write_splits(folder.splits, splits, seed=0)
    facts = {"pixels": pixels.name, "imported_from": str(source.resolve())}
    write_config(folder.config, {"image_size": side, "n_splits": len(folds), "map_coding": "authors"}, facts)
    return find(folder.path)


def _hash_images(fold: Path, pixels: IO[bytes], advance: Advance) -> Hashes:
    """Hash a fold's images by their 8-bit pixels, and append its test images to the pixel cache."""
    hashes: Hashes = ([], [])
    for (name, side), of_side in zip(SIDES.items(), hashes, strict=True):
        for part in read_images(fold, RGB, name):
            images = np.rint(part * 255).astype(np.uint8)
            of_side += [hashlib.sha256(image.tobytes()).hexdigest() for image in images]
            if side == "test":
                pixels.write(images.tobytes())
            advance(len(images), f"images of fold {fold.name}")
    return hashes


def _places(hashes: Sequence[Hashes], *only: str) -> Iterator[tuple[str, str]]:
    """Hash and position, such as 0/test/12, of every image, or of one side's."""
    for number, of_fold in enumerate(hashes):
        for side, of_side in zip(SIDES.values(), of_fold, strict=True):
            if side in only or not only:
                yield from ((sha256, f"{number}/{side}/{i}") for i, sha256 in enumerate(of_side))


def _refuse_two_labels(source: Path, folds: Sequence[FoldFiles], hashes: Sequence[Hashes]) -> None:
    labels = np.concatenate([labels for fold in folds for labels in fold.labels.values()])
    known: dict[str, tuple[int, str]] = {}
    for (sha256, place), label in zip(_places(hashes), labels.tolist(), strict=True):
        before, first = known.setdefault(sha256, (label, place))
        if before != label:
            raise UserError(
                f"{source}: {first} and {place} are the same picture, labeled {before} and {label}; expected one "
                "label. Correct it, or make the folds again without this picture."
            )


def _refuse_other_images(source: Path, hashes: Sequence[Hashes]) -> None:
    """Refuse folds that do not hold the same images (counting copies), or do not test each image once."""
    held = [Counter(train + test) for train, test in hashes]
    tested = Counter(sha256 for sha256, _ in _places(hashes, "test"))
    for sha256, place in _places(hashes):
        copies = [fold[sha256] for fold in held]
        most, fewest = max(copies), min(copies)
        if most != fewest:
            raise UserError(
                f"{source}: fold {copies.index(most)} holds the picture {place} {most}x, fold "
                f"{copies.index(fewest)} {fewest}x; expected the same images in all folds. Make them again."
            )
        if tested[sha256] != most:
            where = ", ".join(str(number) for number, (_, test) in enumerate(hashes) if sha256 in test)
            raise UserError(
                f"{source}: every fold holds the picture {place} {most}x, but it is tested {tested[sha256]}x (in "
                f"{'fold ' + where if where else 'no fold'}); expected once per copy. Make the folds again."
            )


def _match(hashes: Sequence[Hashes]) -> Iterator[tuple[list[int], list[int]]]:
    """Row numbers of each fold's train and test sides; copies on a train side take the first free row."""
    start = 0
    for train, test in hashes:
        own = range(start, start + len(test))
        start = own.stop
        free: defaultdict[str, list[int]] = defaultdict(list)
        for row, (sha256, _) in enumerate(_places(hashes, "test")):
            if row not in own:
                free[sha256].append(row)
        yield [free[sha256].pop(0) for sha256 in train], list(own)


def _import_maps(run: Run, number: int, fold: FoldFiles, advance: Advance) -> None:
    """Write a fold's maps and recolored a*b* into the rows of their images."""
    writer, summary = MapWriter(run.folder.fold(number).maps, len(run.images), run.side), map_summary(run, number)
    split = run.folds[number]
    for name, files in zip(SIDES, (split.train, split.test), strict=True):
        rows, done = run.rows(files), 0
        both = zip(read_images(fold.path, COLORED, name), read_images(fold.path, ATTENTION, name), strict=True)
        for colored, attention in both:
            some = rows[done : done + len(attention)]
            maps, coded_ab = attention[..., 0], colored[..., 1:].transpose(0, 3, 1, 2)
            for i, row in enumerate(some.tolist()):
                writer.write(np.array([row]), maps[i : i + 1], coded_ab[i : i + 1])
            summary.add(some, maps)
            done += len(some)
            advance(len(some), f"maps of fold {number}")
    writer.close({**made_of(run, number), **summary.attributes()})


def _refuse_unfit(run: Run) -> None:
    """Refuse a run that the authors' program cannot read, or that is not finished."""
    path, numbers = run.folder.path, range(len(run.folds))
    if run.side != EXPORT_SIDE or len(numbers) != EXPORT_FOLDS:
        raise UserError(
            f"{path}: {run.side} px and {len(numbers)} folds; the published program reads {EXPORT_SIDE} px and "
            f"{EXPORT_FOLDS} folds. Make a run with --image-size {EXPORT_SIDE} --n-splits {EXPORT_FOLDS}."
        )
    if run.map_source != COLOR_MAP:
        raise UserError(f"{path}: has other maps than a colorizer's. Make a run with --maps {COLOR_MAP}.")
    missing = ",".join(str(number) for number in numbers if not run.folder.fold(number).maps.exists())
    if missing:
        raise UserError(
            f"{path}: no anomaly maps in fold {missing}; expected them in all {EXPORT_FOLDS} folds. "
            f"Run `leanet colorize` with --folds {missing}."
        )
    for number in numbers:
        run.maps(number)


def _refuse_full_disk(place: Path, out: Path, images: int) -> None:
    needed = images * EXPORT_SIDE**2 * sum(kind.channels for kind in KINDS) * np.dtype(np.float32).itemsize
    free = shutil.disk_usage(place).free
    if free < needed * 1.01:  # headers and labels take less than 1 %
        raise UserError(
            f"{out}: needs {needed / 1e9:.1f} GB; {free / 1e9:.1f} GB are free. Free space, or name a folder on "
            "another disk."
        )


def _export_fold(run: Run, number: int, folder: Path, advance: Advance) -> None:
    maps, fold = run.maps(number), run.folds[number]

    def rgb(rows: NDArray[np.int64]) -> NDArray[np.float32]:
        return run.pixels[rows].astype(np.float32) / np.float32(255)

    def colored(rows: NDArray[np.int64]) -> NDArray[np.float32]:
        lightness = encode_lab(rgb_to_lab(images_to_tensor(run.pixels, rows)))[:, :1].clamp(0, 1).numpy()
        return np.concatenate([lightness, maps.coded_ab(rows)], axis=1).transpose(0, 2, 3, 1)

    def attention(rows: NDArray[np.int64]) -> NDArray[np.float32]:
        return maps.delta_e(rows)[..., None]

    def parts(
        read: Callable[[NDArray[np.int64]], NDArray[np.float32]], rows: NDArray[np.int64]
    ) -> Iterator[NDArray[np.float32]]:
        for start in range(0, len(rows), fold_files.CHUNK):
            some = rows[start : start + fold_files.CHUNK]
            yield read(some)
            advance(len(some), f"fold {number}")

    folder.mkdir()
    sides = dict(zip(SIDES, (run.rows(fold.train), run.rows(fold.test)), strict=True))
    for kind, read in zip(KINDS, (rgb, colored, attention), strict=True):
        with zipfile.ZipFile(folder / kind.file, "w") as file:
            for name, rows in sides.items():
                shape = (len(rows), run.side, run.side, kind.channels)
                fold_files.write_rows(file, name, shape, parts(read, rows))
    np.savez(folder / LABEL, *(run.labels[rows] for rows in sides.values()))
