"""Anomaly maps of an auto-encoder: ΔE00 between an image and its reconstruction."""

from __future__ import annotations

from torch import Tensor, nn

from leanet.color.anomaly_map import anomaly_map
from leanet.config import ColorizerConfig
from leanet.maps.registry import register_map_source
from leanet.maps.source import AnomalyMap, Normals
from leanet.maps.sources.color import in_float32, lab_of, scaled
from leanet.maps.trained import TrainedMap
from leanet.networks.autoencoder import Autoencoder
from leanet.training.colorization import ReconstructionData
from leanet.training.compute import fused
from leanet.training.recipe import Recipe

PAINTED = "painted"
"""The extra with the reconstruction, float (N, 3, H, W), sRGB in [0, 1]."""


@register_map_source("reconstruction")
class ReconstructionMap(TrainedMap):
    """ΔE00 between an image and its reconstruction by an auto-encoder of normal images.

    The bottleneck has too few numbers for details that normal images lack. Unlike a colorizer, it does not see the
    image's own lightness, and the map shows differences of lightness too.

    Source: Bergmann et al. (2019), arXiv 1807.02011, with ΔE00 in place of their squared error and SSIM.
    """

    unit = "ΔE00"

    @staticmethod
    def build(image_size: int, config: ColorizerConfig) -> nn.Module:
        """The auto-encoder with new weights."""
        del image_size, config  # it is convolutional and has no options
        return Autoencoder()

    @staticmethod
    def data(normals: Normals, recipe: Recipe, compiled: bool) -> ReconstructionData:
        """Pairs of an augmented image and itself."""
        return ReconstructionData(normals.pixels, normals.rows, recipe, compiled)

    def forward(self, images: Tensor) -> AnomalyMap:
        """Anomaly maps (N, 1, H, W) in ΔE00, with the reconstruction as the extra 'painted'."""
        painted = self.network(scaled(images))
        lab, compare = (fused(lab_of), fused(anomaly_map)) if self.compiled else (lab_of, anomaly_map)
        with in_float32(images):
            return AnomalyMap(compare(lab(images), lab(painted)), self.unit, {PAINTED: painted})

    def paint(self, images: Tensor, found: AnomalyMap) -> Tensor:  # noqa: ARG002
        """The reconstruction."""
        return found.extras[PAINTED]
