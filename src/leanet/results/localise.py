"""How well maps show *where* an anomaly is, against ground-truth masks: pixel AUROC and AUPRO."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import distance_transform_edt
from scipy.ndimage import label as connected_regions
from sklearn.metrics import auc, roc_auc_score, roc_curve

from leanet.config import Aspect
from leanet.data.masks import mask_pixels
from leanet.data.shape import placement

FALSE_POSITIVE_LIMIT = 0.3
"""AUPRO is the area up to this false positive rate, the usual one."""


NEAR = 1 / 16
"""Distance from a mask up to which a map's peak is on it, as a share of the side: at 256 px one patch, 16 px."""


def read_mask(
    place: str | Path, side: int, aspect: Aspect = "squeeze", picture: tuple[int, int] | None = None
) -> NDArray[np.bool_]:
    """A ground-truth mask as bool (side, side): True where at least half of a pixel's area is anomalous.

    What a letterbox adds to the picture is not anomalous.

    Args:
        place: see `leanet.data.masks.mask_pixels`.
        side: in pixels.
        aspect: how the picture became a square, see `leanet.data.shape.to_square`.
        picture: width and height of the picture; the mask may be smaller or larger, but must have its shape.
    Raises:
        OSError: no such image, an unreadable one, or one of another shape than the picture's.
    """
    mask = mask_pixels(str(place))
    down, across = mask.shape
    if picture and abs(across * picture[1] - down * picture[0]) > sum(picture):  # more than by rounding
        raise OSError(f"{place}: a mask of {across} x {down} pixels for a picture of {picture[0]} x {picture[1]}")
    where = placement(down, across, side, aspect)
    whole = Image.fromarray(np.where(mask, np.uint8(255), np.uint8(0)))
    (x, y, width, height), (left, top, wide, tall) = where.part, where.inside
    shown = whole.resize((wide, tall), Image.Resampling.BOX, (x, y, x + width, y + height))
    found = np.zeros((side, side), np.bool_)
    found[top : top + tall, left : left + wide] = np.asarray(shown) >= 128
    return found


def pixel_auroc(maps: NDArray[np.float32], masks: NDArray[np.bool_]) -> float | None:
    """AUROC over all pixels of all images; None if no pixel, or every pixel, is anomalous.

    Args:
        maps: (N, H, W), higher is more anomalous.
        masks: (N, H, W), True on anomalies.
    """
    return float(roc_auc_score(masks.ravel(), maps.ravel())) if 0 < masks.sum() < masks.size else None


def aupro(maps: NDArray[np.float32], masks: NDArray[np.bool_]) -> float | None:
    """Area under the per-region-overlap curve up to a false positive rate of 0.3, divided by 0.3.

    At each threshold the overlap is the share of a connected anomalous region that is found, averaged over the
    regions of all images, so that small regions count as much as large ones.

    Args:
        maps, masks: as in `pixel_auroc`.
    Returns:
        In [0, 1]; None without an anomalous region or without a normal pixel.
    Source: Bergmann et al. (2021), Int. J. Comput. Vis. 129, section 4.3 (MVTec AD).
    """
    if not 0 < masks.sum() < masks.size:
        return None
    weights = np.concatenate([_weights(mask).ravel() for mask in masks])
    false_positives, overlaps, _ = roc_curve(masks.ravel(), maps.ravel(), sample_weight=weights)
    inside = false_positives < FALSE_POSITIVE_LIMIT
    at_limit = np.interp(FALSE_POSITIVE_LIMIT, false_positives, overlaps)
    area = auc([*false_positives[inside], FALSE_POSITIVE_LIMIT], [*overlaps[inside], at_limit])
    return float(area / FALSE_POSITIVE_LIMIT)


def peaks_on_masks(maps: NDArray[np.float32], masks: NDArray[np.bool_]) -> float | None:
    """The share of the masked images whose map's highest pixel lies within NEAR of the side of the mask.

    Args:
        maps, masks: as in `pixel_auroc`.
    Returns:
        In [0, 1]; None without a mask.
    """
    on_mask = []
    for one, mask in zip(maps, masks, strict=True):
        if mask.any():
            peak = np.unravel_index(int(one.argmax()), one.shape)
            on_mask.append(distance_transform_edt(~mask)[peak] <= NEAR * len(mask))
    return float(np.mean(on_mask)) if on_mask else None


def _weights(mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Weights (H, W) that make the recall of pixels the overlap of regions: each connected one's sum is 1."""
    numbered, _ = connected_regions(mask, np.ones((3, 3)))  # 8 neighbors
    sizes = np.bincount(numbered.ravel())
    return np.where(mask, 1 / sizes[numbered], 1.0)
