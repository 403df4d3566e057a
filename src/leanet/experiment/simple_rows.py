"""Simple classifiers that belong beside every result: if colour statistics do as well, no network was needed."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

LEVELS = 4
"""Steps of each primary in a colour histogram: 4 x 4 x 4 colours."""

BORDER = 0.08
"""Share of the side that counts as the image's border, on each of the four sides."""


def colour_histogram(pixels: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Square roots of the shares of 64 colours: (N, ..., 3) uint8 -> (N, 64). The root tempers large shares."""
    steps = pixels.reshape(len(pixels), -1, 3).astype(np.int64) * LEVELS // 256
    codes = (steps * [LEVELS * LEVELS, LEVELS, 1]).sum(2)
    counts = np.stack([np.bincount(code, minlength=LEVELS**3) for code in codes])
    shares: NDArray[np.float64] = np.sqrt(counts / counts.sum(1, keepdims=True))
    return shares


def border_histogram(pixels: NDArray[np.uint8]) -> NDArray[np.float64]:
    """The same of the border's pixels alone: (N, H, W, 3) uint8 -> (N, 64)."""
    side = pixels.shape[1]
    width = max(1, round(BORDER * side))
    inside = np.zeros((side, side), dtype=bool)
    inside[width:-width, width:-width] = True
    return colour_histogram(pixels[:, ~inside])


def linear_classifier() -> Pipeline:
    """Logistic regression on standardised features."""
    return make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=2000))
