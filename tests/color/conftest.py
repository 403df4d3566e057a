"""Photographs for the color tests."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

DATA = Path(__file__).parents[2].parent / "shared" / "data"


@pytest.fixture(scope="session")
def real_rgb() -> Tensor:
    """Two photographs of each class of each data set beside the repository: float32 (N, 3, 128, 128)."""
    folders = sorted(DATA.glob("*/*itive"))
    files = [f for folder in folders for f in sorted(p for p in folder.rglob("*.*") if p.is_file())[:2]]
    if not files:
        pytest.skip(f"no real images in {DATA}")
    arrays = [np.asarray(Image.open(f).convert("RGB").resize((128, 128)), dtype=np.float32) for f in files]
    return torch.from_numpy(np.stack(arrays) / 255).permute(0, 3, 1, 2)
