"""Predictions that are better than guessing, and not perfect."""

from __future__ import annotations

import numpy as np

from leanet.results.metrics import Scored


def noisy(seed: int, n: int = 80, share: float = 0.3) -> Scored:
    generator = np.random.default_rng(seed)
    labels = (np.arange(n) < n * share).astype(np.int64)
    return Scored(labels, (0.3 * labels + generator.random(n) * 0.7).round(2))
