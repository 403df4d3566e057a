"""`leanet predict`: image files through a model, at constant memory, into a CSV file and pictures."""

from __future__ import annotations

import contextlib
import functools
import itertools
import logging
import os
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from leanet.config import PredictConfig
from leanet.data.decode import Decoded, UnreadableImageError, decode, decode_with_origin
from leanet.data.find import Identity, find_images, identity, listed, matching, notes
from leanet.data.layout import MASKS
from leanet.data.manifest import TABLES
from leanet.data.shape import to_square
from leanet.data.threads import THREADS, ahead
from leanet.data.tiles import SmallerThanTileError
from leanet.errors import UserError
from leanet.files import STANDARD_OUTPUT, beside, csv_writer, open_text, refuse_other, remove, written
from leanet.lock import alone_in
from leanet.model.anomaly_model import AnomalyModel
from leanet.model.card import CARD, Card
from leanet.model.result import COLUMNS, Result, csv_row, overlay, shown_from
from leanet.model.tiles import ByTiles, by_tiles_of
from leanet.progress import progress_bar

_log = logging.getLogger(__name__)

T = TypeVar("T")

BATCH = 32

AHEAD = 2 * BATCH
"""Pictures that are loaded or waiting while a batch is predicted."""

LONGEST_NAME = 255 - len(".png")
"""Longest file name in bytes on most file systems, minus the suffix."""

SOFTWARE = "leanet predict"
"""The `Software` entry of an overlay's metadata."""


@dataclass(frozen=True)
class Loaded:
    """An image on its way to the model.

    Attributes:
        pixels: uint8 (S, S, 3), S the model's image size; by tiles, the picture in its shape.
        size: height and width of the original image.
        first_of_several: whether the file has further frames or pages.
        broken_profile: whether its color profile is unusable; its values then count as sRGB.
        in_shape: whether the pixels have the picture's shape, of one that is predicted by tiles.
    """

    pixels: NDArray[np.uint8]
    size: tuple[int, int]
    first_of_several: bool
    broken_profile: bool
    in_shape: bool = False


@dataclass
class Counts:
    """Counts of the files to predict, and of those with a problem."""

    files: int
    unreadable: int = 0
    unwritten: int = 0
    several: int = 0
    broken_profiles: int = 0
    anomalous: int = 0
    without_box: int = 0
    unfamiliar: int = 0

    def add(self, image: Loaded | None, found: Result | str) -> None:
        """Count one file, from its pixels and its result or the reason why it is unreadable."""
        self.several += image is not None and image.first_of_several
        self.broken_profiles += image is not None and image.broken_profile
        if isinstance(found, str):
            self.unreadable += 1
        else:
            self.anomalous += found.anomalous
            self.unfamiliar += found.unfamiliar
            self.without_box += found.anomalous and found.box is None

    def told(self, out: Path) -> int:
        """Log the counts; the exit code is 1 if the output of a file is incomplete."""
        _log.info(f"{self.files - self.unreadable} of {self.files} images predicted: {out}")
        if self.without_box:
            _log.info(
                f"{self.without_box} of {self.anomalous} anomalous images without a box: no region of the map "
                "exceeds normal images"
            )
        if self.unfamiliar:
            _log.info(f"{self.unfamiliar} unfamiliar: unlike the training images, see the column unfamiliarity")
        if self.several:
            _log.info(f"{self.several} with several frames or pages: the first was used")
        if self.broken_profiles:
            _log.info(f"{self.broken_profiles} with an unusable color profile: taken as sRGB")
        if self.unreadable:
            _log.info(f"{self.unreadable} without an answer: see the column error")
        if self.unwritten:
            _log.info(f"{self.unwritten} without their overlay and map: see the column error")
        return 1 if self.unreadable or self.unwritten else 0


def predict(config: PredictConfig, model: Callable[[int], AnomalyModel]) -> int:
    """Predict files; an unreadable file becomes a row with its error, and the others are still predicted.

    Args:
        config: the model, the images, and the outputs.
        model: loads the model, for this many images.
    Returns:
        0, or 1 if the output of a file is incomplete.
    Raises:
        UserError: no images, or an output that would overwrite something else.
        OSError: the table cannot be written.
    """
    files = find_files(config.images)
    names = _map_names(files) if config.maps else {}
    _refuse_outputs(config, files, names)
    alone = alone_in(config.maps) if config.maps else contextlib.nullcontext()
    with alone, written(config.out) as table:
        asked = model(len(files))
        if config.threshold is not None:
            asked = asked.with_threshold(config.threshold)
        by_tiles = by_tiles_of(asked, config.tile, config.overlap)
        tell_own_tiles(config, asked.card)
        counts = predict_files(asked, files, table, config.maps, names, by_tiles)
        table.flush()  # raises on a full disk
        return counts.told(config.out)


def tell_own_tiles(config: PredictConfig, card: Card) -> None:
    """Log that a model divides pictures, where the command does not ask for it."""
    if config.tile is None and card.tile is not None:
        _log.info(f"note: larger pictures are divided into tiles of {card.tile} px, as the model was trained")


def predict_files(
    model: AnomalyModel,
    files: Sequence[Path],
    table: TextIO,
    maps: Path | None,
    names: Mapping[Path, str],
    by_tiles: ByTiles | None = None,
) -> Counts:
    """Write a CSV row for each file and, with `maps`, its overlay and map into that folder, named by `names`.

    Args:
        by_tiles: what predicts each picture by tiles; None: each is predicted as a whole.
    """
    counts = Counts(len(files))
    results = results_of(model, files) if by_tiles is None else results_by_tiles(by_tiles, files, _decoded)
    write_row = csv_writer(table)
    write_row(COLUMNS)
    with progress_bar("images", len(files)) as set_done:
        for done, (file, image, found) in enumerate(results):
            counts.add(image, found)
            if isinstance(found, str):
                write_row(csv_row(str(file), None, found))
            else:
                whole = image.pixels if image is not None and image.in_shape else None
                problem = _write_maps(maps / names[file], file, found, model.card, whole) if maps else ""
                counts.unwritten += bool(problem)
                write_row(csv_row(str(file), found, problem))
            set_done(done + 1, "")
    return counts


def find_files(images: Sequence[str]) -> list[Path]:
    """Files in the given order, sorted within folders and patterns; log what else folders hold.

    Each file appears once, under its first name.

    Raises:
        UserError: nothing given, a path or pattern without a match, or a folder without images.
    """
    if not images:
        raise UserError("no images given: name files, folders or patterns after MODEL.")
    files: dict[Path, None] = {}
    for given in images:
        path = Path(given)
        if path.is_dir():
            inside = find_images(path, without=MASKS)
            said = notes(inside.left_out, path)
            if not inside.images:
                raise UserError(f"{path}: no images in it.{''.join(f' {text}.' for text in said)}")
            for text in said:
                _log.info(f"note: {path}: {text}")
            found = inside.images
        elif path.suffix.lower() in TABLES and path.is_file():
            raise UserError(f"{given}: a table, not a picture. Name it with --manifest.")
        elif path.exists():
            found = (path,)
        else:
            found = tuple(sorted(p for p in matching(given) if not p.is_dir()))
            if not found:
                raise UserError(f"{given}: no such file or folder, and no file matches it. Check the path.")
        files |= dict.fromkeys(found)
    return _each_once(files)


def _each_once(files: Iterable[Path]) -> list[Path]:
    """Files without other names of earlier ones, which are logged."""
    by_identity: dict[Identity | Path, Path] = {}
    others = list[str]()
    for file in files:
        if by_identity.setdefault(_identity(file), file) != file:
            others.append(str(file))
    if others:
        _log.info(f"note: skipped, other names of the same files: {len(others)} ({listed(others, 3)})")
    return list(by_identity.values())


def _identity(file: Path) -> Identity | Path:
    try:
        return identity(file)
    except OSError:  # a broken link, which becomes a row with its error
        return file


def _refuse_outputs(config: PredictConfig, files: Sequence[Path], names: Mapping[Path, str]) -> None:
    """Raise UserError unless the outputs are new or from an earlier prediction.

    Args:
        names: name of each file's pictures in --maps.
    """
    out, maps = config.out, config.maps
    if out != STANDARD_OUTPUT:
        remedy = "Choose another name, or - for standard output."
        refuse_other(out, f"--out {out}", _is_table, [*files, config.model], remedy)
    if not maps:
        return
    _refuse_among_pictures(maps, config.images, files)
    if any((maps / name).exists() for name in (CARD, "config.yaml")):
        raise UserError(f"--maps {maps}: is the folder of a model or a run. Choose another folder.")
    table, folder = (Path(os.path.realpath(path)) for path in (out, maps))
    in_the_way = table.parent == folder and table.suffix in PICTURES and table.stem in names.values()
    if in_the_way or folder.is_relative_to(table):
        raise UserError(f"--out {out}: --maps {maps} writes there. Choose another name.")
    for picture in (maps / (name + suffix) for name in names.values() for suffix in PICTURES):
        if os.path.lexists(picture):
            said = f"--maps {maps}: {picture}"
            refuse_other(picture, said, PICTURES[picture.suffix], remedy="Choose another folder.")
    maps.mkdir(parents=True, exist_ok=True)


def _refuse_among_pictures(maps: Path, images: Sequence[str], files: Sequence[Path]) -> None:
    """Raise UserError if maps would overwrite images or be predicted as images the next time."""
    place = maps.resolve()
    searched = (Path(given) for given in images)
    among = [folder for folder in searched if folder.is_dir() and place.is_relative_to(folder.resolve())]
    if among := among or [file for file in files if file.resolve().is_relative_to(place)]:
        raise UserError(f"--maps {maps}: holds {among[0]}, an image to predict. Choose a folder without them.")


def _is_table(path: Path) -> bool:
    """Whether a file is a table of predictions, by its first line; other versions may add columns at the end."""
    with open_text(path) as file:
        return file.readline(200).startswith("file,probability,decision,")


def _is_overlay(path: Path) -> bool:
    try:
        with Image.open(path, formats=["PNG"]) as image:
            return bool(image.info.get("Software") == SOFTWARE)
    except (OSError, ValueError, SyntaxError):  # Pillow's errors for a file that is not a PNG
        return False


def _is_map(path: Path) -> bool:
    """Whether a file is a raw map: of float32, beside an overlay, which is written first."""
    try:
        found = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return False
    return found.dtype == np.float32 and found.ndim == 2 and _is_overlay(path.with_suffix(".png"))


PICTURES = {".png": _is_overlay, ".npy": _is_map}
"""The files that --maps writes for each image, and how to identify them."""


def at_even_steps(files: Sequence[Path], count: int) -> list[Path]:
    """Up to `count` of the files, evenly spaced from the first."""
    return list(files[:: max(1, -(-len(files) // count))])


def results_of(model: AnomalyModel, files: Sequence[Path]) -> Iterator[tuple[Path, Loaded | None, Result | str]]:
    """Each file with its pixels and result, or with the reason why it is unreadable."""
    return results_ahead(model, files, functools.partial(_load, card=model.card))


def results_by_tiles(
    by_tiles: ByTiles, items: Iterable[T], decode: Callable[[T], Decoded | str], most: int = 1
) -> Generator[tuple[T, Loaded | None, Result | str], None, None]:
    """As `results_ahead`, by tiles; the pixels are the whole picture's.

    Args:
        decode: an item's picture, or why it is unreadable; called in another thread.
        most: pictures that are in memory at a time.
    """
    with contextlib.closing(ahead(decode, items, most, most)) as decoding:
        for item, whole in decoding:
            if isinstance(whole, str):
                yield item, None, whole
                continue
            try:
                found = by_tiles.predict(whole.pixels)
            except SmallerThanTileError as error:
                yield item, None, str(error)
            else:
                yield item, _loaded(whole, whole.pixels, in_shape=True), found


def results_ahead(
    model: AnomalyModel, items: Iterable[T], load: Callable[[T], Loaded | str], threads: int = THREADS
) -> Generator[tuple[T, Loaded | None, Result | str], None, None]:
    """Each item with its pixels and result, or with the reason why it is unreadable.

    While one batch is predicted, threads load the next ones; nothing else is in memory.

    Args:
        load: an item's pixels, or why it is unreadable; called in `threads` threads.
    """
    with contextlib.closing(ahead(load, items, AHEAD, threads)) as loading:
        while batch := list(itertools.islice(loading, BATCH)):
            good = [image for _, image in batch if not isinstance(image, str)]
            pixels, sizes = [image.pixels for image in good], [image.size for image in good]
            results = iter(model.predict_pixels(pixels, sizes=sizes) if good else [])
            for item, image in batch:
                if isinstance(image, str):
                    yield item, None, image
                else:
                    yield item, image, next(results)


def loaded(decoded: Decoded, card: Card) -> Loaded:
    """A decoded image reduced to what its prediction needs."""
    return _loaded(decoded, to_square(decoded.pixels, card.image_size, card.aspect))


def reduced(decoded: Decoded, result: Result) -> Loaded:
    """A picture that was predicted by tiles, as large as its map."""
    shown = Image.fromarray(decoded.pixels)
    if result.anomaly_map is not None:
        height, width = result.anomaly_map.shape
        shown = shown.resize((width, height), Image.Resampling.BOX)
    return _loaded(decoded, np.asarray(shown), in_shape=True)


def _loaded(decoded: Decoded, pixels: NDArray[np.uint8], *, in_shape: bool = False) -> Loaded:
    height, width = decoded.pixels.shape[:2]
    return Loaded(pixels, (height, width), decoded.first_of_several, decoded.broken_profile, in_shape)


def _load(file: Path, card: Card) -> Loaded | str:
    """A file's pixels at the model's size, or why it is unreadable."""
    decoded = _decoded(file)
    return decoded if isinstance(decoded, str) else loaded(decoded, card)


def _decoded(file: Path) -> Decoded | str:
    """A file's picture, or why it is unreadable."""
    try:
        return decode_with_origin(file)
    except UnreadableImageError as error:
        return error.reason


def _map_names(files: Sequence[Path]) -> dict[Path, str]:
    """A name for each file's pictures: its stem, cut if too long, with a number if several files share it."""
    names: dict[Path, str] = {}
    taken: set[str] = set()
    for file in files:
        endings = itertools.chain([""], (f"-{n}" for n in itertools.count(2)))
        candidates = (_cut(file.stem, LONGEST_NAME - len(ending)) + ending for ending in endings)
        names[file] = next(name for name in candidates if name.casefold() not in taken)
        taken.add(names[file].casefold())
    return names


def _cut(name: str, most: int) -> str:
    """The name cut to this many bytes."""
    while len(os.fsencode(name)) > most:
        name = name[:-1]
    return name


def _write_maps(path: Path, file: Path, result: Result, card: Card, pixels: NDArray[np.uint8] | None = None) -> str:
    """Write a file's overlay and map, both or none; return the reason for a failure, or "".

    Args:
        pixels: the whole picture, if it is in memory; uint8 (H, W, 3).
    """
    if result.anomaly_map is None:
        return ""
    png, npy = (path.with_name(path.name + suffix) for suffix in PICTURES)
    try:
        whole = decode(file) if pixels is None else pixels
        picture, made_by = overlay(whole, result, shown_from(card, result)), PngInfo()
        made_by.add_text("Software", SOFTWARE)
        with beside(png) as partial:
            level = 6 if pixels is None else 1  # of a large picture, the usual one takes longer than the prediction
            picture.save(partial, format="PNG", pnginfo=made_by, compress_level=level)
        with beside(npy) as partial, partial.open("wb") as stream:
            np.save(stream, result.anomaly_map)
    except (UnreadableImageError, OSError) as error:
        remove(png)
        remove(npy)
        reason = error.reason if isinstance(error, UnreadableImageError) else error.strerror or str(error)
        return f"overlay and map not written: {reason}"
    return ""
