"""Find where an anomaly map exceeds the peaks of unseen normal pictures' maps.

Edges and shadows are often recolored badly in normal pictures too, more so in some parts of the picture. Each cell
of a coarse grid therefore has its own *ceiling*, which a map must exceed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Box: TypeAlias = tuple[int, int, int, int]
"""Left, top, width, height in pixels of the original image."""

Ceilings: TypeAlias = float | Sequence[Sequence[float]]
"""ΔE above 0 that a map must exceed: one value for all cells, or one per cell, rows from the top."""

CELLS = 8
"""Cells along each side; every image size is a multiple of it."""

PEAK_QUANTILE = 0.95
"""Share of the held-out normals whose maps stay below the ceilings everywhere; with 20 or fewer, all."""

SMOOTHING = 1 / 64
"""Standard deviation of the Gaussian before peaks, as a share of the side: it suppresses single hot pixels."""

NOTICEABLE = 1.0
"""ΔE below which a difference is invisible and ignored: a black background would have a ceiling of 0."""


def ceilings(
    training: Iterable[NDArray[np.float32]], held_out: Iterable[NDArray[np.float32]]
) -> NDArray[np.float64]:
    """The ceilings of the maps of unseen normal pictures, (CELLS, CELLS), ΔE.

    The training normals give the ratios between the cells, the held-out ones the height.

    Args:
        training, held_out: maps of normal pictures, float (S, S), ΔE; at least one each.
    """
    usual = np.mean([_peaks(_smoothed(one)) for one in training], axis=0)
    highest = [strength(one, usual.tolist()).max() for one in held_out]
    found: NDArray[np.float64] = usual * np.quantile(highest, PEAK_QUANTILE, method="higher")
    return found


def strength(anomaly_map: NDArray[np.float32], ceilings: Ceilings) -> NDArray[np.float32]:
    """A map (S, S), lightly smoothed, as a multiple of its ceilings, float (S, S); above 1 it stands out."""
    found: NDArray[np.float32] = _smoothed(anomaly_map) / spread(ceilings, anomaly_map.shape)
    return found


def spread(ceilings: Ceilings, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """The ceiling of each pixel of a map of this shape, (h, w), NOTICEABLE or more."""
    limits = np.atleast_2d(np.asarray(ceilings, dtype=np.float32)).clip(min=NOTICEABLE)
    return np.asarray(Image.fromarray(limits).resize((shape[1], shape[0]), Image.Resampling.BILINEAR))


def strongest_region(anomaly_map: NDArray[np.float32], ceilings: Ceilings, width: int, height: int) -> Box | None:
    """The box around the region with the largest total excess over the ceilings; None if no pixel exceeds them.

    A region is a connected set of pixels at least half as strong as the strongest pixel.

    Args:
        anomaly_map: float (S, S), ΔE.
        ceilings: ΔE to exceed.
        width, height: size in pixels of the image for the box.
    """
    return region_of(strength(anomaly_map, ceilings), width, height)


def region_of(found: NDArray[np.float32], width: int, height: int) -> Box | None:
    """The box of `strongest_region`, of a map that is a multiple of its ceilings, float (h, w) of any shape."""
    from scipy.ndimage import find_objects
    from scipy.ndimage import label as connected_regions

    peak = found.max()
    if not peak > 1:
        return None
    regions, _ = connected_regions(found >= peak / 2, np.ones((3, 3)))
    beyond = np.bincount(regions.ravel(), (found - 1).clip(min=0).ravel())[1:]
    rows, columns = find_objects(regions)[int(beyond.argmax())]
    down, across = found.shape
    left, top = columns.start * width // across, rows.start * height // down
    right, bottom = -(-columns.stop * width // across), -(-rows.stop * height // down)
    return left, top, right - left, bottom - top


def _smoothed(anomaly_map: NDArray[np.float32]) -> NDArray[np.float32]:
    return smoothed(anomaly_map, len(anomaly_map))


def smoothed(anomaly_map: NDArray[np.float32], side: int) -> NDArray[np.float32]:
    """A map (h, w) without single hot pixels, NOTICEABLE or more.

    Args:
        side: of the square that a model saw, in pixels of the map.
    """
    from scipy.ndimage import gaussian_filter  # importing it takes a third as long as loading a model

    found: NDArray[np.float32] = gaussian_filter(anomaly_map, SMOOTHING * side)
    return found.clip(min=NOTICEABLE)


def _peaks(anomaly_map: NDArray[np.float32]) -> NDArray[np.float32]:
    """The largest value in each cell: (S, S) -> (CELLS, CELLS)."""
    cell = len(anomaly_map) // CELLS
    found: NDArray[np.float32] = anomaly_map.reshape(CELLS, cell, CELLS, cell).max((1, 3))
    return found
