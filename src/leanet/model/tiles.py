"""Large pictures: predict overlapping square tiles, and stitch their maps without seams."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from leanet.config.limits import OVERLAP
from leanet.data.shape import to_square
from leanet.data.threads import ahead
from leanet.data.tiles import Tiling
from leanet.errors import UserError
from leanet.model.card import Card
from leanet.model.result import Result
from leanet.model.where import region_of, smoothed, spread

if TYPE_CHECKING:
    from leanet.model.anomaly_model import AnomalyModel

BATCH = 16
"""Tiles that a thread predicts at a time."""

MOST_MAP_PIXELS = 4_000_000
"""Pixels of a stitched map, at most: the maps of larger pictures are coarser than the picture."""

Map = NDArray[np.float32]


class ByTiles:
    """Predicts pictures by tiles.

    Args:
        model: a model that makes its own maps. Loaded for several threads (`at_once`), it predicts as many batches
            of tiles at a time.
        tiling: side and overlap of the tiles.
        small_whole: whether a picture that has no two tiles is predicted whole.
    Raises:
        UserError: the model balances white.
    """

    def __init__(self, model: AnomalyModel, tiling: Tiling, *, small_whole: bool) -> None:
        refuse_balanced(model.card)
        self.model, self.tiling, self.small_whole = model, tiling, small_whole
        self._undecided = without_decisions(model)

    def divides(self, height: int, width: int) -> bool:
        """Whether a picture is predicted by tiles, and not whole."""
        side = self.tiling.side
        return not self.small_whole or (min(height, width) >= side and max(height, width) > side)

    def predict(self, pixels: NDArray[np.uint8]) -> Result:
        """The result of a picture, uint8 (H, W, 3); SmallerThanTileError as of `predict_tiled`."""
        if self.divides(*pixels.shape[:2]):
            return predict_tiled(self.model, pixels, self.tiling, self._undecided)
        card = self.model.card
        square = to_square(pixels, card.image_size, card.aspect)
        (found,) = self.model.predict_pixels([square], sizes=[pixels.shape[:2]])
        return found


def by_tiles_of(
    model: AnomalyModel, tile: int | None = None, overlap: float = OVERLAP, *, small_whole: bool = False
) -> ByTiles | None:
    """What predicts by the tiles that are asked for, or by those of the size that the model was trained on.

    Args:
        tile: the side that is asked for; None: the model's.
        overlap: of the tiles.
        small_whole: see `ByTiles`; it is so in any case for the model's own tiles.
    Returns:
        None if pictures are predicted whole.
    """
    side = tile or model.card.tile
    if side is None:
        return None
    return ByTiles(model, Tiling(side, overlap), small_whole=small_whole or tile is None)


def predict_tiled(
    model: AnomalyModel, pixels: NDArray[np.uint8], tiling: Tiling, undecided: AnomalyModel | None = None
) -> Result:
    """Predict a picture by its tiles.

    The tile with the highest probability (without a detector: the highest mean of the map) decides, and the result
    has its numbers. Maps are those of all tiles, weighted by a tent that falls to 0 at a tile's edges within the
    overlap. A box is around the strongest region of the whole picture.

    Args:
        model: a model that makes its own maps. Loaded for several threads (`at_once`), it predicts as many batches
            of tiles at a time.
        pixels: uint8 (H, W, 3).
        tiling: side and overlap of the tiles.
        undecided: the model `without_decisions`; for several pictures, one that has its networks prepared.
    Returns:
        A result whose maps cover the picture in its shape, with at most MOST_MAP_PIXELS pixels; without attention
        and recolored image, which belong to a tile.
    Raises:
        SmallerThanTileError: the picture is smaller than a tile.
    """
    height, width = pixels.shape[:2]
    tiling.refuse_smaller(height, width)
    undecided = undecided or without_decisions(model)
    stitched = _Stitched(model.card, (height, width), tiling)

    def results(places: Sequence[tuple[int, int]]) -> list[Result]:
        tiles = [pixels[top : top + tiling.side, left : left + tiling.side] for top, left in places]
        return undecided.predict_pixels(tiles)

    places = list(itertools.product(*stitched.starts))
    batches = [places[i : i + BATCH] for i in range(0, len(places), BATCH)]
    highest: Result | None = None
    with contextlib.closing(ahead(results, batches, 2 * model.at_once, model.at_once)) as found:
        for batch, of_batch in found:
            for place, result in zip(batch, of_batch, strict=True):
                stitched.add(place, result)
                if highest is None or _height(result) > _height(highest):
                    highest = result
    assert highest is not None, "there is at least one tile"
    return stitched.whole(highest)


def refuse_balanced(card: Card) -> None:
    """Raise UserError if a model balances white, as it would in each tile by itself."""
    if card.white_balance != "none":
        raise UserError(
            f"--tile: the model has --white-balance {card.white_balance}, which would balance each tile by itself. "
            "Leave out --tile, or fit a model without white balance."
        )


def without_decisions(model: AnomalyModel) -> AnomalyModel:
    """The same model, which calls no tile anomalous: a box for each would take as long as half a prediction."""
    return model.with_threshold(1.0 if model.card.adn else np.finfo(np.float64).max)


def _height(result: Result) -> float:
    found = result.mean_delta_e if result.probability is None else result.probability
    return found or 0.0


class _Stitched:
    """The maps of a picture's tiles as one, a weighted mean.

    Attributes:
        starts: the tiles' first rows, and their first columns, in the picture's pixels.
    """

    def __init__(self, card: Card, size: tuple[int, int], tiling: Tiling) -> None:
        self.card, self.size = card, size
        self.starts = tiling.starts(size[0]), tiling.starts(size[1])
        self.scale = min(1.0, card.image_size / tiling.side, math.sqrt(MOST_MAP_PIXELS / (size[0] * size[1])))
        self.side = max(1, math.ceil(tiling.side * self.scale))  # rounded starts are at most that far apart
        tent = _tent(self.side, tiling.overlap)
        self._weights = np.outer(tent, tent)
        down, across = (_sum_of(tent, [self._at(start) for start in starts]) for starts in self.starts)
        self._totals = np.outer(down, across)
        self._map, self._heat, self._ceilings = np.zeros((3, *self._totals.shape), np.float32)
        self._has_heat, self._peak = False, 0.0
        limits = card.normals_peaks or card.normals_unit
        self._limits = None if limits is None else spread(limits, (self.side, self.side))

    def _at(self, start: int) -> int:
        return round(start * self.scale)

    def add(self, place: tuple[int, int], result: Result) -> None:
        """Add a tile's maps."""
        top, left = self._at(place[0]), self._at(place[1])
        inside = slice(top, top + self.side), slice(left, left + self.side)
        if result.anomaly_map is not None:
            self._map[inside] += self._weights * _resized(result.anomaly_map, self.side)
        if result.heat is not None:
            self._has_heat = True
            self._heat[inside] += self._weights * _resized(result.heat, self.side)
        if self._limits is not None:
            self._ceilings[inside] += self._weights * self._limits
        self._peak = max(self._peak, result.peak_delta_e or 0.0)

    def whole(self, highest: Result) -> Result:
        """The picture's result, with the numbers of its highest tile and the highest peak."""
        totals = self._totals
        anomaly_map = self._map / totals
        heat = self._heat / totals if self._has_heat else None
        decisive, threshold = _height(highest), self.card.threshold if self.card.adn else self.card.map_threshold
        anomalous = threshold is not None and decisive >= threshold and not highest.unfamiliar
        strength, box = None, None
        if self._limits is not None:
            shown = anomaly_map if heat is None else heat
            strength = smoothed(shown, self.side) * totals / self._ceilings
            box = region_of(strength, self.size[1], self.size[0]) if anomalous else None
        return dataclasses.replace(
            highest,
            anomalous=anomalous,
            peak_delta_e=self._peak,
            box=box,
            anomaly_map=anomaly_map,
            attention=None,
            recoloured=None,
            heat=heat,
            strength=strength,
        )


def _tent(side: int, overlap: float) -> NDArray[np.float32]:
    """Weights above 0 of the pixels along a tile's side, (side,): 1, and less within the overlap from its edges."""
    if not overlap:
        return np.ones(side, np.float32)
    centers = np.arange(side, dtype=np.float32) + 0.5
    found: NDArray[np.float32] = (np.minimum(centers, side - centers) / np.float32(overlap * side)).clip(max=1)
    return found


def _sum_of(tent: NDArray[np.float32], starts: list[int]) -> NDArray[np.float32]:
    """The sum of the tiles' weights at each pixel along a side of the picture."""
    total = np.zeros(starts[-1] + len(tent), np.float32)
    for start in starts:
        total[start : start + len(tent)] += tent
    return total


def _resized(anomaly_map: NDArray[np.float32], side: int) -> NDArray[np.float32]:
    if len(anomaly_map) == side:
        return anomaly_map
    return np.asarray(Image.fromarray(anomaly_map).resize((side, side), Image.Resampling.BILINEAR))
