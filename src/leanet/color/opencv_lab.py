"""CIELAB as OpenCV computes it, only for the authors' coding of anomaly maps; needs the extra `authors`.

OpenCV's 8-bit Lab differs from the rounded formula by one gray level in a tenth of its values. Its float Lab
quantizes colors to steps of 1/512 and interpolates a table. Only OpenCV reproduces these numbers.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .lab import check_three_channels


def check_opencv() -> None:
    """Fail before the work begins if OpenCV is missing.

    Raises:
        ImportError: OpenCV is missing.
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
        rgb: float (N, 3, H, W), sRGB in [0, 1]; values outside are clipped.
    Returns:
        float32 (N, 3, H, W): L* in 0..100, a* and b* about -128..127, without gradient.
    Raises:
        ValueError: the shape is not (N, 3, H, W), or the values are integers.
        ImportError: OpenCV is missing.
    """
    return _converted(_as_rows(rgb), rgb)


def _as_rows(rgb: Tensor) -> NDArray[np.float32]:
    """A batch stacked vertically into one OpenCV image: float32 (N * H, W, 3)."""
    check_three_channels(rgb, "rgb")
    if rgb.ndim != 4:
        raise ValueError(f"rgb has shape {tuple(rgb.shape)}, expected (N, 3, H, W). Give one image as rgb[None].")
    rows: NDArray[np.float32] = rgb.detach().float().cpu().movedim(1, -1).flatten(0, 1).contiguous().numpy()
    return rows


def _converted(rows: NDArray[np.float32] | NDArray[np.uint8], like: Tensor) -> Tensor:
    """OpenCV's Lab of these rows, in the shape and on the device of the batch `like`: float32 (N, 3, H, W)."""
    check_opencv()
    import cv2

    n, _, height, width = like.shape
    lab = cv2.cvtColor(rows, cv2.COLOR_RGB2LAB).astype(np.float32).reshape(n, height, width, 3)
    return torch.from_numpy(lab).movedim(-1, 1).to(like.device)
