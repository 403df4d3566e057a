"""Rows of the pixel cache as tensors."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def images_to_tensor(pixels: NDArray[np.uint8], rows: NDArray[np.int64]) -> Tensor:
    """Rows of the pixel cache as float32 (N, 3, H, W) in [0, 1], channels last in memory."""
    return torch.from_numpy(pixels[rows]).permute(0, 3, 1, 2).float().div_(255)


def tensor_to_image(rgb: Tensor) -> NDArray[np.uint8]:
    """An image (3, H, W) in [0, 1] as uint8 (H, W, 3), rounded."""
    return (rgb * 255).round().to(torch.uint8).permute(1, 2, 0).contiguous().numpy()
