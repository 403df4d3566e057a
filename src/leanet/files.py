"""How anything is written: beside its place first, and moved there when it is whole."""

from __future__ import annotations

import contextlib
import csv
import hashlib
import io
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Literal, TextIO


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
    """A free name beside a path, in a folder that is there; at the end, what still has this name is removed.

    On an error, folders that were made for it are removed as well.

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
    except BaseException as error:
        remove(partial)
        with contextlib.suppress(OSError):  # not empty any more
            for parent in made:
                parent.rmdir()
        if isinstance(error, OSError) and error.filename in (None, partial, str(partial)):
            error.filename = str(path)
        raise
    remove(partial)


def partial_of(path: Path) -> Path:
    """Where a path is written until it is whole: hidden, a name that nobody else gives, short whatever the path's.

    It is always the same, so that what a kill left is found and removed when the path is written again.
    """
    digest = hashlib.sha256(os.fsencode(path.name)).hexdigest()
    return path.with_name(f".leanet-{digest[:12]}.partial")


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
    with beside(path) as partial, open_text(partial, "w") as file:
        file.write(text)


def write_json(path: Path, content: object, indent: int = 2) -> None:
    """Write indented JSON, whole or not at all."""
    write_text(path, json.dumps(content, indent=indent, ensure_ascii=False) + "\n")


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a CSV file with a header line, whole or not at all."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    write_text(path, text.getvalue())
