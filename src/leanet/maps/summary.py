"""The summary stored with a fold's anomaly maps, for the second stage and the table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from leanet.color.anomaly_map import NORMALS_UNIT_QUANTILE

MEANS_OF_PARTS = "means_of_parts"
"""The attribute with the means of each source's own maps by its name, if several sources make one map."""


class MapSummary:
    """Accumulates the summary of a fold's maps, a few maps at a time.

    Args:
        labels: int (N,), every image's label, 0 normal, 1 anomalous.
        training_normals, test: rows of the fold's training normals and of its test images.
        step: resolution at which the maps are stored.
    """

    def __init__(
        self,
        labels: NDArray[np.int64],
        training_normals: NDArray[np.int64],
        test: NDArray[np.int64],
        step: float,
    ) -> None:
        self._labels, self._test, self._step = labels, test, step
        self._means = np.zeros(len(labels))
        self._of_parts: dict[str, NDArray[np.float64]] = {}
        self._counts = np.zeros(65536, dtype=np.int64)
        self._is_training_normal = np.zeros(len(labels), dtype=bool)
        self._is_training_normal[training_normals] = True

    def add(
        self,
        rows: NDArray[np.int64],
        maps: NDArray[np.float32],
        of_parts: Mapping[str, NDArray[np.float32]] | None = None,
    ) -> None:
        """Add the maps (n, H, W) of these rows and, if several sources make them, each source's own."""
        self._means[rows] = maps.mean((1, 2))
        for name, own in (of_parts or {}).items():
            self._of_parts.setdefault(name, np.zeros(len(self._labels)))[rows] = own.mean((1, 2))
        codes = np.rint(maps[self._is_training_normal[rows]] / self._step).clip(0, 65535).astype(np.int64)
        self._counts += np.bincount(codes.ravel(), minlength=65536)

    def attributes(self) -> dict[str, Any]:
        """The 99th percentile over the training normals' pixels, and the maps' means by image and by group."""
        labels, below = self._labels[self._test], np.cumsum(self._counts)
        p99 = max(
            1, int(np.searchsorted(below, below[-1] * NORMALS_UNIT_QUANTILE))
        )  # never 0: maps are divided by it
        of_parts = {MEANS_OF_PARTS: {name: means.tolist() for name, means in self._of_parts.items()}}
        return {
            **(of_parts if self._of_parts else {}),
            "normals_p99": p99 * self._step,
            "mean_delta_e": self._means.tolist(),
            "train_normals": float(self._means[self._is_training_normal].mean()),
            "test_normals": _mean(self._means[self._test[labels == 0]]),
            "test_anomalies": _mean(self._means[self._test[labels == 1]]),
        }


def _mean(values: NDArray[np.float64]) -> float | None:
    return float(values.mean()) if len(values) else None
