"""How a picture that is not square becomes the square that a network takes, and where it lies there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from leanet.config import Aspect
from leanet.data.decode import UInt8Array, resize

Rectangle: TypeAlias = tuple[int, int, int, int]
"""Left, top, width, height in pixels."""


Array = TypeVar("Array", NDArray[np.float32], NDArray[np.uint8])


@dataclass(frozen=True)
class Placement:
    """Where a picture lies in its square.

    Attributes:
        part: the part of the picture that the square shows, in the picture's pixels.
        inside: where the square shows it, in the square's pixels.
        whole: whether all of the picture fills all of the square.
    """

    part: Rectangle
    inside: Rectangle
    whole: bool

    def cut(self, square: Array, size: int) -> Array:
        """What a map of a square says about the picture.

        Args:
            square: (s, s, ...), at the square's resolution or a coarser one.
            size: the square's side in pixels.
        """
        left, top, width, height = self.inside
        rows, columns = (
            _span(start, length, len(square), size) for start, length in ((top, height), (left, width))
        )
        return square[rows, columns]


def placement(height: int, width: int, size: int, aspect: Aspect) -> Placement:
    """Where a picture (height, width) lies in a square (size, size)."""
    if aspect == "letterbox" and height != width:
        across, down = (letterboxed(side, max(height, width), size) for side in (width, height))
        return Placement((0, 0, width, height), ((size - across) // 2, (size - down) // 2, across, down), False)
    if aspect == "crop" and height != width:
        side = min(height, width)
        return Placement(((width - side) // 2, (height - side) // 2, side, side), (0, 0, size, size), False)
    return Placement((0, 0, width, height), (0, 0, size, size), True)


def letterboxed(side: int, longer: int, size: int) -> int:
    """How many of the square's `size` pixels a side has, if the longer side fills it: rounded, at least 1."""
    return max(1, int(side * size / longer + 0.5))


def to_square(image: UInt8Array, size: int, aspect: Aspect) -> UInt8Array:
    """Resize a picture to a square, for cache and prediction, as `resize` does.

    Args:
        image: uint8 (H, W, 3).
        size: side of the square in pixels.
        aspect: 'squeeze' changes the picture's aspect ratio. 'letterbox' keeps it, and continues the picture by its
            mirror image, which has no edge that a network could take for an anomaly. 'crop' shows the middle.
    Returns:
        uint8 (size, size, 3).
    """
    place = placement(image.shape[0], image.shape[1], size, aspect)
    if place.whole:
        return resize(image, size)
    left, top, width, height = place.part
    _, _, across, down = place.inside
    part = Image.fromarray(image[top : top + height, left : left + width])
    wide = part.resize((across, height), Image.Resampling.BILINEAR)
    small = np.asarray(wide.resize((across, down), Image.Resampling.BILINEAR))
    if aspect == "crop":
        return small
    return np.ascontiguousarray(small[mirrored(size, down)][:, mirrored(size, across)])


def mirrored(size: int, count: int) -> NDArray[np.int64]:
    """For each of `size` pixels, the one of `count` in the middle that it repeats, mirrored at their edges."""
    around = (np.arange(size) - (size - count) // 2) % (2 * count)
    return np.minimum(around, 2 * count - 1 - around)


def _span(start: int, length: int, cells: int, size: int) -> slice:
    """The cells, at least one, that cover most of some pixels of a side of `size`."""
    first = min(cells - 1, round(start * cells / size))
    return slice(first, max(first + 1, round((start + length) * cells / size)))
