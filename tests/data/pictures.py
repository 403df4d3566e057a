"""Pictures to write to files."""

import numpy as np
from PIL import Image

from leanet.data.decode import UInt8Array


def picture(height: int = 24, width: int = 36, seed: int = 0) -> UInt8Array:
    """Return a smooth uint8 (H, W, 3) image that lossy formats keep."""
    rng = np.random.default_rng(seed)
    corners = Image.fromarray(rng.integers(0, 256, (3, 3, 3), dtype=np.uint8))
    return np.asarray(corners.resize((width, height), Image.Resampling.BICUBIC))
