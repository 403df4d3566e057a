"""Names of files and kinds in figures: in fonts with their characters, and short enough for their place."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

from matplotlib.font_manager import FontProperties, findfont, fontManager, get_font
from rich.cells import cell_len

PLACEHOLDER = "□"
"""Drawn for a character that no installed font has."""

_FIRST = "DejaVu Sans"
"""The font that comes with matplotlib."""

_NO_GLYPHS = "Last Resort"
"""A matplotlib font that draws a symbol of its script for every character."""


def label(name: str, cells: int) -> str:
    """A name with characters that no font has replaced, and cut in the middle if it is too long.

    Args:
        name: any text, such as a file's name.
        cells: room in characters; an East Asian one takes two.
    """
    drawn = "".join(c if _family_with(c) else PLACEHOLDER for c in name)
    if cell_len(drawn) <= cells:
        return drawn
    head, tail = "", ""
    while cell_len(head + tail) < cells - 1 - 2:  # room for the ellipsis and an East Asian character
        left = drawn[len(head) : len(drawn) - len(tail)]
        if len(head) <= len(tail):
            head += left[0]
        else:
            tail = left[-1] + tail
    return f"{head}…{tail}"


def style(text: str) -> dict[str, Any]:
    """Matplotlib's options for a label: no formulas, and each character in the first font that has it."""
    families = dict.fromkeys([_FIRST, *filter(None, map(_family_with, text))])
    return {"parse_math": False, "fontfamily": list(families)}


@functools.cache
def _family_with(character: str) -> str | None:
    """The first font family with a glyph for a character; None if there is none."""
    return next((family for family in _families() if ord(character) in _characters(family)), None)


def _families() -> Iterator[str]:
    """Installed families with a regular face, matplotlib's own first."""
    yield _FIRST
    regular = {
        font.name for font in fontManager.ttflist if font.style == "normal" and font.weight in (400, "normal")
    }
    yield from sorted(name for name in regular if not name.startswith((_FIRST, _NO_GLYPHS)))


@functools.cache
def _characters(family: str) -> frozenset[int]:
    """The characters of a family's regular face; none if it is unreadable or not an outline font."""
    try:
        font = get_font(findfont(FontProperties(family=[family]), fallback_to_default=False))
    except (OSError, RuntimeError, ValueError):
        return frozenset()
    return frozenset(font.get_charmap()) if font.scalable else frozenset()
