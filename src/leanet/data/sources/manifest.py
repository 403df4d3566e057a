"""A CSV or Parquet file that lists images with labels, kinds, groups and masks."""

from __future__ import annotations

import csv
import unicodedata
from collections.abc import Mapping
from functools import partial
from pathlib import Path, PurePosixPath
from typing import ClassVar

from leanet.config import DataConfig
from leanet.config.data import FIELDS
from leanet.data.dataset import CLASS_NAMES, Dataset, Sample
from leanet.data.find import listed
from leanet.data.labels import REMEDY, meaning
from leanet.data.pictures import joined, read_place
from leanet.data.registry import register_source
from leanet.data.remote import address, content, is_url
from leanet.data.source import DataSource
from leanet.data.tables import (
    MOST_BYTES,
    Table,
    column_name,
    decoded,
    is_parquet,
    parse_csv,
    parse_parquet,
)
from leanet.errors import UserError
from leanet.files import from_cell

SPLIT = "split"
"""A column that only `--hold-out` reads: runs make folds of their own."""


@register_source("manifest")
class ManifestSource(DataSource):
    """The rows of a CSV or Parquet file.

    A column `file` names the picture: a path relative to the manifest, an absolute path or a URL. `label` is 0 or
    1, a word for normal or anomalous, or one that --normal explains. `kind`, `group` and `mask` are optional. Other
    columns are facts about the images.
    """

    suffixes: ClassVar[tuple[str, ...]] = (".csv", ".parquet")

    def __init__(self, dataset: Path, options: DataConfig) -> None:
        super().__init__(dataset, options)
        self._columns = {field: column_name(options.column(field)) for field in FIELDS}
        self._words = dict[str, None]()  # the first labels, for messages

    def scan(self) -> Dataset:
        """The images of both classes, normal ones first, in the manifest's order."""
        dataset = self._read()
        for label, name in enumerate(CLASS_NAMES):
            if not dataset.of_class(label):
                said = f" The labels are {listed(self._words)}." if self._words else ""
                alone = " With normal images alone, only `leanet fit` works." if label else ""
                raise UserError(f"{address(self.dataset)}: no {name} images.{said} {REMEDY}.{alone}")
        return dataset

    def scan_normals(self) -> Dataset:
        """The normal images of a manifest that may have no others."""
        return self._read(normals_only=True)

    def has_anomalies(self) -> bool:
        """Whether a row is anomalous."""
        return bool(self._read().of_class(1))

    def _read(self, normals_only: bool = False) -> Dataset:
        place = address(self.dataset)
        table = self._table(place)
        root = place.rpartition("/")[0] if is_url(place) else str(self.dataset.parent)
        lines, samples, unlabeled = dict[str, tuple[int, int]](), list[Sample](), 0
        for line, cells in table.rows:
            said = self._label(place, line, cells)
            if said is None:
                unlabeled += 1
                continue
            sample = self._sample(f"{place}: line {line}", root, cells, *said)
            if before := lines.get(sample.file):
                raise _twice(place, sample, before, line)
            lines[sample.file] = line, sample.label
            samples.append(sample)
        notes = []
        if unlabeled:
            notes.append(f"left out, without a label: {unlabeled} of {len(table.rows)} rows")
        if SPLIT in table.header and self.options.hold_out is None:
            notes.append(f"column {SPLIT}: not used; a run makes its own folds, or --hold-out {SPLIT}=test")
        kept = [s for s in samples if s.label == 0] + [s for s in samples if s.label and not normals_only]
        return Dataset(self.dataset, tuple(kept), tuple(notes), base=self.dataset.parent, is_exact=True)

    def _table(self, place: str) -> Table:
        columns = [self._columns[field] for field in ("file", "label")]
        data = content(place, MOST_BYTES, "Check the path of the manifest.")
        if is_parquet(place):
            table = parse_parquet(data, place)
        else:
            try:
                table = parse_csv(decoded(data), columns, strict=True)
            except csv.Error as error:
                raise UserError(f"{place}: not a CSV file ({error}). Correct it.") from None
            except UnicodeDecodeError:
                raise UserError(f"{place}: not UTF-8. Save it as CSV (UTF-8).") from None
        wanted = [*columns, *(column_name(pair.partition("=")[2]) for pair in self.options.columns)]
        if missing := [column for column in wanted if column not in table.header]:
            found = listed(table.header) or "none"
            raise UserError(
                f"{place}: no column {missing[0]}. It has {found}; name others with --columns, "
                "such as --columns file=path label=class."
            )
        if twice := [column for column in wanted if table.header.count(column) > 1]:
            raise UserError(f"{place}: several columns {twice[0]}. Rename all but one.")
        return table

    def _label(self, place: str, line: int, cells: Mapping[str, str]) -> tuple[int, str] | None:
        """Label and kind of a row; None if it has no label."""
        text = self._cell(cells, "label")
        if not text:
            return None
        if len(self._words) < 20:
            self._words[text] = None
        said = meaning(text, self.options.normal)
        if said is None:
            raise UserError(f"{place}: line {line}: unknown label {text!r:.60}. {REMEDY}.")
        label, kind = said
        return label, (self._cell(cells, "kind") or kind) if label else ""

    def _sample(self, where: str, root: str, cells: Mapping[str, str], label: int, kind: str) -> Sample:
        name = self._cell(cells, "file")
        if not name:
            raise UserError(f"{where} names no file. Complete or remove it.")
        file, mask = _normal(name, root), self._cell(cells, "mask")
        facts = {column: from_cell(cell) for column, cell in cells.items()}
        return Sample(
            file,
            label,
            unicodedata.normalize("NFC", kind),
            unicodedata.normalize("NFC", self._cell(cells, "group")),
            _normal(mask, root) if mask and label else None,
            partial(_read, root, file),
            facts,
        )

    def _cell(self, cells: Mapping[str, str], field: str) -> str:
        return from_cell(cells.get(self._columns[field], ""))


def _read(root: str, file: str) -> bytes:
    return read_place(joined(root, file))


def _normal(name: str, root: str) -> str:
    r"""A file's name in its only spelling; \ separates folders where no file has the name itself."""
    if is_url(name):
        return name
    if "\\" in name and not (is_url(root) or Path(root, name).exists()):
        name = name.replace("\\", "/")
    return PurePosixPath(name).as_posix()


def _twice(place: str, sample: Sample, before: tuple[int, int], line: int) -> UserError:
    first, label = before
    if label != sample.label:
        both = f"is {CLASS_NAMES[label]} in line {first} and {CLASS_NAMES[sample.label]} in line {line}"
        return UserError(f"{place}: {sample.file} {both}. Keep one label.")
    return UserError(f"{place}: {sample.file} is in line {first} and in line {line}. Keep one.")
