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

COLOR_MAP, FEATURE_MAP, RECONSTRUCTION = "color", "features", "reconstruction"
"""The map source of the paper, and of earlier versions; and that of pretrained features."""

JOINED = "+"
"""Between the names of several map sources that make one map."""

MapCoding = Literal["true", "authors"]


@dataclass(frozen=True)
class ColorizerConfig:
    """Stage 1: the colorizer, trained on a fold's normal training images only."""

    colorizer: Annotated[str, *network_in("colorizers")] = "Unet"
    """Colorization network."""
    colorizer_epochs: int | None = None
    """Epochs of the colorizer, or of the auto-encoder of reconstructions; by default the recipe's."""
    colorizer_batch_size: int | None = None
    """Batch size of the same, in images; by default the recipe's."""
    colorizer_lr: float | None = None
    """Learning rate of the same; by default the recipe's."""
    cross_fit: int = 0
    """Train this many more colorizers to make the training images' maps (0: one colorizer makes all maps).
    Each recolors only images that it was not trained on, as for the test images.
    With --maps features at least 2, by default 5; every other source then has as many."""
    map_coding: MapCoding = "true"
    """Values of the anomaly maps: 'true' is ΔE00; 'authors' is the authors' program's (needs the extra authors)."""

    maps: Annotated[tuple[str, ...], *recent("{auto,color,features,reconstruction} [...]")] = (AUTO,)
    """Sources of the anomaly maps, one or several: 'color' is ΔE00 between an image and its recoloring.
    'features' is the distance of pretrained features from those of normal images; it trains nothing.
    'reconstruction' is ΔE00 between an image and its reconstruction by an auto-encoder.
    Of several, the map is the mean, each divided by its mean on normal images.
    'auto' is 'features' for a head, unless an option of the colorizer is given; else 'color'."""

    def __post_init__(self) -> None:
        training_limits("colorizer_", self.colorizer_epochs, self.colorizer_batch_size, self.colorizer_lr)
        self._check_maps()
        object.__setattr__(self, "maps", tuple(sorted(self.maps)))
        if FEATURE_MAP in self.maps and not self.cross_fit:
            object.__setattr__(self, "cross_fit", FEATURE_PARTS)
        if self.map_coding == "authors" and self.maps not in ((AUTO,), (COLOR_MAP,)):
            raise OptionError("map_coding", "authors", "only maps of color alone have a coding. Omit it.")
        if self.cross_fit:
            at_least("cross_fit", self.cross_fit, 2)

    def _check_maps(self) -> None:
        shown = " ".join(self.maps)
        if not self.maps:
            raise OptionError("maps", shown, "expected at least one name.")
        if twice := [name for name in self.maps if self.maps.count(name) > 1]:
            raise OptionError("maps", shown, f"{twice[0]} stands there twice. Name each source once.")
        if AUTO in self.maps and len(self.maps) > 1:
            raise OptionError("maps", shown, f"{AUTO} stands alone. Omit it, or the others.")

    @property
    def map_source(self) -> str:
        """The sources as one name, as `leanet.maps.registry.build_map_source` takes it."""
        return JOINED.join(self.maps)

    def settled(self, has_head: bool) -> ColorizerConfig:
        """The same options with their map source chosen, if it was not.

        Args:
            has_head: whether the maps are for a head on a frozen network.
        """
        if self.maps != (AUTO,):
            return self
        asked = dataclasses.replace(self, maps=(COLOR_MAP,)) != ColorizerConfig(maps=(COLOR_MAP,))
        return dataclasses.replace(self, maps=(FEATURE_MAP if has_head and not asked else COLOR_MAP,))
