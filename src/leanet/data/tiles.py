"""How a large picture is divided into square tiles, and what a tile is called."""

from __future__ import annotations

import itertools
import math
import re
from dataclasses import dataclass

from leanet.data.shape import Rectangle
from leanet.errors import UserError

_PART = re.compile(r"(.+)#xywh=(\d{1,6}),(\d{1,6}),(\d{1,6}),(\d{1,6})", re.DOTALL)


class SmallerThanTileError(UserError):
    """A side of a picture is shorter than a tile's."""


@dataclass(frozen=True)
class Tiling:
    """How a picture is divided.

    Attributes:
        side: of a tile, in the picture's pixels.
        overlap: share of its side by which neighboring tiles overlap at least, in [0, 1).
    """

    side: int
    overlap: float

    def starts(self, length: int) -> list[int]:
        """Where tiles begin along a side of the picture: evenly spaced from one edge to the other.

        Args:
            length: the side in pixels, at least a tile's.
        """
        step = max(1.0, self.side * (1 - self.overlap))
        count = math.ceil((length - self.side) / step) + 1
        return [round(i * (length - self.side) / max(1, count - 1)) for i in range(count)]

    def parts(self, height: int, width: int) -> list[Rectangle]:
        """The tiles of a picture, row by row.

        Raises:
            SmallerThanTileError: the picture is smaller than a tile.
        """
        self.refuse_smaller(height, width)
        places = itertools.product(self.starts(height), self.starts(width))
        return [(left, top, self.side, self.side) for top, left in places]

    def refuse_smaller(self, height: int, width: int) -> None:
        """Raise SmallerThanTileError if a picture is smaller than a tile."""
        if min(height, width) < self.side:
            raise SmallerThanTileError(
                f"{width} x {height} pixels, smaller than a tile of {self.side}; give a smaller --tile"
            )


def part_name(file: str, part: Rectangle) -> str:
    """The name of a part of a file: FILE#xywh=LEFT,TOP,WIDTH,HEIGHT, in pixels.

    Source: W3C Recommendation Media Fragments URI 1.0 (2012), section 4.2.2.
    """
    return f"{file}#xywh={','.join(map(str, part))}"


def part_of(name: str) -> tuple[str, Rectangle | None]:
    """The file that `part_name` named a part of, and the part; a whole file's own name, and None."""
    found = _PART.fullmatch(name)
    if found is None:
        return name, None
    left, top, width, height = map(int, found.groups()[1:])
    return found[1], (left, top, width, height)
