"""`leanet predict`: image files through a model, at constant memory, into a CSV file and pictures."""

from __future__ import annotations

import csv
import functools
import glob
import itertools
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol, TextIO

import numpy as np
from numpy.typing import NDArray

from leanet.data.folder import IMAGE_SUFFIXES
from leanet.data.pixels import THREADS, UnreadableImageError, decode, resize
from leanet.errors import UserError
from leanet.experiment.display import note, progress_bar
from leanet.inference.card import Card
from leanet.inference.result import COLUMNS, Result, csv_row, overlay

BATCH = 32


class Predictor(Protocol):
    """A model, of torch or exported."""

    @property
    def card(self) -> Card: ...

    def predict_pixels(
        self, images: Sequence[NDArray[np.uint8]], *, sizes: Sequence[tuple[int, int]] | None = None
    ) -> list[Result]:
        """Classify one batch of images, uint8 (H, W, 3); `sizes` are their heights and widths before resizing."""
        ...


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
    names = _map_names(files) if maps else {}
    partial = out.with_name(out.name + ".partial")
    unreadable = 0
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        if maps:
            maps.mkdir(parents=True, exist_ok=True)
        with (
            partial.open("w", newline="", encoding="utf-8") as stream,
            progress_bar("images", len(files)) as set_done,
        ):
            writer = _writer(stream)
            for done, (file, found) in enumerate(results_of(model, files)):
                if isinstance(found, str):
                    writer(csv_row(str(file), None, found))
                    unreadable += 1
                else:
                    writer(csv_row(str(file), found))
                    if maps:
                        _write_maps(maps / names[file], file, found, model.card.normals_unit)
                set_done(done + 1, "")
        partial.replace(out)
    except OSError as error:
        raise UserError(
            f"{error.filename or out}: cannot be written ({error.strerror}). Choose another place."
        ) from None
    finally:
        partial.unlink(missing_ok=True)
    note(f"{len(files) - unreadable} of {len(files)} images predicted: {out}")
    if unreadable:
        note(f"{unreadable} unreadable: see the column error")
    return 1 if unreadable else 0


def find_files(images: Sequence[str]) -> list[Path]:
    """Files, in the order given; folders and patterns give theirs sorted.

    Raises:
        UserError: something that does not exist or match, or a folder without images.
    """
    files: dict[Path, None] = {}
    for given in images:
        path = Path(given)
        if path.is_dir():
            found = sorted(p for p in path.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES and p.is_file())
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


def results_of(model: Predictor, files: Sequence[Path]) -> Iterator[tuple[Path, Result | str]]:
    """Each file with its result, or with the reason why it is unreadable.

    The next batch is decoded and resized while one is predicted; nothing else is held.
    """
    load = functools.partial(_load, size=model.card.image_size)
    batches = [files[start : start + BATCH] for start in range(0, len(files), BATCH)]
    with ThreadPoolExecutor(THREADS) as pool:
        waiting = [pool.submit(load, file) for file in batches[0]]
        for batch, following in itertools.zip_longest(batches, batches[1:], fillvalue=()):
            loaded = [future.result() for future in waiting]
            waiting = [pool.submit(load, file) for file in following]
            good = [found for found in loaded if not isinstance(found, str)]
            pixels, sizes = [p for p, _ in good], [size for _, size in good]
            results = iter(model.predict_pixels(pixels, sizes=sizes) if good else [])
            for file, found in zip(batch, loaded, strict=True):
                yield file, found if isinstance(found, str) else next(results)


def _load(file: Path, size: int) -> tuple[NDArray[np.uint8], tuple[int, int]] | str:
    """A file's pixels, resized, and its height and width; or why it is unreadable."""
    try:
        pixels = decode(file)
    except UnreadableImageError as error:
        return error.reason
    return resize(pixels, size), (pixels.shape[0], pixels.shape[1])


def _map_names(files: Sequence[Path]) -> dict[Path, str]:
    """A name for each file's pictures: its stem, with a number where several files share one."""
    names: dict[Path, str] = {}
    taken: set[str] = set()
    for file in files:
        candidates = itertools.chain([file.stem], (f"{file.stem}-{n}" for n in itertools.count(2)))
        names[file] = next(name for name in candidates if name not in taken)
        taken.add(names[file])
    return names


def _write_maps(path: Path, file: Path, result: Result, unit: float | None) -> None:
    if result.anomaly_map is None:
        return
    strongest = max(float(result.anomaly_map.max()), 1e-6)
    overlay(decode(file), result, unit or strongest / 20).save(path.with_name(path.name + ".png"))
    np.save(path.with_name(path.name + ".npy"), result.anomaly_map)


def _writer(stream: TextIO) -> Callable[[Sequence[str]], object]:
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(COLUMNS)
    return writer.writerow
