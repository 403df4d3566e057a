"""How anything is written: whole or not at all, and over nothing but an earlier output of the same kind."""

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
"""Bytes of a table or text that is read whole; larger files are none of ours."""

OWN = ".leanet-"
"""What the names of leanet's hidden files begin with: unfinished ones, locks, and marks of who made a folder."""

STANDARD_OUTPUT = Path("-")
"""What an option names to have its file on standard output."""


def refuse_other(
    path: Path, said: str, is_ours: Callable[[Path], bool], inputs: Iterable[Path] = (), remedy: str = ""
) -> None:
    """Raise UserError unless a file may be written here: where nothing is, or over an earlier output of its kind.

    Args:
        path: the file to write.
        said: what the message begins with, such as the option and the path.
        is_ours: whether a file that is there is such an output, by its content.
        inputs: files that are read, and so stay as they are.
        remedy: another than to choose another name.
    """
    remedy = remedy or "Choose another name."
    try:
        if not path.name or path.is_dir():
            raise UserError(f"{said}: the name of a file is expected.")
        if is_special(path):
            raise UserError(f"{said}: a device, a pipe or a socket, not a file. {remedy}")
        if path.exists():
            if any(path.samefile(file) for file in inputs if file.exists()):
                raise UserError(f"{said}: is to be read, not written. {remedy}")
            if path.stat().st_size and not is_ours(path):
                raise UserError(f"{said}: is there already, and no earlier output of this command. {remedy}")
    except OSError as error:
        raise UserError(f"{said}: cannot be written ({error.strerror}). {remedy}") from None


def is_special(path: Path) -> bool:
    """Whether something else than a file or a folder is there, or a link to what a process has open.

    The latter, such as /dev/stdout, may be a file, but to replace that is not what is meant.
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
    """Whether a folder can be made here: nothing is there, or an empty folder."""
    return not os.path.lexists(folder) or (folder.is_dir() and not contents(folder))


def contents(folder: Path) -> list[Path]:
    """What lies in a folder besides leanet's own hidden files; nothing where there is no folder."""
    return [path for path in folder.iterdir() if not path.name.startswith(OWN)] if folder.is_dir() else []


@contextlib.contextmanager
def written(path: Path) -> Iterator[TextIO]:
    """A text file to write, whole or not at all.

    STANDARD_OUTPUT is written as it comes, and whatever else is printed meanwhile goes to standard error.
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
            stream.detach()  # closed with the stream, standard output would be gone


def _refuse_in_use(path: Path) -> None:
    """Raise UserError where another process is writing a file; a lock tells, and ends with its process."""
    partial = partial_of(Path(os.path.realpath(path)))
    with contextlib.suppress(FileNotFoundError), partial.open("rb") as file:
        if not _locked(file, alone=True):
            raise UserError(f"{path}: another process writes it. Wait for it, or choose another name.")


def _locked(file: IO[Any], *, alone: bool) -> bool:
    """Lock an open file; False where another process has. Some network file systems have no locks: then True."""
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
    """A free name to write a file or a folder at, which becomes `path` at the end; on an error nothing is left.

    What a link points to is replaced, not the link.

    Raises:
        OSError: names `path`, whatever it was raised for.
    """
    place = Path(os.path.realpath(path))
    with unfinished(place) as partial:
        yield partial
        partial.replace(place)


@contextlib.contextmanager
def unfinished(path: Path) -> Iterator[Path]:
    """A free name beside a path, in a folder that is made if need be.

    At the end, what still has this name is removed, and so is a folder that was made for nothing.

    Raises:
        OSError: names `path`, whatever it was raised for.
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
            with contextlib.suppress(OSError):  # not empty, or not made after all
                parent.rmdir()


def partial_of(path: Path) -> Path:
    """Where a path is written until it is whole: hidden, a name that nobody else gives, short whatever the path's.

    It is always the same, so that what a kill left is found and removed when the path is written again.
    """
    digest = hashlib.sha256(os.fsencode(path.name)).hexdigest()
    return path.with_name(f"{OWN}{digest[:12]}.partial")


def remove(path: Path) -> None:
    """Remove a file or a folder if it is there and can be removed."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            path.unlink()


def open_text(path: Path, mode: Literal["r", "w"] = "r") -> TextIO:
    """Open a text file: a file name in it that is not UTF-8 keeps its bytes, and line ends stay as they are."""
    return path.open(mode, encoding="utf-8", errors="surrogateescape", newline="")


def write_text(path: Path, text: str) -> None:
    """Write a text file, whole or not at all."""
    write_bytes(path, text.encode("utf-8", "surrogateescape"))


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file, whole or not at all."""
    with beside(path) as partial:
        partial.write_bytes(content)


def write_json(path: Path, content: object, indent: int = 2) -> None:
    """Write indented JSON, whole or not at all."""
    write_text(path, json.dumps(content, indent=indent, ensure_ascii=False) + "\n")


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a CSV file with a header line, whole or not at all."""
    with written(path) as file:
        write_row = csv_writer(file)
        write_row(header)
        for row in rows:
            write_row(row)


def csv_writer(file: TextIO) -> Callable[[Iterable[object]], object]:
    """A function that writes a row of cells, made safe to open in a spreadsheet."""
    lines = _Lines(file)
    plain = csv.writer(lines, lineterminator="\r\n")
    quoting = csv.writer(lines, lineterminator="\r\n", quoting=csv.QUOTE_ALL)

    def write_row(cells: Iterable[object]) -> object:
        row = [to_cell(cell) for cell in cells]
        # Quoted whole where a cell would be two to a spreadsheet that separates by other signs.
        return (quoting if any(isinstance(c, str) and _OTHERS & {*c} for c in row) else plain).writerow(row)

    return write_row


def read_csv(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV file that `write_csv` wrote, by the names in its first line, with the cells as they were.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no CSV, or has a row with more or fewer cells than the first.
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
    """A value as a cell that no spreadsheet takes for a formula: an apostrophe is put before it, as is done there.

    Numbers, minus sign or not, stay as they are. Text with apostrophes before such a sign gets one more, and
    `from_cell` gives any text back.
    """
    return f"'{value}" if isinstance(value, str) and _FORMULA.match(value) and not _is_number(value) else value


def from_cell(text: str) -> str:
    """The text that `to_cell` made safe, or that an earlier version wrote as it was."""
    return text[1:] if text.startswith("'") and _FORMULA.match(text) else text


_OTHERS = frozenset(";\t|")
"""What separates cells where a comma does not, as in countries that write numbers with one."""

_FORMULA = re.compile(r"'*[=+\-@\t\r\n＝＋－＠]")
"""The full-width signs count: some spreadsheets read them as the others."""


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


class _Lines:
    """A text file for csv's writer, which quotes a lone carriage return only if its lines end in one."""

    def __init__(self, file: TextIO) -> None:
        self._file = file

    def write(self, line: str) -> object:
        """Write a row, ending in a line feed."""
        return self._file.write(line.removesuffix("\r\n") + "\n")
