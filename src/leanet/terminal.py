"""Make the terminal safe to print to: streams that accept any text, and a usable size."""

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
"""Limits of the width in columns. Below the first, libraries cannot lay out help and tables."""

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
"""Replacements for characters that a stream's encoding lacks."""

_HANDLER = "leanet.stand-ins"


def set_up() -> None:
    """Let standard output and error accept any text, and keep the terminal's size within limits.

    The command line calls it before any output; a second call has no effect.
    """
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by whoever started the program
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115 it stays open
    make_printable()
    _limit_size()
    if os.environ.get("NO_COLOR"):  # tyro, which prints the help, has its own variable
        os.environ["PYTHON_TYRO_ANSI_CODES"] = "False"


def make_printable() -> None:
    """Let standard output and error print readable substitutes for what they cannot encode: 'dE' for 'ΔE'."""
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
    """Our substitute, or an escape."""
    return STAND_INS.get(character) or escaped(character)


def _limit_size() -> None:
    """Write a size within limits into the environment, where all libraries that lay out text read it.

    A usable terminal size is left alone, and later changes of it take effect.
    """
    size = shutil.get_terminal_size()
    columns = min(max(size.columns, NARROWEST), WIDEST)
    if columns != size.columns or "COLUMNS" in os.environ:
        os.environ["COLUMNS"] = str(columns)
    if "LINES" in os.environ:
        os.environ["LINES"] = str(size.lines)


@contextlib.contextmanager
def unwrapped() -> Iterator[None]:
    """Let libraries write lines unwrapped, for text that a program reads."""
    before = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = "100000"
    try:
        yield
    finally:
        if before is None:
            del os.environ["COLUMNS"]
        else:
            os.environ["COLUMNS"] = before
