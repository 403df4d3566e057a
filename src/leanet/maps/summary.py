"""What is stored beside a fold's anomaly maps: numbers that the second stage and the table need of all of them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from leanet.color.anomaly_map import NORMALS_UNIT_QUANTILE
from leanet.experiment.open_run import Run, normal_rows
from leanet.maps.store import DELTA_E_STEP


class MapSummary:
    """The numbers that are stored beside a fold's maps, from maps given a few at a time."""

    def __init__(self, run: Run, number: int) -> None:
        self._run, self._number = run, number
        self._means = np.zeros(len(run.images))
        self._counts = np.zeros(65536, dtype=np.int64)
        self._is_training_normal = np.zeros(len(run.images), dtype=bool)
        self._is_training_normal[normal_rows(run, number)] = True

    def add(self, rows: NDArray[np.int64], maps: NDArray[np.float32]) -> None:
        """Take in the maps (n, H, W) of these rows, in ΔE."""
        self._means[rows] = maps.mean((1, 2))
        codes = np.rint(maps[self._is_training_normal[rows]] / DELTA_E_STEP).clip(0, 65535).astype(np.int64)
        self._counts += np.bincount(codes.ravel(), minlength=65536)

    def attributes(self) -> dict[str, Any]:
        """Coding, fingerprint, the training normals' 99th percentile, and mean ΔE by image and by group."""
        test = self._run.rows(self._run.folds[self._number].test)
        labels, below = self._run.labels[test], np.cumsum(self._counts)
        p99 = max(
            1, int(np.searchsorted(below, below[-1] * NORMALS_UNIT_QUANTILE))
        )  # never 0: maps are divided by it
        return {
            "coding": self._run.map_coding,
            "fingerprint": self._run.fingerprint(self._number),
            "normals_p99": p99 * DELTA_E_STEP,
            "mean_delta_e": self._means.tolist(),
            "train_normals": float(self._means[self._is_training_normal].mean()),
            "test_normals": _mean(self._means[test[labels == 0]]),
            "test_anomalies": _mean(self._means[test[labels == 1]]),
        }


def _mean(values: NDArray[np.float64]) -> float | None:
    return float(values.mean()) if len(values) else None
