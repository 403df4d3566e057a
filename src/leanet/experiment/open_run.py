"""An open run: its images, pixels and folds, new or read and checked."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from leanet.color.opencv_lab import check_opencv
from leanet.config import (
    COLOR_MAP,
    ColorizeConfig,
    ColorizerConfig,
    DataConfig,
    DetectorConfig,
    FitConfig,
    MapCoding,
    parse_folds,
)
from leanet.config.maps import JOINED
from leanet.config.options import EARLIER, omitted_by_default, to_options
from leanet.config.shown import AUTO
from leanet.data.cache import Cache, build_cache, open_cache
from leanet.data.dataset import Dataset, Sample, check_folds, group_copies
from leanet.data.duplicates import duplicates, refuse_duplicates_across
from leanet.data.find import cut
from leanet.data.hold_out import MOST_VALUES, described, planned_folds, refuse_stale
from leanet.data.masks import refuse_other_sizes
from leanet.data.registry import SOURCES, list_images, open_source
from leanet.data.remote import absolute
from leanet.data.splits import Fold, inner_parts, read_splits, too_large_groups, write_splits
from leanet.data.tiles import part_of
from leanet.errors import OptionError, UserError, install
from leanet.experiment.run_folder import ImageRow, RunFolder, write_config
from leanet.files import contents, remove, write_csv
from leanet.maps.registry import described_sources, find_map_source
from leanet.maps.store import Maps
from leanet.networks.registry import COLORIZERS
from leanet.progress import progress_bar
from leanet.reading import sha256_of
from leanet.training.compute import find_device

_log = logging.getLogger(__name__)

FEWEST_PARTS = 2
"""Of cross-fitting."""

FREE_TO_CHANGE = {
    "dataset",
    "out",
    "run",
    "folds",
    "device",
    "checkpoint_seconds",
    "compare",
    "skip_unreadable",
    "groups",
    "seeds",
    "target_recall",
}
"""Options that may differ when a run is resumed: they do not change its results."""


@dataclass(frozen=True)
class Run:
    """A run's folder with what both stages need from it.

    Attributes:
        images: one row per image; `labels` and `pixels` have the same order.
        labels: int (N,), 0 normal, 1 anomalous.
        pixels: uint8 (N, side, side, 3), memory-mapped.
        folds: the files of each fold's two sides.
        map_coding, map_source: of the anomaly maps of all folds.
    """

    folder: RunFolder
    images: tuple[ImageRow, ...]
    labels: NDArray[np.int64]
    pixels: NDArray[np.uint8]
    folds: tuple[Fold, ...]
    map_coding: MapCoding
    map_source: str = COLOR_MAP

    def __reduce__(self) -> tuple[Any, ...]:
        """As it is sent to another process, which opens the pixels by their path."""
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        if isinstance(self.pixels, np.memmap):
            values["pixels"] = Path(str(self.pixels.filename))
        return _received, (values,)

    @property
    def side(self) -> int:
        """Side of the images in pixels."""
        return int(self.pixels.shape[1])

    @property
    def has_tiles(self) -> bool:
        """Whether the images are tiles of pictures."""
        return any(part_of(image.file)[1] for image in self.images)

    @property
    def images_in(self) -> Path:
        """The data set's folder, absolute if the run recorded it as such."""
        options = self.folder.read_config()
        return Path(str(options.get("recorded", {}).get("images_in", options.get("dataset", ""))))

    def fingerprint(self, number: int) -> str:
        """A hash of what a fold was made from: its images, in their rows, and its two sides."""
        fold = self.folds[number]
        content = [[(i.file, i.sha256, i.label) for i in self.images], sorted(fold.train), sorted(fold.test)]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()

    def keeps_test_apart(self, number: int) -> bool:
        """Whether a fold tests on images that it does not train on; False for a model fitted on all images."""
        fold = self.folds[number]
        return not set(fold.test) & set(fold.train)

    def maps(self, number: int, unpack: bool = True) -> Maps:
        """The anomaly maps of a fold.

        Args:
            unpack: see `Maps`; False for callers that read few of them, or each once.
        Raises:
            UserError: there are none, or they were made from other images or another split, or have another coding
                than the run.
            DamagedError: they are damaged.
        """
        path = self.folder.fold(number).maps
        maps = Maps(path, len(self.images), self.side, unpack)
        if maps.attributes.get("fingerprint") != self.fingerprint(number):
            raise UserError(
                f"{path}: made from another images.csv or splits.json than this run's. Restore them, or delete "
                f"{path.parent} and run `leanet colorize` again."
            )
        coding = maps.attributes.get("coding")
        if coding != self.map_coding:
            raise UserError(
                f"{path}: made with --map-coding {coding}, but {self.folder.config} has map_coding "
                f"{self.map_coding}. Restore that file, or delete {path.parent} and run `leanet colorize` again."
            )
        return maps

    def rows(self, files: tuple[str, ...]) -> NDArray[np.int64]:
        """Row numbers of these files, in their order."""
        position = {image.file: row for row, image in enumerate(self.images)}
        return np.array([position[file] for file in files], dtype=np.int64)

    def groups_of(self, rows: NDArray[np.int64]) -> list[str]:
        """The groups of these rows' images."""
        return [self.images[row].group for row in rows]


def _received(values: dict[str, Any]) -> Run:
    """A run that another process sent."""
    pixels = values.pop("pixels")
    return Run(**values, pixels=open_cache(pixels) if isinstance(pixels, Path) else pixels)


def begin(config: ColorizeConfig) -> Run:
    """Read the data set and make its run folder, or check that the folder is a run of this data set and resume it.

    Raises:
        UserError: see `leanet.data`; the folder belongs to another data set or was made with other options; the
            authors' coding of maps without OpenCV.
    """
    refuse_unfit_maps(config.colorizer)
    refuse_among_images(config.out, config.dataset, config.data)
    dataset = read_dataset(config.dataset, config.data, config.compute.seed)
    if config.data.hold_out is None:
        parse_folds(config.compute.folds, config.data.n_splits)
    find_device(config.compute.device)
    for text in dataset.notes:
        _log.info(f"note: {text}")
    folder, is_new = RunFolder(config.out), not contents(config.out)
    refuse_other_options(folder, config)
    folder.refuse_others(max(config.data.n_splits, MOST_VALUES) if config.data.hold_out else config.data.n_splits)
    folder.make()
    try:
        return _fill(folder, dataset, config)
    except BaseException:
        if is_new:  # a run that did not begin leaves no files
            for path in contents(config.out):
                remove(path)
        raise


def find(path: Path) -> Run:
    """Open the run folder that `begin` made.

    Raises:
        UserError: no run, or its pixel cache or splits are damaged or missing.
    """
    folder = RunFolder(path)
    images = tuple(folder.read_images())
    samples = tuple(Sample(i.file, i.label, i.kind, i.group, i.mask or None) for i in images)
    folds = read_splits(folder.splits, Dataset(path, samples, ()))
    pixels = folder.read_pixels(len(images))
    labels = np.array([i.label for i in images], dtype=np.int64)
    options = folder.read_config()
    coding, source = options.get("map_coding", "true"), JOINED.join(options.get("maps", EARLIER["maps"]))
    return Run(folder, images, labels, pixels, folds, coding, source)


def source_of(folder: RunFolder) -> Run:
    """The run whose pixels and maps a folder's detectors were trained on: its own, or another after `detect --out`.

    Raises:
        UserError: as `find`; or that run has moved.
    """
    source = folder.read_config().get("recorded", {}).get("maps_from")
    if source and not Path(source).is_dir():
        raise UserError(f"{folder.config}: made from the maps of {source}, which is missing. Correct maps_from.")
    return find(Path(source or folder.path))


def normal_rows(run: Run, number: int) -> NDArray[np.int64]:
    """Rows of a fold's normal training images, the only ones that its colorizer trains on."""
    rows = run.rows(run.folds[number].train)
    normals: NDArray[np.int64] = rows[run.labels[rows] == 0]
    return normals


def refuse_among_images(written: Path, dataset: Path, data: DataConfig) -> None:
    """Raise UserError if an output folder is inside a folder whose images are read."""
    if data.source not in (AUTO, *SOURCES):  # detectors are trained without it
        return
    for folder in open_source(dataset, data).searched():
        if written.resolve().is_relative_to(folder.resolve()):
            raise UserError(
                f"--out {written}: is inside {folder}, whose images are read; its own pictures would count "
                "as data. Choose another --out."
            )


def read_dataset(path: Path, data: DataConfig, seed: int) -> Dataset:
    """List the images of a data set by the options; UserError if they are too few for the folds."""
    dataset = list_images(path, data, seed)
    if data.hold_out is None:
        check_folds(dataset, data.n_splits)
    return dataset


def differing_option(recorded: dict[str, Any], now: dict[str, Any]) -> str | None:
    """The first option that changes the results and has another recorded value, as '--x OLD, now NEW'.

    Some are recorded only if they are set.
    """
    unsaid = {
        "source": DataConfig.source,
        "maps": [COLOR_MAP],
        "normal": [],
        "columns": [],
        "hold_out": None,
        "aspect": DataConfig.aspect,
        "white_balance": DataConfig.white_balance,
        "tile": None,
        "overlap": DataConfig.overlap,
    }
    recorded, now = ({**unsaid, **options} if options else options for options in (recorded, now))
    for key, value in now.items():
        if key not in FREE_TO_CHANGE and key in recorded and recorded[key] != value:
            before, after = (" ".join(map(str, v)) if isinstance(v, list) else v for v in (recorded[key], value))
            return f"--{key.replace('_', '-')} {before}, now {after}"
    return None


def _fill(folder: RunFolder, dataset: Dataset, config: ColorizeConfig) -> Run:
    cache = decode_images(folder, dataset, config.data)
    dataset = dataset.without([file for file, _ in cache.skipped])
    if config.data.hold_out is None:
        check_folds(dataset, config.data.n_splits)
    labels = [sample.label for sample in dataset.samples]
    refuse_duplicates_across(cache.infos, labels)
    refuse_other_sizes(dataset, {info.file: (info.width, info.height) for info in cache.infos})
    dataset = with_copies_grouped(dataset, cache)
    images = image_rows(dataset, cache)
    refuse_other_images(folder, images)
    refuse_other_pixels(folder, cache)
    made = not folder.splits.exists()
    folds = _folds_of(folder, dataset, config)
    all_labels, maps = np.array(labels, dtype=np.int64), config.colorizer
    run = Run(folder, images, all_labels, cache.pixels, folds, maps.map_coding, maps.map_source)
    if k := config.colorizer.cross_fit:
        for number in range(len(folds)):  # before the option is recorded
            parts_of_training_side(run, number, k, config.compute.seed)
    if made:
        write_splits(folder.splits, folds, config.compute.seed, config.data.hold_out)
    write_images(folder, images)
    record(folder, to_options(config), **facts_of_pixels(cache), images_in=absolute(dataset.home))
    return run


def _folds_of(folder: RunFolder, dataset: Dataset, config: ColorizeConfig) -> tuple[Fold, ...]:
    """The folds of a run's splits.json, or new ones; log what is remarkable about them."""
    hold_out = config.data.hold_out
    if folder.splits.exists():
        folds = read_splits(folder.splits, dataset)
        refuse_other_folds(folder, folds, hold_out)
        if hold_out is not None:
            refuse_stale(folder.splits, folds, dataset, hold_out)
    else:
        folds = planned_folds(dataset, config.data.n_splits, config.compute.seed, hold_out)
    parse_folds(config.compute.folds, len(folds))
    untested = len(dataset.samples) - sum(len(fold.test) for fold in folds)
    if untested:
        _log.info(f"note: {folder.splits}: {untested} of {len(dataset.samples)} images are in no test side")
    if hold_out is None:
        said = cut(too_large_groups(dataset, len(folds)), "groups are as large")
    else:
        said = described(folds, dataset, hold_out)
    for text in said:
        _log.info(f"note: {text}")
    return folds


def write_images(folder: RunFolder, images: Sequence[ImageRow]) -> None:
    """Write images.csv."""
    columns = [f.name for f in dataclasses.fields(ImageRow)]
    write_csv(folder.images, columns, [dataclasses.astuple(image) for image in images])


def parts_of_training_side(run: Run, number: int, k: int, seed: int) -> NDArray[np.int64]:
    """The part, of k, that each of a fold's training images is in for cross-fitting.

    A source whose maps need parts takes fewer of them where there are few images or groups.

    Raises:
        UserError: fewer images or groups than parts, or a part that holds all normal images.
    """
    if k > FEWEST_PARTS and described_sources(run.map_source):
        try:
            return _parts(run, number, k, seed)
        except UserError:
            return parts_of_training_side(run, number, k - 1, seed)
    try:
        return _parts(run, number, k, seed)
    except UserError as error:
        if k > FEWEST_PARTS or not described_sources(run.map_source):
            raise
        text = str(error).partition(": ")[2].removesuffix(" Use fewer.")
        raise UserError(
            f"--maps {run.map_source.replace(JOINED, ' ')}: {text} Add images, or choose another source."
        ) from None


def _parts(run: Run, number: int, k: int, seed: int) -> NDArray[np.int64]:
    train = run.rows(run.folds[number].train)
    try:
        parts = inner_parts(run.labels[train].tolist(), run.groups_of(train), k, seed)
    except UserError as error:
        raise UserError(f"--cross-fit {k}: fold {number}: {error}") from None
    for part in range(k):
        if not (run.labels[train][parts != part] == 0).any():
            raise UserError(f"--cross-fit {k}: part {part} of fold {number} leaves no normal image. Use fewer.")
    return parts


def record(folder: RunFolder, options: dict[str, Any], **facts: Any) -> None:
    """Write the options and some facts to config.yaml; other options and facts that were recorded before stay."""
    before = folder.read_config()
    recorded = before.pop("recorded", {})
    if "adn" in options:  # of a detector, with those that it has at their defaults
        before = {k: v for k, v in before.items() if k not in omitted_by_default(DetectorConfig)}
    write_config(folder.config, {**before, **options}, {**recorded, **facts})


def with_copies_grouped(dataset: Dataset, cache: Cache) -> Dataset:
    """Put files with the same bytes into one group, and log how many; the data set has no unreadable files."""
    labels = [sample.label for sample in dataset.samples]
    grouped, copies = group_copies(dataset, duplicates(cache.infos, labels).within)
    if copies:
        _log.info(f"note: {copies} images are exact copies of others; every split keeps copies together")
    return grouped


def image_rows(dataset: Dataset, cache: Cache) -> tuple[ImageRow, ...]:
    """The lines of images.csv, for a data set without its unreadable files."""
    return tuple(
        ImageRow(s.file, s.label, s.kind, s.group, s.mask or "", i.sha256, i.width, i.height)
        for s, i in zip(dataset.samples, cache.infos, strict=True)
    )


def decode_images(folder: RunFolder, dataset: Dataset, data: DataConfig) -> Cache:
    """Fill the run's pixel cache, show progress, and log the skipped files."""
    with progress_bar("reading images", len(dataset.samples)) as set_done:
        cache = build_cache(
            dataset,
            data.image_size,
            folder.pixels,
            skip_unreadable=data.skip_unreadable,
            on_progress=lambda done: set_done(done, ""),
            aspect=data.aspect,
            balance=data.white_balance,
        )
    if cache.healed:
        _log.info(f"note: {cache.path}: damaged; the pixel cache was made again")
    for line in cut([f"skipped: {file} ({reason})" for file, reason in cache.skipped], "are unreadable"):
        _log.info(line)
    if cache.broken_profiles:
        _log.info(f"note: {cache.broken_profiles} images with an unusable color profile: taken as sRGB")
    return cache


def refuse_other_images(folder: RunFolder, images: tuple[ImageRow, ...]) -> None:
    if not folder.images.exists():
        return
    earlier = folder.read_images()
    before, now = ({(i.file, i.sha256, i.label) for i in each} for each in (earlier, images))
    if before != now:
        file = min(before ^ now)[0]
        raise UserError(
            f"{folder.path}: this run belongs to another data set (they differ in {file}). Choose another --out."
        )
    regrouped = {(i.file, i.group) for i in earlier} ^ {(i.file, i.group) for i in images}
    if regrouped:
        raise UserError(
            f"{folder.path}: this run was made with other --groups (they differ in {min(regrouped)[0]}). "
            "Use the same, or choose another --out."
        )


def refuse_other_folds(folder: RunFolder, folds: Sequence[Fold], hold_out: str | None) -> None:
    """Raise UserError if a run's splits.json holds out values without --hold-out, or the other way round."""
    if any(fold.held_out for fold in folds) == (hold_out is None):
        made = "not made with" if hold_out else "made with"
        raise UserError(
            f"{folder.splits}: {made} --hold-out. Remove it, or {'omit' if hold_out else 'pass'} the option."
        )


def facts_of_pixels(cache: Cache) -> dict[str, str]:
    """The facts about its pixels that a run records."""
    return {"pixels": cache.path.name, "pixels_sha256": cache.sha256}


def refuse_other_pixels(folder: RunFolder, cache: Cache) -> None:
    """Raise UserError if a run's colorizers and maps were made from other pixels of the same images.

    Versions may decode differently. Earlier ones recorded the cache's name only; for these, its file is compared.
    """
    recorded = folder.read_config().get("recorded", {})
    before = recorded.get("pixels_sha256")
    if before is None and (name := recorded.get("pixels", cache.path.name)) != cache.path.name:
        before = sha256_of(folder.pixels / Path(name).name)
    begun = [*folder.path.glob("[0-9]*/maps.zarr"), *folder.path.glob("[0-9]*/colorizer")]
    if begun and before not in (None, cache.sha256):
        raise UserError(
            f"{begun[0]}: made from other pixels, by a version that decoded these images differently. "
            "Make the run again with another --out."
        )


def refuse_unfit_maps(config: ColorizerConfig) -> None:
    """Raise UserError if the map source is unknown, or the authors' coding is chosen without OpenCV."""
    try:
        find_map_source(config.map_source)
    except ValueError as error:
        raise UserError(str(error)) from None
    if COLOR_MAP in config.maps and config.colorizer not in COLORIZERS:
        raise OptionError("colorizer", config.colorizer, f"choose from {', '.join(COLORIZERS)}.")
    if config.map_coding != "authors":
        return
    try:
        check_opencv()
    except ImportError as error:
        remedy = f"{install('authors')}, or omit the option to get true ΔE00."
        raise UserError(f"--map-coding authors: {error} {remedy}") from None


def refuse_other_options(folder: RunFolder, config: ColorizeConfig | FitConfig) -> None:
    """Raise UserError if a folder was begun with other options."""
    difference = differing_option(folder.read_config(), to_options(config))
    if difference:
        raise UserError(
            f"{folder.path}: this run was made with {difference}. Use its options (--config "
            f"{folder.config}), or choose another --out."
        )
