"""`leanet predict`: image files through a model, at constant memory, into a CSV file and pictures."""

from __future__ import annotations

import contextlib
import csv
import functools
import glob
import itertools
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, TextIO

import numpy as np
from numpy.typing import NDArray

from leanet.data.folder import IMAGE_SUFFIXES, visible_files
from leanet.data.pixels import (
    THREADS,
    Decoded,
    UnreadableImageError,
    decode,
    decode_with_origin,
    resize,
)
from leanet.errors import UserError
from leanet.experiment.display import note, progress_bar
from leanet.inference.card import Card
from leanet.inference.exported import Predictor
from leanet.inference.result import COLUMNS, Result, csv_row, overlay, shown_from

BATCH = 32

MASKS = "ground_truth"
"""A folder of an MVTec AD data set that holds masks, not images to predict."""


@dataclass(frozen=True)
class Loaded:
    """An image on its way to the model.

    Attributes:
        pixels: uint8 (S, S, 3), S the model's image size.
        size: height and width that the file has.
        first_of_several: whether the file holds further frames or pages.
    """

    pixels: NDArray[np.uint8]
    size: tuple[int, int]
    first_of_several: bool


def predict_files(model: Predictor, files: Sequence[Path], out: Path, maps: Path | None) -> int:
    """Classify files; an unreadable one becomes a line with its error, and the others are still done.

    Args:
        model: what to ask.
        files: what `find_files` found.
        out: the CSV file to write, whole or not at all.
        maps: folder for an overlay and the raw anomaly map of each image; None for none.
    Returns:
        0, or 1 where a file was unreadable.
    Raises:
        UserError: a place that cannot be written.
    """
    if not out.name or out.is_dir():
        raise UserError(f"--out {out}: the name of a file is expected.")
    names = _map_names(files) if maps else {}
    partial = out.with_name(out.name + ".partial")
    unreadable = several = 0
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        if maps:
            maps.mkdir(parents=True, exist_ok=True)
        with (
            partial.open("w", newline="", encoding="utf-8", errors="surrogateescape") as stream,
            progress_bar("images", len(files)) as set_done,
        ):
            writer = _writer(stream)
            for done, (file, image, found) in enumerate(results_of(model, files)):
                several += image is not None and image.first_of_several
                if maps and not isinstance(found, str):
                    found = _write_maps(maps / names[file], file, found, model.card)
                if isinstance(found, str):
                    writer(csv_row(str(file), None, found))
                    unreadable += 1
                else:
                    writer(csv_row(str(file), found))
                set_done(done + 1, "")
        partial.replace(out)
    except OSError as error:
        raise UserError(
            f"{error.filename or out}: cannot be written ({error.strerror}). Choose another place."
        ) from None
    finally:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
    note(f"{len(files) - unreadable} of {len(files)} images predicted: {out}")
    if several:
        note(f"{several} with several frames or pages: the first was taken")
    if unreadable:
        note(f"{unreadable} unreadable: see the column error")
    return 1 if unreadable else 0


def find_files(images: Sequence[str]) -> list[Path]:
    """Files, in the order given; folders and patterns give theirs sorted.

    Raises:
        UserError: nothing given, something that does not exist or match, or a folder without images.
    """
    if not images:
        raise UserError("no images given: name files, folders or patterns after MODEL.")
    files: dict[Path, None] = {}
    for given in images:
        path = Path(given)
        if path.is_dir():
            found = sorted(
                p
                for p in visible_files(path)
                if p.suffix.lower() in IMAGE_SUFFIXES and MASKS not in p.relative_to(path).parts
            )
            if not found:
                raise UserError(f"{path}: no images in it. Images are {' '.join(sorted(IMAGE_SUFFIXES))} files.")
        elif path.exists():
            found = [path]
        else:
            found = sorted(Path(p) for p in glob.glob(given, recursive=True))  # noqa: PTH207 - takes absolute patterns
            if not found:
                raise UserError(f"{given}: no such file or folder, and no file matches it. Check the path.")
        files |= dict.fromkeys(p for p in found if p.is_file())
    if not files:
        raise UserError(f"{images[0]}: matches folders only. Name them without a pattern, or match files.")
    return list(files)


def refuse_among_pictures(maps: Path, images: Sequence[str], files: Sequence[Path]) -> None:
    """Raise UserError where maps would lie among the pictures: over them, or predicted with them next time."""
    place = maps.resolve()
    searched = (Path(given) for given in images)
    among = [folder for folder in searched if folder.is_dir() and place.is_relative_to(folder.resolve())]
    if among := among or [file for file in files if file.resolve().is_relative_to(place)]:
        raise UserError(f"--maps {maps}: {among[0]} is to be predicted. Choose a folder apart from the pictures.")


def at_even_steps(files: Sequence[Path], count: int) -> list[Path]:
    """So many of the files, or all of them, at even steps from the first on."""
    return list(files[:: max(1, -(-len(files) // count))])


def results_of(model: Predictor, files: Sequence[Path]) -> Iterator[tuple[Path, Loaded | None, Result | str]]:
    """Each file with its pixels and result, or with the reason why it is unreadable.

    The next batch is decoded and resized while one is predicted; nothing else is held.
    """
    load = functools.partial(_load, side=model.card.image_size)
    batches = [files[start : start + BATCH] for start in range(0, len(files), BATCH)]
    with ThreadPoolExecutor(THREADS) as pool:
        waiting = [pool.submit(load, file) for file in batches[0]]
        for batch, following in itertools.zip_longest(batches, batches[1:], fillvalue=()):
            images = [future.result() for future in waiting]
            waiting = [pool.submit(load, file) for file in following]
            good = [image for image in images if not isinstance(image, str)]
            pixels, sizes = [image.pixels for image in good], [image.size for image in good]
            results = iter(model.predict_pixels(pixels, sizes=sizes) if good else [])
            for file, image in zip(batch, images, strict=True):
                if isinstance(image, str):
                    yield file, None, image
                else:
                    yield file, image, next(results)


def loaded(decoded: Decoded, side: int) -> Loaded:
    """What of a decoded image is kept until it is predicted."""
    height, width = decoded.pixels.shape[:2]
    return Loaded(resize(decoded.pixels, side), (height, width), decoded.first_of_several)


def _load(file: Path, side: int) -> Loaded | str:
    """A file's pixels, or why it is unreadable."""
    try:
        return loaded(decode_with_origin(file), side)
    except UnreadableImageError as error:
        return error.reason


def _map_names(files: Sequence[Path]) -> dict[Path, str]:
    """A name for each file's pictures: its stem, with a number where several files share one."""
    names: dict[Path, str] = {}
    taken: set[str] = set()
    for file in files:
        candidates = itertools.chain([file.stem], (f"{file.stem}-{n}" for n in itertools.count(2)))
        names[file] = next(name for name in candidates if name.casefold() not in taken)
        taken.add(names[file].casefold())
    return names


def _write_maps(path: Path, file: Path, result: Result, card: Card) -> Result | str:
    """Write a file's overlay and map; gives the result again, or why the file can no longer be read."""
    if result.anomaly_map is None:
        return result
    try:
        image = decode(file)
    except UnreadableImageError as error:
        return error.reason
    with _beside(path.with_name(path.name + ".png")) as png:
        overlay(image, result, shown_from(card, result)).save(png, format="PNG")
    with _beside(path.with_name(path.name + ".npy")) as npy:
        np.save(npy, result.anomaly_map)
    return result


@contextlib.contextmanager
def _beside(path: Path) -> Iterator[BinaryIO]:
    """A file to write, moved to its place when it is whole."""
    partial = path.with_name(path.name + ".partial")
    try:
        with partial.open("wb") as file:
            yield file
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _writer(stream: TextIO) -> Callable[[Sequence[str]], object]:
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(COLUMNS)
    return writer.writerow
