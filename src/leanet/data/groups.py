"""Read groups.csv, which names the images of one object, as people and spreadsheets write it."""

from __future__ import annotations

import codecs
import csv
import io
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

from leanet.data.find import folded, listed
from leanet.errors import UserError
from leanet.reading import read_bytes

DELIMITERS = (",", ";", "\t", "|")
MOST_BYTES = 200_000_000  # enough for more than a million images
COLUMNS = ("file", "group")

_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def read_groups(path: Path, files: Sequence[str], root: Path) -> tuple[dict[str, str], list[str]]:
    r"""Read the groups of a data set's files.

    The first line names the columns file and group; other columns are ignored. The separator is a comma, semicolon,
    tab or bar. Blanks around a cell and the composition of accents are ignored; \ separates folders as / does.

    Args:
        path: a CSV file in UTF-8, or in UTF-16 with a byte order mark.
        files: the data set's files, relative to the root.
        root: the data set's folder, for messages.
    Returns:
        The group of each file that has one, and notes for the user.
    Raises:
        UserError: no such file, or another format; it names a file that is not in the data set, or puts one in two
            groups.
    """
    groups: dict[str, str] = {}
    unknown: list[str] = []
    known = _Names(files)
    for line, name, group in _rows(path):
        if not name or not group:
            raise UserError(f"{path}: line {line} lacks a file or a group. Complete or remove it.")
        file = known.find(name)
        if file is None:
            unknown.append(name)
        elif groups.setdefault(file, group) != group:
            raise UserError(f"{path}: {file} is in two groups, {groups[file]} and {group}. Keep one.")
    if unknown:
        first = min(unknown)
        more = f" and {len(set(unknown)) - 1} more" if len(set(unknown)) > 1 else ""
        raise UserError(
            f"{path}: names {first}{more}, not in {root}. "
            f"Files are named relative to the dataset, as in {files[0]}."
        )
    return groups, [*_alone(path, len(files) - len(groups)), *_alike(groups.values())]


class _Names:
    """A data set's files by name: the exact name, or another spelling of it."""

    def __init__(self, files: Sequence[str]) -> None:
        self.exact = set(files)
        self.loose: dict[str, str | None] = {}
        for file in files:
            key = folded(file)
            self.loose[key] = None if key in self.loose else file  # None: ambiguous

    def find(self, name: str) -> str | None:
        for written in (name, name.replace("\\", "/")):
            path = PurePosixPath(written).as_posix()
            if path in self.exact:
                return path
            if found := self.loose.get(folded(path)):
                return found
        return None


def _rows(path: Path) -> Iterable[tuple[int, str, str]]:
    """Line, file and group of each row, stripped; rows of empty cells are skipped."""
    text = _text(path)
    try:
        first = next(iter(io.StringIO(text, newline="")), "")
        delimiter = next((d for d in DELIMITERS if set(COLUMNS) <= set(_header(first, d))), ",")
        header = _header(first, delimiter)
        if missing := sorted(set(COLUMNS) - set(header)):
            raise UserError(
                f"{path}: no column {' and no column '.join(missing)}. The first line must be file,group, "
                "separated by commas, semicolons or tabs."
            )
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
        next(reader)
        rows = []
        for row in reader:
            if any(cell.strip() for cell in row):
                cells = dict(zip(header, (cell.strip() for cell in row), strict=False))
                group = unicodedata.normalize("NFC", cells.get("group", ""))
                rows.append((reader.line_num, cells.get("file", ""), group))
    except csv.Error:
        raise _not_csv(path) from None
    return rows


def _text(path: Path) -> str:
    try:
        data = read_bytes(path, MOST_BYTES)
        return data.decode("utf-16" if data.startswith(_UTF16) else "utf-8-sig")
    except OSError as error:
        raise UserError(f"{path}: cannot read the groups file ({error.strerror}). Check --groups.") from None
    except UnicodeDecodeError:
        raise _not_csv(path) from None


def _header(line: str, delimiter: str) -> list[str]:
    return [cell.strip().casefold() for cell in next(csv.reader([line], delimiter=delimiter), [])]


def _not_csv(path: Path) -> UserError:
    return UserError(f"{path}: not a CSV file in UTF-8. Save it as CSV (UTF-8) with the columns file,group.")


def _alone(path: Path, count: int) -> list[str]:
    if not count:
        return []
    have, are = ("files have", "are groups of their") if count > 1 else ("file has", "is a group of its")
    return [f"{count} {have} no entry in {path.name} and {are} own"]


def _alike(groups: Iterable[str]) -> list[str]:
    """A note on groups whose names differ only in case or inner blanks, and may have been meant as one."""
    spellings: dict[str, set[str]] = {}
    for group in groups:
        spellings.setdefault("".join(group.split()).casefold(), set()).add(group)
    pairs = [" / ".join(sorted(names)) for names in spellings.values() if len(names) > 1]
    if not pairs:
        return []
    return [f"groups that differ only in case or spaces count as different: {listed(sorted(pairs))}"]
