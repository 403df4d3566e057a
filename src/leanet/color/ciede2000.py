"""The color difference ΔE00 as a differentiable function of images, with one `exp` and one `sin` per pixel.

The code computes no angles. Hues are unit vectors. The half-angle sine gives their difference, the bisector their
mean, and recurrences the cosines of its multiples. The rotation term needs the *square* of an angle, a power series
in one minus its cosine. This is faster than `atan2`, and the gradient is finite where hues are undefined (gray) or
opposite.
"""

from __future__ import annotations

from math import comb, cos, radians, sin

import torch
from torch import Tensor

from .lab import check_three_channels

_GREY = 1e-12  # below this squared chroma, a color counts as gray, without hue
_NO_DIFFERENCE = 1e-24  # a squared ΔE00 below this counts as 0

# arccos(1 - t)² = Σ 2 (2t)^n / (n² binom(2n, n)). Eight terms: within 1e-6 up to 50°; beyond, the bell is near 0.
_SQUARED_ANGLE = [2 * 2**n / (n * n * comb(2 * n, n)) for n in range(1, 9)]


def ciede2000(lab1: Tensor, lab2: Tensor) -> Tensor:
    """Color difference ΔE00 of two CIELAB images.

    The gradient is finite everywhere: it is 0 at equal colors, where ΔE00 has a corner, and a gray's hue
    contributes none. `torch.compile` fuses the function into one pass over memory.

    Args:
        lab1, lab2: float (..., 3, H, W); L* in 0..100, a* and b* unbounded.
    Returns:
        float (..., 1, H, W), 0 or more.
    Raises:
        ValueError: the shapes differ, the channel axis is not 3, or the values are integers.
    Source: Sharma, Wu & Dalal (2005), Color Res. Appl. 30(1), eq. 1-22.
    """
    check_three_channels(lab1, "lab1")
    if lab1.shape != lab2.shape:
        raise ValueError(
            f"lab1 has shape {tuple(lab1.shape)} and lab2 {tuple(lab2.shape)}: they must be equal. "
            "Expand one of them first if you mean to compare many images with one."
        )
    check_three_channels(lab2, "lab2")
    lightness1, a1, b1 = torch.split(lab1, 1, dim=-3)
    lightness2, a2, b2 = torch.split(lab2, 1, dim=-3)

    # eq. 2-7: stretch a* so that grays look gray; chroma and the hue's unit vector (0, 0 for gray)
    stretch = 1.5 - 0.5 * _share_of_chroma((_norm(a1, b1) + _norm(a2, b2)) * 0.5)
    chroma1, hue1_x, hue1_y = _polar(a1 * stretch, b1)
    chroma2, hue2_x, hue2_y = _polar(a2 * stretch, b2)

    # eq. 10, 11, 14: half the hue difference, and the mean hue on the shorter arc
    mean_x, mean_y, twice_sine_half = _between(hue1_x, hue1_y, hue2_x, hue2_y)
    delta_hue = _sqrt(chroma1 * chroma2) * twice_sine_half

    # eq. 12, 13, 15-20: the weights
    mean_chroma = (chroma1 + chroma2) * 0.5
    from_mid_grey = ((lightness1 + lightness2) * 0.5 - 50).square()
    weight_lightness = 1 + 0.015 * from_mid_grey * torch.rsqrt(20 + from_mid_grey)
    weight_chroma = 1 + 0.045 * mean_chroma
    weight_hue = 1 + 0.015 * mean_chroma * _hue_dependence(mean_x, mean_y)

    # eq. 21, 22
    in_lightness = (lightness2 - lightness1) / weight_lightness
    in_chroma = (chroma2 - chroma1) / weight_chroma
    in_hue = delta_hue / weight_hue
    rotation = -2 * _share_of_chroma(mean_chroma) * _blue_turn(mean_x, mean_y)
    squared = in_lightness.square() + in_chroma.square() + in_hue * (in_hue + rotation * in_chroma)
    return _sqrt(squared, _NO_DIFFERENCE)


def _sqrt(x: Tensor, zero: float = _GREY * _GREY) -> Tensor:
    """Square root that is 0, with gradient 0, for x <= zero; nan stays nan."""
    return torch.where(x <= zero, 0, x.clamp(min=zero).sqrt())


def _norm(x: Tensor, y: Tensor) -> Tensor:
    """Length of (x, y); its gradient at (0, 0) is 0."""
    return _sqrt(x * x + y * y, _GREY)


def _polar(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Length and unit vector of (x, y); all three are 0, with gradient 0, for gray."""
    squared = x * x + y * y
    inverse = torch.where(squared > _GREY, torch.rsqrt(squared.clamp(min=_GREY)), 0)
    return squared * inverse, x * inverse, y * inverse


def _share_of_chroma(chroma: Tensor) -> Tensor:
    """sqrt(C^7 / (C^7 + 25^7)), from 0 for grays to 1 for vivid colors. Source: eq. 4 and 17."""
    c = chroma.clamp(min=1e-6) * (1 / 25)
    cubed = c * c * c
    return cubed * torch.sqrt(c / (1 + cubed * cubed * c))


def _between(x1: Tensor, y1: Tensor, x2: Tensor, y2: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The bisector of two unit vectors, and twice the sine of half the angle from the first to the second.

    Sharma's mean hue (eq. 14) is the bisector of the shorter arc; if one color is gray (a zero vector), it is the
    other's hue. Up to a right angle, the bisector is the sum of the vectors. Beyond, the sum loses precision, and
    the bisector is their difference rotated by 90°. Exactly opposite hues have two bisectors; the formula's
    (h1 + h2)/2, with hues in 0..360, is the one 90° *after* the smaller hue.
    """
    dx, dy = x2 - x1, y2 - y1
    cross = x1 * dy - y1 * dx
    rounding = 4 * torch.finfo(cross.dtype).eps
    # Logical operators, because ONNX Runtime's `where` does not take booleans.
    level, opposite = dy.abs() <= rounding, cross.abs() <= rounding
    first_is_smaller = (level & (dx < 0)) | (~level & (dy < 0))  # 0 before 180, above before below
    anticlockwise = (opposite & first_is_smaller) | (~opposite & (cross > 0))
    obtuse = x1 * x2 + y1 * y2 < 0
    x = torch.where(obtuse, torch.where(anticlockwise, dy, -dy), x1 + x2)
    y = torch.where(obtuse, torch.where(anticlockwise, -dx, dx), y1 + y2)
    _, x, y = _polar(x, y)
    return x, y, dy * x - dx * y


def _hue_dependence(c: Tensor, s: Tensor) -> Tensor:
    """T of eq. 15, from the cosine and sine of the mean hue: 1 - 0.17 cos(h - 30°) + 0.24 cos 2h + ..."""
    c2, s2 = 2 * c * c - 1, 2 * c * s
    c3, s3 = c2 * c - s2 * s, s2 * c + c2 * s
    c4, s4 = 2 * c2 * c2 - 1, 2 * c2 * s2
    return 1 - _cosine(c, s, 0.17, -30) + 0.24 * c2 + _cosine(c3, s3, 0.32, 6) - _cosine(c4, s4, 0.20, -63)


def _cosine(c: Tensor, s: Tensor, amplitude: float, shift: float) -> Tensor:
    """Amplitude times cos(h + shift degrees), from the cosine and sine of h."""
    return c * (amplitude * cos(radians(shift))) - s * (amplitude * sin(radians(shift)))


def _blue_turn(c: Tensor, s: Tensor) -> Tensor:
    """sin(2 Δθ) of eq. 16 and 19, with Δθ = 30° exp(-((h - 275°) / 25°)²).

    The published hue does not wrap: just above 0°, its distance from 275° is 275°, not 85°. The bell ends there.
    """
    t = 1 - _cosine(c, s, 1, -275)
    squared_angle = t * _SQUARED_ANGLE[-1]
    for coefficient in reversed(_SQUARED_ANGLE[:-1]):
        squared_angle = (squared_angle + coefficient) * t
    bell = torch.exp(squared_angle * (-1 / radians(25) ** 2))
    return torch.where(s < 0, torch.sin(radians(60) * bell), 0)
