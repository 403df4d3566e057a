"""CIELAB as OpenCV computes it, for the authors' coding of anomaly maps alone: needs the extra `authors`.

OpenCV's 8-bit Lab differs from the rounded formula by a gray level in a tenth of its values; its float Lab takes
colors in steps of 1/512 and interpolates a table. Only OpenCV gives OpenCV's numbers.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .lab import check_three_channels


def check_opencv() -> None:
    """Say at once, not in the middle of the work, that OpenCV is missing.

    Raises:
        ImportError: it is missing.
    """
    try:
        import cv2  # noqa: F401
    except ImportError:
        raise ImportError("OpenCV is missing.") from None


def opencv_lab_8_bit(rgb: Tensor) -> Tensor:
    """SRGB to OpenCV's 8-bit Lab over 255: the coding of `encode_lab`, in steps of 1/255.

    Args:
        rgb: float (N, 3, H, W), sRGB in [0, 1]; rounded to 8 bits.
    Returns:
        float32 (N, 3, H, W) in [0, 1], without gradient.
    Raises:
        ValueError: the shape is not (N, 3, H, W), or the values are integers.
        ImportError: OpenCV is missing.
    Source: the authors' program for arXiv 2109.05493.
    """
    stepped = np.rint(_as_rows(rgb) * 255).clip(0, 255).astype(np.uint8)
    return _converted(stepped, rgb) / 255


def opencv_lab(rgb: Tensor) -> Tensor:
    """SRGB to CIELAB through OpenCV's table, up to 5 ΔE00 from `rgb_to_lab`.

    Args:
        rgb: float (N, 3, H, W), sRGB in [0, 1]; what lies outside is clipped.
    Returns:
        float32 (N, 3, H, W): L* in 0..100, a* and b* about -128..127, without gradient.
    Raises:
        ValueError: the shape is not (N, 3, H, W), or the values are integers.
        ImportError: OpenCV is missing.
    """
    return _converted(_as_rows(rgb), rgb)


def _as_rows(rgb: Tensor) -> NDArray[np.float32]:
    """All images of a batch below each other, as one image of OpenCV's: float32 (N * H, W, 3)."""
    check_three_channels(rgb, "rgb")
    if rgb.ndim != 4:
        raise ValueError(f"rgb has shape {tuple(rgb.shape)}, expected (N, 3, H, W). Give one image as rgb[None].")
    rows: NDArray[np.float32] = rgb.detach().float().cpu().movedim(1, -1).flatten(0, 1).contiguous().numpy()
    return rows


def _converted(rows: NDArray[np.float32] | NDArray[np.uint8], like: Tensor) -> Tensor:
    """OpenCV's Lab of these rows, as the batch that they came from: float32 (N, 3, H, W), on its device."""
    check_opencv()
    import cv2

    n, _, height, width = like.shape
    lab = cv2.cvtColor(rows, cv2.COLOR_RGB2LAB).astype(np.float32).reshape(n, height, width, 3)
    return torch.from_numpy(lab).movedim(-1, 1).to(like.device)
