"""Choose the pictures whose labels help most: uncertain, unlike those that are known, and unlike each other."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

NEAR = 0.3
"""Distance of components below which two pictures are nearly the same: saved again, or shifted by a few pixels. Of
different pictures, the nearest are at 0.5 to 0.8; benchmarks/README.md has the measurement."""

SHARPNESS = 2
"""Power of the rank by uncertainty, against the distance."""

LEAST = 1e-6
"""Least probability of either class, and least weight."""

AT_ONCE = 10_000
"""Pictures whose distances are computed at a time."""


def choose(
    probability: NDArray[np.float64],
    threshold: float,
    components: NDArray[np.float32],
    known: NDArray[np.float32],
    count: int,
) -> list[int]:
    """Numbers of the pictures to label, the most helpful first; fewer than asked if the others are near-duplicates.

    A picture's weight is its rank by uncertainty, squared, times its distance from the nearest picture that is
    known or chosen before.

    Args:
        probability: (N,), what the model says, in [0, 1]; near the threshold it is uncertain.
        threshold: the model's.
        components: (N, C), see `Result.components`.
        known: (K, C), of the pictures that have labels.
        count: most to choose, 1 or more.
    """
    certainty = np.abs(_logit(probability) - _logit(np.array(threshold)))
    rank = rankdata(-certainty) / len(certainty)
    nearest, found = _nearest(components, known), list[int]()
    while len(found) < count:
        weight = np.where(nearest >= NEAR, rank**SHARPNESS * nearest, -1.0)
        best = int(weight.argmax())
        if weight[best] < 0:
            break
        found.append(best)
        nearest = np.minimum(nearest, np.linalg.norm(components - components[best], axis=1))
        nearest[best] = 0.0
    return found


def _nearest(components: NDArray[np.float32], known: NDArray[np.float32]) -> NDArray[np.float64]:
    """Distance of each picture (N, C) from the nearest known one (K, C), (N,)."""
    found = np.empty(len(components))
    squares = np.square(known).sum(1)
    for start in range(0, len(components), AT_ONCE):
        some = components[start : start + AT_ONCE]
        distances = np.square(some).sum(1)[:, None] + squares - 2 * some @ known.T
        found[start : start + AT_ONCE] = np.sqrt(distances.min(1).clip(min=0))
    return found


def _logit(p: NDArray[np.float64]) -> NDArray[np.float64]:
    p = p.clip(LEAST, 1 - LEAST)
    found: NDArray[np.float64] = np.log(p / (1 - p))
    return found
