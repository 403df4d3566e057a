"""Options of the data set: which images, how large, in which folds."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from leanet.config.limits import at_least, check_image_size
from leanet.config.shown import hidden, recent

Aspect = Literal["squeeze", "letterbox", "crop"]
"""What becomes of the aspect ratio of a picture that is not square."""


@dataclass(frozen=True)
class DataConfig:
    """Options of the data set: images, size, folds."""

    normal_dir: str = "Negative"
    """Folder of normal images inside DATASET (case does not matter)."""
    abnormal_dir: str = "Positive"
    """Folder of anomalous images inside DATASET (case does not matter).
    Its subfolders name the kinds of anomaly."""
    groups: Path | None = None
    """CSV file with the columns file and group. Images of one group stay on the same side of every split."""
    image_size: int = 256
    """Every image is resized to a square of this side in pixels: a multiple of 32 from 64 to 512."""
    aspect: Annotated[Aspect, *recent("{squeeze,letterbox,crop}")] = "squeeze"
    """How a picture that is not square becomes one: 'squeeze' changes its aspect ratio.
    'letterbox' keeps it, and fills the square with the picture's mirror image. 'crop' keeps the middle alone."""
    n_splits: int = 5
    """Number of cross-validation folds, at least 2."""
    max_per_class: int | None = None
    """Use only about this many images of each class (random by --seed, whole groups), for a quick look."""
    skip_unreadable: bool = False
    """Skip unreadable files and list them, instead of stopping."""
    source: Annotated[str, *hidden()] = "folder"
    """Data source that reads DATASET: 'folder', or one that a program registered."""

    def __post_init__(self) -> None:
        at_least("n_splits", self.n_splits, 2)
        check_image_size(self.image_size)
        if self.max_per_class is not None:
            at_least("max_per_class", self.max_per_class, self.n_splits)
