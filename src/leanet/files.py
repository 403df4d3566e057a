"""Write files completely or not at all, and overwrite only earlier outputs of the same kind."""

from __future__ import annotations

import contextlib
import csv
import hashlib
import io
import json
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any, Literal, TextIO

from leanet.errors import UserError
from leanet.reading import read_text

LARGEST = 1_000_000_000
"""Most bytes of a table or text to read at once; leanet writes no larger ones."""

OWN = ".leanet-"
"""Prefix of leanet's hidden files: unfinished files, locks, and markers of a folder's origin."""

STANDARD_OUTPUT = Path("-")
"""The file name that stands for standard output."""


def refuse_other(
    path: Path, said: str, is_ours: Callable[[Path], bool], inputs: Iterable[Path] = (), remedy: str = ""
) -> None:
    """Raise UserError unless the path is free or holds an earlier output of the same kind.

    Args:
        path: the file to write.
        said: start of the message, such as the option and the path.
        is_ours: whether an existing file is such an output, by its content.
        inputs: files that the command reads and must not change.
        remedy: the message's remedy; by default, to choose another name.
    """
    remedy = remedy or "Choose another name."
    try:
        if not path.name or path.is_dir():
            raise UserError(f"{said}: expected the name of a file.")
        if is_special(path):
            raise UserError(f"{said}: not a file, but a device, a pipe or a socket. {remedy}")
        if path.exists():
            if any(path.samefile(file) for file in inputs if file.exists()):
                raise UserError(f"{said}: this command reads it and cannot write it. {remedy}")
            if path.stat().st_size and not is_ours(path):
                raise UserError(f"{said}: exists, and is not an earlier output of this command. {remedy}")
    except OSError as error:
        raise UserError(f"{said}: cannot be written ({error.strerror}). {remedy}") from None


def is_special(path: Path) -> bool:
    """Whether the path is neither a file nor a folder, or is a link to a file that a process has open.

    Such a link, for example /dev/stdout, may lead to a file that must not be replaced.
    """
    place = Path(os.path.abspath(path))  # noqa: PTH100 - resolve() would follow the link
    for _ in range(40):  # as many links as Linux follows
        place = Path(os.path.realpath(place.parent), place.name)
        if place.is_relative_to("/proc"):
            return True
        if not place.is_symlink():
            return place.exists() and not (place.is_file() or place.is_dir())
        place = place.parent / place.readlink()
    return True


def is_free(folder: Path) -> bool:
    """Whether the path is free for a new folder: missing, or an empty folder."""
    return not os.path.lexists(folder) or (folder.is_dir() and not contents(folder))


def contents(folder: Path) -> list[Path]:
    """A folder's content, except leanet's hidden files; empty if there is no folder."""
    return [path for path in folder.iterdir() if not path.name.startswith(OWN)] if folder.is_dir() else []


@contextlib.contextmanager
def written(path: Path) -> Iterator[TextIO]:
    """Open a text file to write completely or not at all.

    STANDARD_OUTPUT is written at once; meanwhile, other output goes to standard error.
    """
    if path != STANDARD_OUTPUT:
        _refuse_in_use(path)
        with beside(path) as partial, open_text(partial, "w") as file:
            _locked(file, alone=False)
            yield file
        return
    sys.stdout.flush()
    stream = io.TextIOWrapper(sys.stdout.buffer, "utf-8", "surrogateescape", newline="")
    with contextlib.redirect_stdout(sys.stderr):
        try:
            yield stream
            stream.flush()
        finally:
            stream.detach()  # closing the stream would close standard output


def _refuse_in_use(path: Path) -> None:
    """Raise UserError if another process is writing the file; it holds a lock until it ends."""
    partial = partial_of(Path(os.path.realpath(path)))
    with contextlib.suppress(FileNotFoundError), partial.open("rb") as file:
        if not _locked(file, alone=True):
            raise UserError(f"{path}: another process is writing it. Wait for it, or choose another name.")


def _locked(file: IO[Any], *, alone: bool) -> bool:
    """Lock an open file; False if another process holds the lock. True on file systems without locks."""
    if sys.platform == "win32":
        return True
    import fcntl

    try:
        fcntl.flock(file, (fcntl.LOCK_EX if alone else fcntl.LOCK_SH) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True


@contextlib.contextmanager
def beside(path: Path) -> Iterator[Path]:
    """Yield a temporary name for a file or folder; rename it to `path` at the end, remove it on an error.

    If `path` is a link, its target is replaced.

    Raises:
        OSError: with `path` as the file name.
    """
    place = Path(os.path.realpath(path))
    with unfinished(place) as partial:
        yield partial
        partial.replace(place)


@contextlib.contextmanager
def unfinished(path: Path) -> Iterator[Path]:
    """Yield a temporary name beside a path, in a folder that is created if missing.

    At the end, a file or folder of this name is removed, and so is the new folder if it is empty.

    Raises:
        OSError: with `path` as the file name.
    """
    partial = partial_of(path)
    made: list[Path] = []
    try:
        made += [parent for parent in path.parents if not parent.exists()]
        path.parent.mkdir(parents=True, exist_ok=True)
        remove(partial)
        yield partial
    except OSError as error:
        if error.errno is not None and error.filename in (None, partial, str(partial)):
            error.filename = str(path)
        raise
    finally:
        remove(partial)
        for parent in made:
            with contextlib.suppress(OSError):  # not empty, or not created
                parent.rmdir()


def partial_of(path: Path) -> Path:
    """The temporary name for a path: hidden, unique to leanet, short even for a long path.

    It depends only on the path; the next write therefore finds and removes a killed process's file.
    """
    digest = hashlib.sha256(os.fsencode(path.name)).hexdigest()
    return path.with_name(f"{OWN}{digest[:12]}.partial")


def remove(path: Path) -> None:
    """Remove a file or folder if it exists and can be removed."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            path.unlink()


def open_text(path: Path, mode: Literal["r", "w"] = "r") -> TextIO:
    """Open a text file; non-UTF-8 file names in it keep their bytes, and line ends stay unchanged."""
    return path.open(mode, encoding="utf-8", errors="surrogateescape", newline="")


def write_text(path: Path, text: str) -> None:
    """Write a text file, completely or not at all."""
    write_bytes(path, text.encode("utf-8", "surrogateescape"))


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file, completely or not at all."""
    with beside(path) as partial:
        partial.write_bytes(content)


def write_json(path: Path, content: object, indent: int = 2) -> None:
    """Write indented JSON, completely or not at all."""
    write_text(path, json.dumps(content, indent=indent, ensure_ascii=False) + "\n")


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a CSV file with a header line, completely or not at all."""
    with written(path) as file:
        write_row = csv_writer(file)
        write_row(header)
        for row in rows:
            write_row(row)


def csv_writer(file: TextIO) -> Callable[[Iterable[object]], object]:
    """A function that writes a row of cells that are safe to open in a spreadsheet."""
    lines = _Lines(file)
    plain = csv.writer(lines, lineterminator="\r\n")
    quoting = csv.writer(lines, lineterminator="\r\n", quoting=csv.QUOTE_ALL)

    def write_row(cells: Iterable[object]) -> object:
        row = [to_cell(cell) for cell in cells]
        # Quote every cell if a spreadsheet with another separator would split one of them.
        return (quoting if any(isinstance(c, str) and _OTHERS & {*c} for c in row) else plain).writerow(row)

    return write_row


def read_csv(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV file that `write_csv` wrote, as column name -> original cell.

    Raises:
        OSError: the file cannot be read.
        ValueError: the file is not CSV, or a row has more or fewer cells than the first.
    """
    try:
        rows: list[dict[Any, Any]] = list(
            csv.DictReader(io.StringIO(read_text(path, LARGEST), newline=""), strict=True)
        )
    except csv.Error as error:
        raise ValueError(str(error)) from None
    if any(None in row or None in row.values() for row in rows):
        raise ValueError("a row with more or fewer cells than the first")
    return [{name: from_cell(cell) for name, cell in row.items()} for row in rows]


def to_cell(value: object) -> object:
    """A value as a cell that no spreadsheet reads as a formula: text that looks like one gets an apostrophe.

    Numbers, including negative ones, stay unchanged. Such text that already begins with apostrophes gets one more;
    `from_cell` restores any text.
    """
    return f"'{value}" if isinstance(value, str) and _FORMULA.match(value) and not _is_number(value) else value


def from_cell(text: str) -> str:
    """The original text of a cell from `to_cell`, or of one that an earlier version wrote unchanged."""
    return text[1:] if text.startswith("'") and _FORMULA.match(text) else text


_OTHERS = frozenset(";\t|")
"""Cell separators other than the comma, used for example in countries with a decimal comma."""

_FORMULA = re.compile(r"'*[=+\-@\t\r\n＝＋－＠]")
"""Includes full-width signs, which some spreadsheets read as the ASCII ones."""


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return text == text.strip()  # float ignores what a cell may not begin with


class _Lines:
    """A text file for csv's writer, which quotes a lone carriage return only if lines end in one."""

    def __init__(self, file: TextIO) -> None:
        self._file = file

    def write(self, line: str) -> object:
        """Write a row, ending in a line feed."""
        return self._file.write(line.removesuffix("\r\n") + "\n")
