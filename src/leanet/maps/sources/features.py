"""Anomaly maps without training: the distance of an image's features from those of normal images."""

from __future__ import annotations

import functools

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from leanet.config import ColorizerConfig, RecipeName
from leanet.maps.registry import register_map_source
from leanet.maps.source import AnomalyMap, History, MapSource, Normals
from leanet.maps.sources.color import in_float32, scaled
from leanet.networks.contract import ADN
from leanet.networks.registry import build_leanet
from leanet.training.session import Session

ADN_NAME = "EfficientNet-Lite0"
"""The network whose features are compared."""

POINTS = (3, 4)
"""The points of its features, which are joined at the coarser stride, 16."""

BANK = 4000
"""Patches of normal images that others are compared with, drawn at random."""

BATCH = 1
"""Images at a time: larger batches leave the processor's cache."""

READ = 32
"""Descriptions to read at a time."""

SMOOTHED = 3
"""Side of the square of patches whose features are averaged."""

COMPARED = 100
"""Normal images, at most, whose mean distance at each place is taken."""


@register_map_source("features")
class FeatureMap(MapSource):
    """The distance of each patch of a pretrained network's features from the nearest of normal images.

    Edges and corners differ more than other places, in normal images too. Each distance is therefore divided by
    what is usual there: halfway between the normal images' mean distance at this place and at all places. A
    description is the features of an image's patches, (patches, channels) in float16, standardized by the normal
    images. Nothing is trained in epochs.

    Source: Roth et al. (2022), PatchCore, arXiv 2106.08265, with a random bank in place of its coreset.
    """

    unit = "times the normal distance"
    step = 0.001
    version = "relative"
    described_by = f"{ADN_NAME}, ImageNet, points {POINTS}, averaged over {SMOOTHED}"

    bank: Tensor
    mean: Tensor
    std: Tensor
    usual: Tensor

    def __init__(self, image_size: int, config: ColorizerConfig) -> None:
        super().__init__(image_size, config)
        adn = build_leanet(ADN_NAME, None, (), image_size).adn
        self.stages = adn.stages[: adn.points.index(POINTS[-1]) + 1]
        channels = sum(adn.channels[adn.points.index(point)] for point in POINTS)
        self.register_buffer("bank", torch.zeros(BANK, channels))
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("std", torch.ones(channels))
        self.register_buffer("usual", torch.ones((image_size // 2 ** POINTS[-1]) ** 2))

    def load_pretrained(self) -> None:
        """Load ImageNet weights."""
        self.stages.load_state_dict(_pretrained(len(self.stages)))

    def fit(self, normals: Normals, session: Session) -> History:
        """Draw the bank from the patches of the normal images."""
        if normals.descriptions is None:
            raise ValueError("no descriptions: pass those that `describe` returns for all images.")
        self.load_pretrained()
        self.mean, self.std = _moments(normals.descriptions, normals.rows)
        patches = normals.descriptions.shape[1]
        generator = torch.Generator().manual_seed(session.seed)
        chosen = torch.randint(len(normals) * patches, (BANK,), generator=generator).numpy()
        image, patch = np.divmod(chosen, patches)
        drawn = torch.from_numpy(normals.descriptions[normals.rows[image], patch]).float()
        self.bank = (drawn - self.mean) / self.std
        self.usual = self._usual(normals, torch.from_numpy(image))
        return [{"epoch": 1.0, "images": float(len(normals))}]

    @classmethod
    def image_passes(cls, config: ColorizerConfig, recipe: RecipeName, images: int) -> int:  # noqa: ARG003
        """None: `fit` reads descriptions."""
        return 0

    def forward(self, images: Tensor) -> AnomalyMap:
        """Maps of images (N, 3, H, W): Euclidean distances of standardized features, relative to normal images'."""
        return self.compare(self.describe(images))

    def describe(self, images: Tensor) -> Tensor:
        """Features of the patches of images (N, 3, H, W): float16 (N, patches, channels)."""
        with in_float32(images):  # bfloat16 would change the maps of normal images by a third
            rgb = scaled(images)
            if len(rgb) == BATCH:  # in a graph, a split into one would keep this pass from being shared
                return self._patches(rgb).half()
            return torch.cat([self._patches(some) for some in torch.split(rgb, BATCH)]).half()

    def compare(self, descriptions: Tensor) -> AnomalyMap:
        """Maps of images by their patches' features (N, patches, channels)."""
        distances = torch.stack([self._distances(of_image, self.bank) for of_image in descriptions]) / self.usual
        side = self.image_size // 2 ** POINTS[-1]
        coarse = distances.reshape(-1, 1, side, side)
        values = F.interpolate(coarse, size=(self.image_size, self.image_size), mode="bilinear")
        return AnomalyMap(values, self.unit)

    def _usual(self, normals: Normals, drawn_from: Tensor) -> Tensor:
        """The usual distance of normal images, each from the others' patches, at each of its patches (patches,).

        Args:
            drawn_from: the number, among the normal images, of the image of each patch in the bank, (BANK,).
        """
        assert normals.descriptions is not None
        total, count = torch.zeros_like(self.usual), 0
        for i in range(0, len(normals), -(-len(normals) // COMPARED)):
            if len(others := self.bank[drawn_from != i]):
                own = normals.descriptions[normals.rows[i : i + 1]]  # a copy: the whole is read-only
                total += self._distances(torch.from_numpy(own[0]), others)
                count += 1
        if not total.any():  # one normal image, or all are equal
            return torch.ones_like(self.usual)
        mean = total / count
        return (mean + mean.mean()) / 2  # where normal images are all but equal, a small difference tells little

    def _distances(self, features: Tensor, bank: Tensor) -> Tensor:
        """Distance of each of an image's patches (patches, channels) from the nearest in a bank, float32."""
        with in_float32(features):
            patches = (features.float() - self.mean) / self.std
            # Squared distances, less each patch's own square, which does not change which one is nearest.
            squares = torch.addmm(bank.square().sum(1), patches, bank.T, alpha=-2)
            nearest = bank[squares.min(1).indices]
            return (patches - nearest).square().sum(1).sqrt()

    def _patches(self, rgb: Tensor) -> Tensor:
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


def _moments(descriptions: NDArray[np.float16], rows: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each channel over all patches of these rows, float32 (channels,).

    Args:
        descriptions: (M, patches, channels), of which some rows are read at a time.
    """
    count, total, squares = 0, torch.zeros(()), torch.zeros(())
    for start in range(0, len(rows), READ):
        patches = torch.from_numpy(descriptions[rows[start : start + READ]]).double().flatten(0, 1)
        count, total, squares = count + len(patches), total + patches.sum(0), squares + patches.square().sum(0)
    mean = total / count
    variance = (squares - count * mean.square()).clamp(min=0) / (count - 1)
    return mean.float(), variance.sqrt().float() + 1e-5


@functools.cache
def _pretrained(stages: int) -> dict[str, Tensor]:
    """ImageNet weights of the network's first stages, which do not depend on the image size; read once."""
    with torch.random.fork_rng(devices=()):
        trained: ADN = build_leanet(ADN_NAME, None, (), 64, weights="imagenet").adn
    return trained.stages[:stages].state_dict()
