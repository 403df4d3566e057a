"""Read groups.csv, which names the images of one object, as people and spreadsheets write it."""

from __future__ import annotations

import csv
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

from leanet.data.find import folded, listed
from leanet.data.tables import MOST_BYTES, Table, decoded, parse_csv
from leanet.errors import UserError
from leanet.reading import read_bytes

COLUMNS = ("file", "group")


def read_groups(
    path: Path, files: Sequence[str], root: Path
) -> tuple[dict[str, str], dict[str, dict[str, str]], list[str]]:
    r"""Read the groups of a data set's files.

    The first line names the columns file and group; others are facts about the images. The separator is a comma,
    semicolon, tab or bar. Blanks around a cell and the composition of accents are ignored; \ separates folders as /
    does.

    Args:
        path: a CSV file in UTF-8, or in UTF-16 with a byte order mark.
        files: the data set's files, relative to the root.
        root: the data set's folder, for messages.
    Returns:
        The group of each file that has one, its other columns, and notes for the user.
    Raises:
        UserError: no such file, or another format; it names a file that is not in the data set, or puts one in two
            groups.
    """
    groups, facts = dict[str, str](), dict[str, dict[str, str]]()
    unknown: list[str] = []
    known = _Names(files)
    for line, cells in _rows(path).rows:
        name, group = cells.get("file", ""), unicodedata.normalize("NFC", cells.get("group", ""))
        if not name or not group:
            raise UserError(f"{path}: line {line} lacks a file or a group. Complete or remove it.")
        file = known.find(name)
        if file is None:
            unknown.append(name)
        elif groups.setdefault(file, group) != group:
            raise UserError(f"{path}: {file} is in two groups, {groups[file]} and {group}. Keep one.")
        else:
            facts[file] = {column: cell for column, cell in cells.items() if column not in COLUMNS}
    if unknown:
        first = min(unknown)
        more = f" and {len(set(unknown)) - 1} more" if len(set(unknown)) > 1 else ""
        raise UserError(
            f"{path}: names {first}{more}, not in {root}. "
            f"Files are named relative to the dataset, as in {files[0]}."
        )
    return groups, facts, [*_alone(path, len(files) - len(groups)), *alike("groups", groups.values())]


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


def _rows(path: Path) -> Table:
    """The file's rows; UserError if it is no such CSV file."""
    try:
        table = parse_csv(decoded(read_bytes(path, MOST_BYTES)), COLUMNS)
    except OSError as error:
        raise UserError(f"{path}: cannot read the groups file ({error.strerror}). Check --groups.") from None
    except (UnicodeDecodeError, csv.Error):
        raise _not_csv(path) from None
    if missing := sorted(set(COLUMNS) - set(table.header)):
        raise UserError(
            f"{path}: no column {' and no column '.join(missing)}. The first line must be file,group, "
            "separated by commas, semicolons or tabs."
        )
    return table


def _not_csv(path: Path) -> UserError:
    return UserError(f"{path}: not a CSV file in UTF-8. Save it as CSV (UTF-8) with the columns file,group.")


def _alone(path: Path, count: int) -> list[str]:
    if not count:
        return []
    have, are = ("files have", "are groups of their") if count > 1 else ("file has", "is a group of its")
    return [f"{count} {have} no entry in {path.name} and {are} own"]


def alike(what: str, names: Iterable[str]) -> list[str]:
    """A note on groups or others whose names differ only in case or blanks, and may have been meant as one."""
    spellings: dict[str, set[str]] = {}
    for name in names:
        spellings.setdefault("".join(name.split()).casefold(), set()).add(name)
    pairs = [" / ".join(sorted(same)) for same in spellings.values() if len(same) > 1]
    if not pairs:
        return []
    return [f"{what} that differ only in case or spaces count as different: {listed(sorted(pairs))}"]
