"""Anomaly maps without training: the distance of an image's features from those of normal images."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from leanet.config import ColorizerConfig
from leanet.maps.source import AnomalyMap, History, MapSource, Normals, register_map_source
from leanet.networks.contract import ADN
from leanet.networks.registry import build_leanet
from leanet.training.session import Session

ADN_NAME = "EfficientNet-Lite0"
"""The network whose features are compared."""

POINTS = (3, 4)
"""The points of its features, which are joined at the coarser stride, 16."""

BANK = 4000
"""Patches of normal images that others are compared with, drawn at random."""

BATCH = 4
"""Images at a time: larger batches leave the processor's cache and take half as long again."""

SMOOTHED = 3
"""Side of the square of patches whose features are averaged."""


@register_map_source("features")
class FeatureMap(MapSource):
    """The distance of each patch of a pretrained network's features from the nearest of normal images.

    Features are standardized by the normal images. Nothing is trained in epochs.

    Source: Roth et al. (2022), PatchCore, arXiv 2106.08265, with a random bank in place of its coreset.
    """

    unit = "feature distance"
    step = 0.005

    bank: Tensor
    mean: Tensor
    std: Tensor

    def __init__(self, image_size: int, config: ColorizerConfig) -> None:
        super().__init__(image_size, config)
        adn = build_leanet(ADN_NAME, None, (), image_size).adn
        self.stages = adn.stages[: adn.points.index(POINTS[-1]) + 1]
        channels = sum(adn.channels[adn.points.index(point)] for point in POINTS)
        self.register_buffer("bank", torch.zeros(BANK, channels))
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("std", torch.ones(channels))

    @torch.inference_mode()
    def fit(self, normals: Normals, session: Session) -> History:
        """Draw the bank from the patches of the normal images."""
        trained: ADN = build_leanet(ADN_NAME, None, (), self.image_size, weights="imagenet").adn
        self.stages.load_state_dict(trained.stages[: len(self.stages)].state_dict())
        self.eval().to(session.compute.device)
        found = []
        for images in normals.batches(BATCH):
            found.append(self.patches(images.to(session.compute.device)).flatten(0, 1))
            session.on_images(len(images), 0.0)
        patches = torch.cat(found)
        self.mean, self.std = patches.mean(0), patches.std(0) + 1e-5
        chosen = torch.randint(len(patches), (BANK,), generator=torch.Generator().manual_seed(session.seed))
        self.bank = ((patches[chosen.to(patches.device)] - self.mean) / self.std).contiguous()
        return [{"epoch": 1.0, "images": float(len(normals))}]

    def forward(self, images: Tensor) -> AnomalyMap:
        """Maps of images (N, 3, H, W): Euclidean distances of standardized features, at the images' size."""
        rgb = images / 255 if images.dtype == torch.uint8 else images
        distances = torch.cat([self._distances(some) for some in torch.split(rgb, BATCH)])
        side = self.image_size // 2 ** POINTS[-1]
        coarse = distances.reshape(-1, 1, side, side)
        values = F.interpolate(coarse, size=(self.image_size, self.image_size), mode="bilinear")
        return AnomalyMap(values, self.unit)

    def _distances(self, rgb: Tensor) -> Tensor:
        """Distance of each patch from the nearest in the bank, float32 (N, patches)."""
        patches = ((self.patches(rgb) - self.mean) / self.std).float()
        return torch.stack([torch.cdist(of_image, self.bank).amin(1) for of_image in patches])

    def patches(self, rgb: Tensor) -> Tensor:
        """Features of the patches of images (N, 3, H, W) in [0, 1]: (N, patches, channels)."""
        x, levels = rgb, []
        first = len(self.stages) - len(POINTS)
        for i, stage in enumerate(self.stages):
            x = stage(x)
            if i >= first:
                levels.append(F.avg_pool2d(x, SMOOTHED, 1, SMOOTHED // 2, count_include_pad=False))
        side = self.image_size // 2 ** POINTS[-1]
        joined = torch.cat([F.adaptive_avg_pool2d(level, side) for level in levels], 1)
        return joined.flatten(2).transpose(1, 2)
