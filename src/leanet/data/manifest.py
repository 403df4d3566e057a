"""The rows of a pool: a Parquet file as it is; a CSV file, folder, bucket or pattern listed in a Parquet file."""

from __future__ import annotations

import bisect
import contextlib
import csv
import functools
import hashlib
import importlib.util
import io
import itertools
import logging
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any

from leanet.data import remote
from leanet.data.find import IMAGE_SUFFIXES, matching, same_name, why_not
from leanet.data.layout import MASKS
from leanet.data.pictures import SHARD
from leanet.data.remote import is_url
from leanet.data.tables import column_name, delimiter_of
from leanet.errors import UserError, install
from leanet.files import beside, from_cell

_log = logging.getLogger(__name__)

COLUMN = "file"
"""The column of a listing, and by default of a manifest."""

TABLES = (".parquet", ".csv")
"""Suffixes of files with rows."""

LABEL = "label"
"""The column of a table whose rows may have labels."""

LISTING, LIST_AGAIN = "_listing.parquet", "Choose another --out, which lists again."
"""The file of rows beside the answers, if the manifest is no Parquet file; and the remedy where it is damaged."""

GROUP = 100_000
"""Rows of a row group in a listing: a shard's rows are found by skipping less than a group."""

_MAGIC = frozenset("*?[")
"""The signs that make a name a pattern."""

_BATCH = 10_000
_BUFFER = 2**20
_ENDS = 2**20
"""Bytes at either end of a file that `brief_hash` reads."""


@dataclass(frozen=True)
class Manifest:
    """The rows of a pool, as plain data.

    Attributes:
        table: path or URL of a Parquet file.
        column: its column of pictures.
        root: folder or URL that relative names refer to.
        rows: the number of rows, 1 or more.
    """

    table: str
    column: str
    root: str
    rows: int

    def read(self, first: int, last: int) -> Iterator[tuple[int, str]]:
        """Rows first..last - 1 with their numbers; an empty cell is "".

        Only a part of one row group is in memory, if the file's writer divided its groups into pages.

        Raises:
            UserError: the file cannot be read.
        """
        number = first
        for files in _batches(self.table, self.column, first, last):
            for file in files:
                yield number, file or ""
                number += 1

    def has_shards(self) -> bool:
        """Whether the first row names a tar shard."""
        return next(self.read(0, 1))[1].lower().endswith(SHARD)


def is_table(given: str) -> bool:
    """Whether a manifest is a file with rows, rather than a place to list."""
    return PurePosixPath(given).suffix.lower() in TABLES


def facts_of(given: str) -> dict[str, object]:
    """What identifies a manifest: a file's size and hash and the folder of its relative names, or the listed place.

    Raises:
        UserError: no such file, or it cannot be read.
    """
    if is_table(given):
        size, digest = brief_hash(given)
        return {"bytes": size, "hash": digest, "root": _absolute(_parent(given))}
    return {"place": _absolute(given)}


def open_manifest(given: str, column: str, listing: Path) -> Manifest:
    """Open a manifest, after listing it if that has not happened.

    Args:
        given: a Parquet or CSV file, a folder, a URL that ends with "/", a tar shard, or a pattern.
        column: the file's column of pictures.
        listing: Parquet file to write the rows to if they are not in one.
    Raises:
        UserError: no such manifest, one without the column or rows, or a missing package.
    """
    if importlib.util.find_spec("pyarrow") is None:
        raise UserError(f"--manifest {given}: pyarrow is missing. {install('pool')}")
    if given.lower().endswith(".parquet"):
        return _checked(Manifest(given, column, _parent(given), 0), given)
    if not listing.exists():
        _log.info(f"listing {given}")
        _write(listing, _csv_rows(given, column) if is_table(given) else _Listing(given).rows())
    return _checked(Manifest(str(listing), COLUMN, _root_of(given), 0), given)


def are_labeled(given: str, column: str) -> Iterator[bool]:
    """Whether each row of a table has something in its column `label`; nothing if it has no such column.

    Args:
        given: a Parquet or CSV file that `open_manifest` has opened.
        column: its column of pictures.
    """
    if given.lower().endswith(".parquet"):
        metadata, schema, _ = _layout_of(given)
        if (labels := _labels_in(schema.names, column)) is None:
            return
        batches = _batches(given, labels, 0, metadata.num_rows)
        cells: Iterable[object] = itertools.chain.from_iterable(batches)
    else:
        with _opened(given) as file:
            first = io.TextIOWrapper(file, "utf-8-sig", newline="").readline()
        names = next(csv.reader([first], delimiter=delimiter_of(first, [column_name(column)])), [])
        if (labels := _labels_in(names, column)) is None:
            return
        cells = _csv_rows(given, labels)
    yield from (cell not in (None, []) and cell == cell and bool(str(cell).strip()) for cell in cells)


def _labels_in(names: Iterable[str], column: str) -> str | None:
    """The one column of labels beside that of the pictures; None if there is none, or several."""
    found = [name for name in names if column_name(name) == LABEL and name != column]
    return found[0] if len(found) == 1 else None


def brief_hash(place: str) -> tuple[int, str]:
    """A file's size in bytes, and a hash of it and of the file's first and last megabyte."""
    with _opened(place) as file:
        size = file.seek(0, os.SEEK_END)
        digest = hashlib.sha256(str(size).encode())
        for start in (0, max(0, size - _ENDS)):
            file.seek(start)
            digest.update(file.read(_ENDS))
    return size, digest.hexdigest()


def _absolute(place: str) -> str:
    return place if is_url(place) else os.path.abspath(place)  # noqa: PTH100 - a pattern is no path


def _parent(given: str) -> str:
    return given.rpartition("/")[0] if is_url(given) else str(Path(given).parent)


def _root_of(given: str) -> str:
    """What the rows of a listing are relative to: a table's folder, or the folder that is searched."""
    path = Path(given)
    if is_url(given) or is_table(given):
        return _parent(given)
    if path.is_dir():
        return given
    return str(path.parent if path.exists() else next(each for each in path.parents if not _MAGIC & {*str(each)}))


@contextlib.contextmanager
def _opened(place: str) -> Iterator[IO[bytes]]:
    if is_url(place):
        with remote.opened(place) as file, remote.user_errors(place):
            yield file
        return
    try:
        file = Path(place).open("rb")  # noqa: SIM115 - closed below
    except OSError as error:
        raise UserError(f"{place}: {(error.strerror or str(error)).lower()}. Check the path.") from None
    with file:
        yield file


def _checked(manifest: Manifest, given: str) -> Manifest:
    """The manifest with the number of its rows."""
    import pyarrow as pa

    metadata, schema, _ = _layout_of(manifest.table)
    _check_column(given, manifest.column, schema.names)
    kind = schema.field(manifest.column).type
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)):
        raise UserError(f"{given}: column {manifest.column}: expected text, found {kind}.")
    if not metadata.num_rows:
        raise UserError(f"{given}: no rows. Check the manifest.")
    return Manifest(manifest.table, manifest.column, manifest.root, metadata.num_rows)


def _check_column(given: str, column: str, names: list[str]) -> None:
    if not names:
        raise UserError(f"{given}: no columns. Its first row must name them.")
    if column not in names:
        raise UserError(f"{given}: no column {column}. It has {', '.join(names)}; name one with --column.")
    if names.count(column) > 1:
        raise UserError(f"{given}: several columns {column}. Rename all but one, or name another with --column.")


def _layout_of(table: str) -> tuple[Any, Any, list[int]]:
    """A Parquet file's metadata and schema, and the first row of each of its row groups; kept for further calls."""
    try:
        status = None if is_url(table) else Path(table).stat()
    except OSError:
        status = None  # which opening it reports
    return _read_layout(table, status and (status.st_ino, status.st_size, status.st_mtime_ns))


@functools.lru_cache(maxsize=4)
def _read_layout(table: str, _version: object) -> tuple[Any, Any, list[int]]:
    import pyarrow.parquet as pq

    with _parquet_errors(table), _opened(table) as file, pq.ParquetFile(file) as opened:
        metadata = opened.metadata
        sizes = (metadata.row_group(i).num_rows for i in range(metadata.num_row_groups))
        return metadata, opened.schema_arrow, list(itertools.accumulate(sizes, initial=0))


def _batches(table: str, column: str, first: int, last: int) -> Iterator[list[str | None]]:
    """The column's rows first..last - 1, some at a time."""
    import pyarrow.parquet as pq

    metadata, _, starts = _layout_of(table)
    start, end = bisect.bisect_right(starts, first) - 1, bisect.bisect_left(starts, last)
    at = starts[start]
    with _parquet_errors(table), _opened(table) as file:
        opened = pq.ParquetFile(file, metadata=metadata, buffer_size=_BUFFER, page_checksum_verification=True)
        for batch in opened.iter_batches(_BATCH, row_groups=range(start, end), columns=[column]):
            if at + len(batch) > first:
                skipped = max(0, first - at)
                yield batch.column(0).slice(skipped, last - at - skipped).to_pylist()
            if (at := at + len(batch)) >= last:
                return
        raise ValueError("rows are missing")  # pyarrow skips a page of a damaged kind


@contextlib.contextmanager
def _parquet_errors(table: str) -> Iterator[None]:
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # pyarrow raises classes of its own, and OSError for damage
        remedy = LIST_AGAIN if table.endswith(LISTING) else "Write it again."
        raise UserError(f"{table}: not a readable Parquet file ({remote.in_short(error)}). {remedy}") from None


def _write(listing: Path, rows: Iterable[str]) -> None:
    """Write rows to a Parquet file, completely or not at all, a group at a time."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema, remaining = pa.schema([(COLUMN, pa.string())]), iter(rows)
    with beside(listing) as partial, pq.ParquetWriter(partial, schema, write_page_checksum=True) as writer:
        while group := list(itertools.islice(remaining, GROUP)):
            writer.write_table(pa.table([group], schema=schema))


def _csv_rows(given: str, column: str) -> Iterator[str]:
    """The cells of a CSV file's column."""
    with _opened(given) as file:
        text, rows = io.TextIOWrapper(file, "utf-8-sig", newline=""), None
        try:
            first = next(text, "")
            delimiter = delimiter_of(first, [column_name(column)])
            rows = csv.reader(itertools.chain([first], text), strict=True, delimiter=delimiter)
            header = next(rows, [])
            _check_column(given, column, header)
            at = header.index(column)
            for row in rows:
                if len(row) == len(header):
                    yield from_cell(row[at])
                elif row:
                    raise csv.Error("a row with more or fewer cells than the first")
        except csv.Error as error:
            line = rows.line_num if rows else 1
            raise UserError(f"{given}: line {line}: {error}. Correct it.") from None
        except UnicodeDecodeError:
            raise UserError(f"{given}: not UTF-8. Convert it.") from None


class _Listing:
    """The pictures or the tar shards in a place, in the order in which the file system lists them."""

    def __init__(self, given: str) -> None:
        self._given = given
        self._left_out = Counter[str]()

    def rows(self) -> Iterator[str]:
        """Their names; the log says what else is there.

        Raises:
            UserError: nothing there, or both pictures and shards.
        """
        first = ""
        for name in self._remote() if is_url(self._given) else self._local():
            is_shard = name.lower().endswith(SHARD)
            if first and is_shard != first.lower().endswith(SHARD):
                raise UserError(
                    f"{self._given}: holds pictures and tar shards ({first}, {name}). Name one kind, for example "
                    f"'{self._given.rstrip('/')}/*{PurePosixPath(name).suffix}'."
                )
            first = first or name
            yield name
        for why, count in sorted(self._left_out.items()):
            _log.info(f"note: {self._given}: left out, {why}: {count}")
        if not first:
            raise UserError(f"{self._given}: no pictures and no tar shards there. Check the path.")

    def _local(self) -> Iterator[str]:
        path, root = Path(self._given), Path(_root_of(self._given))
        if path.is_dir():
            found = _walked(path, self._left_out)
        else:
            found = iter([path]) if path.exists() else (each for each in matching(self._given) if not each.is_dir())
        for file in found:
            name = os.path.relpath(file, root)
            why = "" if name.lower().endswith(SHARD) else why_not(file)
            if not why and not _is_text(name):
                why = "a name that is not UTF-8"
            if why:
                self._left_out[why] += 1
            else:
                yield name

    def _remote(self) -> Iterator[str]:
        """The URLs of pictures and shards by their suffixes, because to open each object costs a request."""
        given = self._given
        system, path = remote.file_system(given)
        with remote.user_errors(given):
            if _MAGIC & {*given}:
                names: Iterable[str] = self._matching(system, path)
            elif system.info(path)["type"] == "file":
                names = [path]
            else:
                names = self._walked_remote(system, path)
            for name in names:
                if PurePosixPath(name).suffix.lower() in (SHARD, *IMAGE_SUFFIXES):
                    yield str(system.unstrip_protocol(name))
                else:
                    self._left_out["no suffix of a picture"] += 1

    def _matching(self, system: Any, pattern: str) -> Iterator[str]:
        """The objects that match a pattern; hidden ones only if the pattern names some."""
        for name in system.glob(pattern):
            if "/." in name and "/." not in pattern:
                self._left_out["hidden"] += 1
            else:
                yield name

    def _walked_remote(self, system: Any, path: str) -> Iterator[str]:
        """The objects below a folder, except those that `_walked` leaves out."""
        for folder, folders, files in system.walk(path, detail=True, on_error="raise"):
            for name in [*folders]:
                if why := "hidden" if name.startswith(".") else "folder of masks" if same_name(name, MASKS) else "":
                    self._left_out[why] += 1
                    del folders[name]  # the walk does not enter it then
            for name in files:
                if name.startswith("."):
                    self._left_out["hidden"] += 1
                else:
                    yield f"{folder}/{name}"


def _walked(folder: Path, left_out: Counter[str]) -> Iterator[Path]:
    """The regular files below a folder, except hidden ones; links are followed to files but not to folders."""
    remaining = [str(folder)]
    while remaining:
        try:
            with os.scandir(remaining.pop()) as entries:
                for entry in entries:
                    if entry.name.startswith("."):
                        left_out["hidden"] += 1
                    elif entry.is_dir(follow_symlinks=False):
                        if same_name(entry.name, MASKS):
                            left_out["folder of masks"] += 1
                        else:
                            remaining.append(entry.path)
                    elif entry.is_file():
                        yield Path(entry.path)
                    else:
                        left_out["links to folders, broken links, pipes, devices or sockets"] += 1
        except OSError:
            left_out["folder that cannot be opened"] += 1


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
