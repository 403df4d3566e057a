"""Anomaly maps as a network takes them: read by row, and scaled."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from leanet.color.anomaly_map import scale_map
from leanet.config import DetectConfig
from leanet.maps.store import Maps
from leanet.training.detection import RECIPES

ReadMaps = Callable[[NDArray[np.int64]], Tensor]
"""Rows -> scaled anomaly maps, float32 (N, 1, H, W)."""


def map_scale(config: DetectConfig) -> Literal["normals", "max"]:
    """How anomaly maps are scaled: as asked for, or as the recipe has it."""
    return config.detector.map_scale or RECIPES[config.compute.recipe].map_scale


def map_reader(maps: Maps, scale: Literal["normals", "max"]) -> ReadMaps:
    """A function from rows to scaled anomaly maps, float32 (N, 1, H, W)."""

    def read(rows: NDArray[np.int64]) -> Tensor:
        delta_e = torch.from_numpy(maps.delta_e(rows))[:, None]
        return scale_map(delta_e, scale, maps.normals_p99)

    return read
