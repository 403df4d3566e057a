"""White balance: an estimate of the light's color, divided out of linear RGB."""

from __future__ import annotations

import torch
from torch import Tensor

from leanet.color.lab import check_three_channels, linear_to_srgb, srgb_to_linear
from leanet.color.light import LUMINANCE
from leanet.config import WhiteBalance

NORM = 6
"""Power of the mean of `shades-of-grey`: 1 is `grey-world`, and infinity the brightest pixel."""

BORDER = 16
"""The border's width is the side divided by this."""

DARKEST = 1e-3
"""Least linear value of the light, which keeps black pictures as they are."""

MOST_GAIN = 4.0
"""Largest factor of a channel, two stops: a picture of one color is not turned gray altogether."""


def white_balance(rgb: Tensor, method: WhiteBalance) -> Tensor:
    """Images as under white light, with the same luminance of gray.

    Args:
        rgb: float (N, 3, H, W), sRGB in [0, 1].
        method: 'grey-world' takes the mean color for the light's, 'shades-of-grey' the mean of order NORM, 'border'
            the mean of the outermost pixels, where the background is neutral. 'none' returns the images.
    Returns:
        float (N, 3, H, W), sRGB in [0, 1], in steps of 1/255: what an 8-bit file would hold.
    Raises:
        ValueError: the channel axis is not 3, or the values are integers.
    Source: Finlayson & Trezzi (2004), Shades of Gray and Colour Constancy, Color Imaging Conference 12.
    """
    check_three_channels(rgb, "rgb")
    if method == "none":
        return rgb
    linear = srgb_to_linear(rgb)
    light = _light(linear, method).clamp(min=DARKEST)
    r, g, b = LUMINANCE
    gray = r * light[:, 0:1] + g * light[:, 1:2] + b * light[:, 2:3]
    gains = (gray / light).clamp(1 / MOST_GAIN, MOST_GAIN)
    return (linear_to_srgb(linear * gains) * 255).round() / 255


def _light(linear: Tensor, method: WhiteBalance) -> Tensor:
    """The light's color, float (N, 3, 1, 1)."""
    if method == "grey-world":
        return linear.mean((2, 3), keepdim=True)
    if method == "shades-of-grey":
        power = linear * linear * linear
        mean = (power * power).mean((2, 3), keepdim=True)  # of order NORM
        return mean ** (1 / NORM)
    width = max(1, linear.shape[-1] // BORDER)
    rows = torch.cat([linear[:, :, :width], linear[:, :, -width:]], 2).flatten(2)
    columns = torch.cat([linear[:, :, width:-width, :width], linear[:, :, width:-width, -width:]], 3).flatten(2)
    return torch.cat([rows, columns], 2).mean(2)[:, :, None, None]
