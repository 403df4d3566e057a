"""How well maps show *where* an anomaly is, against ground-truth masks: pixel AUROC and AUPRO."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import label as connected_regions
from sklearn.metrics import auc, roc_auc_score

FALSE_POSITIVE_LIMIT = 0.3
"""AUPRO is the area up to this false positive rate, the usual one."""

_STEPS = 500


def read_mask(path: Path, side: int) -> NDArray[np.bool_]:
    """A ground-truth mask as bool (side, side): True where at least half of a pixel's area is anomalous."""
    with Image.open(path) as image:
        resized = image.convert("L").point(lambda v: 255 if v > 0 else 0).resize((side, side), Image.Resampling.BOX)
        return np.asarray(resized) >= 128


def pixel_auroc(maps: NDArray[np.float32], masks: NDArray[np.bool_]) -> float | None:
    """AUROC over all pixels of all images; None where no pixel, or every pixel, is anomalous.

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
    normal = np.sort(maps[~masks])
    regions = _scores_of_regions(maps, masks)
    if not regions or not len(normal):
        return None
    false_positives = np.linspace(0, FALSE_POSITIVE_LIMIT, _STEPS + 1)
    # The threshold that this share of the normal pixels lies above.
    thresholds = normal[np.minimum(len(normal) - 1, np.ceil((1 - false_positives) * len(normal)).astype(int) - 1)]
    overlaps = np.zeros(len(thresholds))
    for scores in regions:
        overlaps += 1 - np.searchsorted(scores, thresholds, side="right") / len(scores)
    return float(auc(false_positives, overlaps / len(regions)) / FALSE_POSITIVE_LIMIT)


def _scores_of_regions(maps: NDArray[np.float32], masks: NDArray[np.bool_]) -> Sequence[NDArray[np.float32]]:
    """The sorted map values of each connected region (8 neighbours)."""
    found = []
    for one, mask in zip(maps, masks, strict=True):
        numbered, count = connected_regions(mask, np.ones((3, 3)))
        found += [np.sort(one[numbered == number]) for number in range(1, count + 1)]
    return found
