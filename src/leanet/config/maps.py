"""Options of the anomaly maps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from leanet.config.limits import at_least, training_limits
from leanet.config.shown import network_in, recent

FEATURE_PARTS = 2
"""Parts of `cross_fit` for feature maps, which would be 0 at an image's own patches."""

MapCoding = Literal["true", "authors"]


@dataclass(frozen=True)
class ColorizerConfig:
    """Stage 1: the colorizer, trained on a fold's normal training images only."""

    colorizer: Annotated[str, *network_in("colorizers")] = "Unet"
    """Colorization network."""
    colorizer_epochs: int | None = None
    """Epochs of the colorizer; by default the recipe's."""
    colorizer_batch_size: int | None = None
    """Batch size of the colorizer, in images; by default the recipe's."""
    colorizer_lr: float | None = None
    """Learning rate of the colorizer; by default the recipe's."""
    cross_fit: int = 0
    """Train this many more colorizers to make the training images' maps (0: one colorizer makes all maps).
    Each recolors only images that it was not trained on, as for the test images.
    With --map-source features at least 2, the default there."""
    map_coding: MapCoding = "true"
    """Values of the anomaly maps: 'true' is ΔE00; 'authors' is the authors' program's (needs the extra authors)."""

    map_source: Annotated[str, *recent("{colorizer,features}")] = "colorizer"
    """Source of the anomaly maps: 'colorizer' is ΔE00 between an image and its recoloring.
    'features' is the distance of pretrained features from those of normal images; it trains nothing."""

    def __post_init__(self) -> None:
        training_limits("colorizer_", self.colorizer_epochs, self.colorizer_batch_size, self.colorizer_lr)
        if self.map_source == "features" and not self.cross_fit:
            object.__setattr__(self, "cross_fit", FEATURE_PARTS)
        if self.cross_fit:
            at_least("cross_fit", self.cross_fit, 2)
