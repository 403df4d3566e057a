"""Sources of images by name, and the data set that a run's options select.

A file in sources/ registers its own; other packages may register more.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from leanet.config import DataConfig
from leanet.config.shown import AUTO
from leanet.data import sources
from leanet.data.dataset import Dataset, limit_per_class, with_groups
from leanet.data.source import DataSource
from leanet.data.tiles import Tiling
from leanet.data.training_tiles import into_tiles
from leanet.errors import OptionError, UserError

SOURCES: dict[str, type[DataSource]] = {}

FOLDER = "folder"
"""The source of what no other source reads."""

Source = TypeVar("Source", bound=type[DataSource])


def register_source(name: str) -> Callable[[Source], Source]:
    """A decorator that registers a source for `DataConfig.source`; a later class of the same name replaces it."""

    def register(source: Source) -> Source:
        SOURCES[name] = source
        return source

    return register


def open_source(dataset: Path, data: DataConfig) -> DataSource:
    """The source that the options name, or that reads files like this one; OptionError if it is not registered."""
    if data.source == AUTO:
        return _source_of(dataset)(dataset, data)
    if data.source not in SOURCES:
        remedy = f"no such source of images. Register it, or choose from {', '.join(SOURCES)}."
        raise OptionError("source", data.source, remedy)
    return SOURCES[data.source](dataset, data)


def _source_of(dataset: Path) -> type[DataSource]:
    """The last source that was registered for a file's suffix, or that of folders."""
    suffix = dataset.suffix.lower()
    fitting = [source for source in SOURCES.values() if suffix in source.suffixes and not dataset.is_dir()]
    return fitting[-1] if fitting else SOURCES[FOLDER]


def list_images(dataset: Path, data: DataConfig, seed: int, *, normals_only: bool = False) -> Dataset:
    """List the images of a data set that the options select.

    Args:
        dataset: the DATASET argument.
        data: the source, its options, the groups, the tiles and the most images of each class.
        seed: seed of the random choice if there are more images than that.
        normals_only: list normal images only; there may be no others.
    Raises:
        UserError: as `DataSource.scan`; a bad groups file; a source that violates its contract; pictures that
            cannot be divided, see `into_tiles`.
    """
    source = open_source(dataset, data)
    found = source.scan_normals() if normals_only else source.scan()
    _refuse_unfit(found)
    if data.groups is not None:
        found = with_groups(found, data.groups)
    if data.tile is not None:
        found = into_tiles(found, Tiling(data.tile, data.overlap))
    return found if data.max_per_class is None else limit_per_class(found, data.max_per_class, seed)


def _refuse_unfit(dataset: Dataset) -> None:
    """Raise UserError if a source's images share names, or have a label other than 0 and 1."""
    if not dataset.samples:
        raise UserError(f"{dataset.root}: no images in it. Check the data set.")
    for sample in dataset.samples:
        if not sample.file or not all(map(_is_text, (sample.file, sample.kind, sample.group, sample.mask or ""))):
            raise UserError(f"{dataset.root}: {sample!r:.200}: expected text for all but the label.")
        if type(sample.label) is not int or sample.label not in (0, 1):
            raise UserError(
                f"{dataset.place_of(sample)}: label {sample.label!r}; expected 0 (normal) or 1 (anomalous)."
            )
    file, count = Counter(sample.file for sample in dataset.samples).most_common(1)[0]
    if count > 1:
        raise UserError(f"{dataset.root}: {count} images are named {file}. Give each its own name.")


def _is_text(value: object) -> bool:
    """Whether a value is text that UTF-8 can encode."""
    return isinstance(value, str) and not any("\ud800" <= character <= "\udfff" for character in value)


for _file in pkgutil.iter_modules(sources.__path__):
    importlib.import_module(f"{sources.__name__}.{_file.name}")
