"""A CSV or Parquet file that lists images with labels, kinds, groups and masks."""

from __future__ import annotations

import csv
import unicodedata
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path, PurePosixPath
from typing import ClassVar

from leanet.config import DataConfig
from leanet.config.data import FIELDS
from leanet.data.dataset import CLASS_NAMES, Dataset, Sample
from leanet.data.find import listed
from leanet.data.groups import alike
from leanet.data.labels import REMEDY, LabelFile, in_order, meaning
from leanet.data.pictures import joined, read_place
from leanet.data.registry import register_source
from leanet.data.remote import address, content, is_url
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
class ManifestSource(LabelFile):
    """The rows of a CSV or Parquet file.

    A column `file` names the picture: a path relative to the manifest, an absolute path or a URL. `label` is 0 or
    1, a word for normal or anomalous, or one that --normal explains. `kind`, `group` and `mask` are optional. Other
    columns are facts about the images.
    """

    suffixes: ClassVar[tuple[str, ...]] = (".csv", ".parquet")

    def __init__(self, dataset: Path, options: DataConfig) -> None:
        super().__init__(dataset, options)
        self._columns = {field: column_name(options.column(field)) for field in FIELDS}

    def read(self, *, normals_only: bool = False) -> tuple[Dataset, Sequence[str]]:
        """The rows that have a label."""
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
        if self.options.hold_out is None and any(cells.get(SPLIT) for _, cells in table.rows):
            notes.append(f"column {SPLIT}: not used, unless --hold-out {SPLIT}=VALUE names the part to test on")
        notes += alike("groups", (sample.group for sample in samples if sample.group != sample.file))
        kept = in_order(samples, normals_only=normals_only)
        words = dict.fromkeys(self._cell(cells, "label") for _, cells in table.rows)
        dataset = Dataset(self.dataset, kept, tuple(notes), base=self.dataset.parent, is_exact=True)
        return dataset, [*filter(None, words)]

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
