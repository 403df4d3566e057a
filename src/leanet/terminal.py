"""The terminal made safe to print to: streams that take any text, and a size that text can be laid out in."""

from __future__ import annotations

import codecs
import contextlib
import io
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from leanet.errors import escaped

NARROWEST, WIDEST = 40, 200
"""Columns. Below the former, the libraries that lay out help and tables have no room for a word."""

STAND_INS = (
    {
        "Δ": "d",
        "σ": "sigma",
        "µ": "u",
        "×": "x",
        "±": "+-",
        "°": " degrees",
        "²": "^2",
        "·": "-",
        "–": "-",
        "—": "-",
        "−": "-",
        "…": "...",
        "→": "->",
        "≤": "<=",
        "≥": ">=",
        "≈": "about ",
        "‘": "'",
        "’": "'",
        "“": '"',
        "”": '"',
        "\N{NO-BREAK SPACE}": " ",
    }
    | dict.fromkeys("─━═╌┄╴╸╺╼", "-")
    | dict.fromkeys("│┃║", "|")
)
"""What is printed for a character of ours that a stream's encoding does not have."""

_HANDLER = "leanet.stand-ins"


def set_up() -> None:
    """Let standard output and error take any text, and hold the terminal's size within limits.

    The command line calls it before anything is printed; a second call changes nothing.
    """
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by whoever started the program
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115 it stays open
    make_printable()
    _limit_size()
    if os.environ.get("NO_COLOR"):  # tyro, which prints the help, has a name of its own for that
        os.environ["PYTHON_TYRO_ANSI_CODES"] = "False"


def make_printable() -> None:
    """Let standard output and error print readable stand-ins for what they cannot encode: 'dE' for 'ΔE'."""
    codecs.register_error(_HANDLER, _stand_in)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=_HANDLER)


def _stand_in(error: UnicodeError) -> tuple[str, int]:
    """An error handler of `codecs`: ASCII for the characters that could not be encoded."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(map(_ascii, error.object[error.start : error.end])), error.end


def _ascii(character: str) -> str:
    """A stand-in of ours, or an escape."""
    return STAND_INS.get(character) or escaped(character)


def _limit_size() -> None:
    """Write a size within limits into the environment, from where every library that lays out text takes it.

    A terminal whose size can be used is left alone, so that a change of its size is noticed.
    """
    size = shutil.get_terminal_size()
    columns = min(max(size.columns, NARROWEST), WIDEST)
    if columns != size.columns or "COLUMNS" in os.environ:
        os.environ["COLUMNS"] = str(columns)
    if "LINES" in os.environ:
        os.environ["LINES"] = str(size.lines)


@contextlib.contextmanager
def unwrapped() -> Iterator[None]:
    """Let libraries write lines as long as they are, for text that is to be read by a program."""
    before = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = "100000"
    try:
        yield
    finally:
        if before is None:
            del os.environ["COLUMNS"]
        else:
            os.environ["COLUMNS"] = before
