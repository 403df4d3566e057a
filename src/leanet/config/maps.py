"""Options of the anomaly maps."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Annotated, Literal

from leanet.config.limits import at_least, training_limits
from leanet.config.shown import AUTO, network_in, recent
from leanet.errors import OptionError

FEATURE_PARTS = 5
"""Parts of `cross_fit` for feature maps, which would be 0 at an image's own patches."""

COLORIZER_MAP = "colorizer"
"""The map source of the paper, and of earlier versions."""

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
    With --map-source features at least 2, by default 5."""
    map_coding: MapCoding = "true"
    """Values of the anomaly maps: 'true' is ΔE00; 'authors' is the authors' program's (needs the extra authors)."""

    map_source: Annotated[str, *recent("{auto,colorizer,features}")] = AUTO
    """Source of the anomaly maps: 'colorizer' is ΔE00 between an image and its recoloring.
    'features' is the distance of pretrained features from those of normal images; it trains nothing.
    'auto' is 'features' for a head, unless an option of the colorizer is given; else 'colorizer'."""

    def __post_init__(self) -> None:
        training_limits("colorizer_", self.colorizer_epochs, self.colorizer_batch_size, self.colorizer_lr)
        if self.map_source == "features" and not self.cross_fit:
            object.__setattr__(self, "cross_fit", FEATURE_PARTS)
        if self.map_source == "features" and self.map_coding == "authors":
            raise OptionError("map_coding", "authors", "feature maps have no coding. Omit it.")
        if self.cross_fit:
            at_least("cross_fit", self.cross_fit, 2)

    def settled(self, has_head: bool) -> ColorizerConfig:
        """The same options with their map source chosen, if it was not.

        Args:
            has_head: whether the maps are for a head on a frozen network.
        """
        if self.map_source != AUTO:
            return self
        asked = dataclasses.replace(self, map_source=COLORIZER_MAP) != ColorizerConfig(map_source=COLORIZER_MAP)
        return dataclasses.replace(self, map_source="features" if has_head and not asked else COLORIZER_MAP)
