"""A map source, registered from outside the package: the distance of each pixel from the mean normal image."""

from __future__ import annotations

import torch
from torch import Tensor

from leanet import AnomalyMap, ColorizerConfig, MapSource, register_map_source
from leanet.maps.source import History, Normals
from leanet.training.session import Session


@register_map_source("mean")
class MeanMap(MapSource):
    """Euclidean distance from the mean image of the normals, in sRGB."""

    unit = "distance"
    step = 1e-4

    def __init__(self, image_size: int, config: ColorizerConfig) -> None:
        super().__init__(image_size, config)
        self.register_buffer("mean", torch.zeros(3, image_size, image_size))

    def fit(self, normals: Normals, session: Session) -> History:
        """Take the mean of the normal images."""
        del session  # nothing is trained in steps
        means = [images.sum(0) / len(normals) for images in normals.batches()]
        self.get_buffer("mean").copy_(torch.stack(means).sum(0))
        return ()

    def forward(self, images: Tensor) -> AnomalyMap:
        """The distance at each pixel, from 0 to the square root of 3."""
        scaled = images / 255 if images.dtype == torch.uint8 else images
        distance = (scaled - self.get_buffer("mean")).square().sum(1, keepdim=True).sqrt()
        return AnomalyMap(distance, self.unit)
