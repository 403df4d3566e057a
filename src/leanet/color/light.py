"""The same scene in other light: an illuminant's cast and the exposure, as gains of linear RGB."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import brentq
from torch import Tensor

from leanet.color.ciede2000 import ciede2000
from leanet.color.lab import check_three_channels, linear_to_srgb, rgb_to_lab, srgb_to_linear

Gains = tuple[float, float, float]
"""Factors of linear red, green and blue."""

Cast = Literal["warm", "cool", "green", "magenta"]

DIRECTIONS: dict[Cast, Gains] = {
    "warm": (1, 0, -1),
    "cool": (-1, 0, 1),
    "green": (-0.5, 1, -0.5),
    "magenta": (0.5, -1, 0.5),
}
"""Logarithms of the gains, up to a factor."""

LUMINANCE: Gains = (0.2126, 0.7152, 0.0722)
"""Shares of linear red, green and blue (ITU-R BT.709)."""

GRAY = 0.1842
"""Linear value of the gray whose L* is 50."""

MOST_DELTA_E = 20.0
"""The strongest cast."""


def cast_gains(cast: Cast, delta_e: float) -> Gains:
    """Gains that move the gray of L* 50 by this ΔE00 and keep its luminance.

    Args:
        cast: the direction.
        delta_e: above 0, at most MOST_DELTA_E.
    Raises:
        ValueError: a stronger cast, or none.
    """
    if not 0 < delta_e <= MOST_DELTA_E:
        raise ValueError(f"a cast of {delta_e:g} ΔE00: expected more than 0, and at most {MOST_DELTA_E:g}.")

    def beyond(strength: float) -> float:
        gray = torch.full((3, 1, 1), GRAY, dtype=torch.float64)
        moved = gray * torch.tensor(_gains(cast, strength), dtype=torch.float64)[:, None, None]
        return float(ciede2000(*(rgb_to_lab(linear_to_srgb(linear)) for linear in (gray, moved)))) - delta_e

    return _gains(cast, float(brentq(beyond, 0.0, 2.0)))


def relit(rgb: Tensor, gains: Gains = (1.0, 1.0, 1.0), stops: float = 0.0) -> Tensor:
    """Images under other light; what leaves the range is clipped, as in a camera.

    Args:
        rgb: float (..., 3, H, W), sRGB in [0, 1].
        gains: of linear red, green and blue.
        stops: exposure, in powers of 2.
    Returns:
        float (..., 3, H, W), sRGB in [0, 1].
    Raises:
        ValueError: the channel axis is not 3, or the values are integers.
    """
    check_three_channels(rgb, "rgb")
    factors = torch.tensor(gains, dtype=rgb.dtype, device=rgb.device)[:, None, None] * 2.0**stops
    return linear_to_srgb(srgb_to_linear(rgb) * factors)


def random_light(seed: int) -> tuple[Gains, float]:
    """Gains and exposure that `relit` takes: a cast of up to about 18 ΔE00 in any direction, and up to a stop."""
    generator = np.random.default_rng(seed)
    direction = generator.normal(size=3)
    direction -= direction.mean()
    direction *= generator.uniform(0, 0.5) / np.linalg.norm(direction)
    return _with_luminance(np.exp(direction)), float(generator.uniform(-1, 1))


def _gains(cast: Cast, strength: float) -> Gains:
    return _with_luminance(np.exp(strength * np.array(DIRECTIONS[cast])))


def _with_luminance(gains: NDArray[np.float64]) -> Gains:
    """Gains that keep the luminance of gray, in these proportions."""
    r, g, b = (gains / (gains @ LUMINANCE)).tolist()
    return r, g, b
