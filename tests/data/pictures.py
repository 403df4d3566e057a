"""Pictures to write to files, and data sets of files."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from leanet.data.dataset import Dataset, Sample
from leanet.data.decode import UInt8Array, read_image_file


def picture(height: int = 24, width: int = 36, seed: int = 0) -> UInt8Array:
    """Return a smooth uint8 (H, W, 3) image that lossy formats keep."""
    rng = np.random.default_rng(seed)
    corners = Image.fromarray(rng.integers(0, 256, (3, 3, 3), dtype=np.uint8))
    return np.asarray(corners.resize((width, height), Image.Resampling.BICUBIC))


def of_files(root: Path, files: Sequence[str]) -> Dataset:
    """A data set of these files, all normal, in this order."""
    return Dataset(root, tuple(Sample(file, 0, read=partial(read_image_file, root / file)) for file in files), ())
