"""Options of the data set: which images, how large, in which folds."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from leanet.config.limits import at_least, check_image_size
from leanet.config.shown import hidden


@dataclass(frozen=True)
class DataConfig:
    """Which images, at which size, in which folds."""

    normal_dir: str = "Negative"
    """Folder of normal images inside DATASET (any case)."""
    abnormal_dir: str = "Positive"
    """Folder of anomalous images inside DATASET (any case); its subfolders name the kinds of anomaly."""
    groups: Path | None = None
    """CSV file with the columns file and group: images of one group are kept together in every split."""
    image_size: int = 256
    """Side in pixels to which every image is resized: a multiple of 32 from 64 to 512."""
    n_splits: int = 5
    """Number of cross-validation folds, at least 2."""
    max_per_class: int | None = None
    """Take only about this many images of each class (seeded, whole groups): for a quick look."""
    skip_unreadable: bool = False
    """Leave out files that cannot be read, and list them, instead of stopping."""
    source: Annotated[str, *hidden()] = "folder"
    """What kind of place DATASET is: 'folder', or a source that a program registered."""

    def __post_init__(self) -> None:
        at_least("--n-splits", self.n_splits, 2)
        check_image_size(self.image_size)
        if self.max_per_class is not None:
            at_least("--max-per-class", self.max_per_class, self.n_splits)
