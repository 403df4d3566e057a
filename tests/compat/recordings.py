"""The recorded numbers of the authors' program, and the weights that they were recorded with."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

GOLDEN = Path(__file__).parents[3] / "shared" / "reference" / "golden"


def load(name: str, folder: Path = GOLDEN) -> dict[str, Any]:
    """A recording by name; skips where the recordings are absent."""
    path = folder / f"{name}.json"
    if not path.is_file():
        pytest.skip(f"the recordings of the authors' program ({path.name}) are not here")
    recording: dict[str, Any] = json.loads(path.read_text())
    return recording


def draw(weights: list[dict[str, Any]]) -> list[NDArray[np.float32]]:
    """The weights of a recording, drawn tensor by tensor as they were for the authors' program."""
    return [_draw(w["index"], w["kind"], tuple(w["shape"]), w["layer"]) for w in weights]


def inputs() -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The recorded images (2, 256, 256, 3) and anomaly maps (2, 256, 256, 1)."""
    r = np.random.default_rng(7)
    return r.random((2, 256, 256, 3), dtype=np.float32), r.random((2, 256, 256, 1), dtype=np.float32)


def _draw(index: int, kind: str, shape: tuple[int, ...], layer: str) -> NDArray[np.float32]:
    g = np.random.default_rng(1000 + index)
    z = g.standard_normal(shape, dtype=np.float32)
    if kind == "gamma":
        return (1 + 0.1 * z).astype(np.float32)
    if kind in ("beta", "bias", "moving_mean"):
        return (0.1 * z).astype(np.float32)
    if kind == "moving_variance":
        return np.float32(0.5) + g.random(shape, dtype=np.float32)
    if kind == "depthwise_kernel":
        fan_in = shape[0] * shape[1]
    elif len(shape) == 2:
        fan_in = shape[0]
    else:
        fan_in = shape[0] * shape[1] * shape[3 if "transpose" in layer else 2]
    small = 0.1 if len(shape) == 2 and shape[1] == 2 and fan_in <= 1024 else 1.0
    return (z * np.float32(math.sqrt(2 / fan_in)) * np.float32(small)).astype(np.float32)
