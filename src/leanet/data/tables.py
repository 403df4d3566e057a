"""Tables as people, spreadsheets and programs write them: the rows of a CSV or Parquet file, as text."""

from __future__ import annotations

import codecs
import csv
import importlib.util
import io
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from leanet.errors import UserError, install

DELIMITERS = (",", ";", "\t", "|")
MOST_BYTES = 200_000_000  # enough for more than a million images

_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


@dataclass(frozen=True)
class Table:
    """A table's content as text.

    Attributes:
        header: names of the columns, as `column_name` makes them.
        rows: number of the line (of a Parquet file: of the row, from 1) and the cells by column, stripped, of each
            row that is not empty.
    """

    header: tuple[str, ...]
    rows: tuple[tuple[int, dict[str, str]], ...]


def column_name(text: str) -> str:
    """A column's name as tables are searched for it: without outer blanks, in any case."""
    return text.strip().casefold()


def decoded(data: bytes) -> str:
    """The text of a CSV file in UTF-8, or in UTF-16 with a byte order mark; UnicodeDecodeError otherwise."""
    return data.decode("utf-16" if data.startswith(_UTF16) else "utf-8-sig")


def delimiter_of(first: str, wanted: Collection[str]) -> str:
    """That of DELIMITERS with which the first line has the wanted columns; else the one that gives most columns."""
    headers = {delimiter: _header(first, delimiter) for delimiter in DELIMITERS}
    fitting = (delimiter for delimiter in DELIMITERS if set(wanted) <= set(headers[delimiter]))
    return next(fitting, max(DELIMITERS, key=lambda one: len(headers[one])))


def parse_csv(text: str, wanted: Collection[str], *, strict: bool = False) -> Table:
    """The rows of CSV text, separated by that of DELIMITERS with which the first line has the wanted columns.

    Args:
        wanted: names of columns.
        strict: refuse a row with more cells than columns.
    Raises:
        csv.Error: not CSV; with `strict`, such a row.
    """
    first = next(iter(io.StringIO(text, newline="")), "")
    delimiter = delimiter_of(first, wanted)
    header = _header(first, delimiter)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    next(reader, None)
    rows = []
    for row in reader:
        cells = [cell.strip() for cell in row]
        if strict and any(cells[len(header) :]):
            raise csv.Error(f"line {reader.line_num}: more cells than the {len(header)} columns")
        if any(cells):
            rows.append((reader.line_num, dict(zip(header, cells, strict=False))))
    return Table(tuple(header), tuple(rows))


def parse_parquet(data: bytes, place: str) -> Table:
    """The rows of a Parquet file's columns of text, numbers, dates and truth values.

    Raises:
        UserError: not a Parquet file, or pyarrow is missing.
    """
    if importlib.util.find_spec("pyarrow") is None:
        raise UserError(f"{place}: pyarrow is missing. {install('pool')}")
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(pa.BufferReader(data))
    except Exception as error:  # pyarrow raises classes of its own, and OSError for damage
        said = " ".join(str(error).split())[:200]
        raise UserError(f"{place}: not a readable Parquet file ({said}).") from None
    fields = [field for field in table.schema if not (pa.types.is_nested(field.type) or _is_bytes(field.type))]
    header = [column_name(field.name) for field in fields]
    columns = [table.column(field.name).to_pylist() for field in fields]
    rows = enumerate(zip(*columns, strict=True), 1)
    texts = [(number, dict(zip(header, map(_text, row), strict=True))) for number, row in rows]
    return Table(tuple(header), tuple(row for row in texts if any(row[1].values())))


def is_parquet(place: str) -> bool:
    """Whether a file's name says that it is a Parquet file."""
    return PurePosixPath(place).suffix.lower() == ".parquet"


def _header(line: str, delimiter: str) -> list[str]:
    return [column_name(cell) for cell in next(csv.reader([line], delimiter=delimiter), [])]


def _is_bytes(kind: Any) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _text(value: object) -> str:
    """A cell as text; a whole number without a fraction, because pandas stores 0 and 1 as floats beside gaps."""
    if value is None or value != value:
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value).strip()
