"""The paper's anomaly map: ΔE00 between an image and its recoloring by a colorizer of normal images."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import torch
from torch import Tensor, nn

from leanet.color.anomaly_map import anomaly_map, authors_anomaly_map
from leanet.color.lab import decode_chrominance, decode_lab, encode_lab, lab_to_rgb, rgb_to_lab
from leanet.color.opencv_lab import opencv_lab_8_bit
from leanet.config import ColorizerConfig, MapCoding
from leanet.maps.registry import register_map_source
from leanet.maps.source import AnomalyMap, Normals
from leanet.maps.trained import TrainedMap
from leanet.networks.registry import build_colorizer
from leanet.training.colorization import ColorizationData
from leanet.training.compute import fused
from leanet.training.recipe import Recipe

CHROMA = "chroma"
"""The extra with the recolored chrominance, (N, 2, H, W), coded to [0, 1]."""


@register_map_source("color")
class ColorMap(TrainedMap):
    """ΔE00 between an image and its recolored version.

    With `map_coding` 'authors', it computes the map as the authors' program does, which needs OpenCV.

    Source: Katafuchi & Tokunaga (2021), arXiv 2109.05493.
    """

    unit = "ΔE00"
    has_chroma = True

    @staticmethod
    def build(image_size: int, config: ColorizerConfig) -> nn.Module:
        """The colorizer with new weights."""
        return build_colorizer(config.colorizer, image_size)

    @staticmethod
    def data(normals: Normals, recipe: Recipe, compiled: bool) -> ColorizationData:
        """Pairs of lightness and chrominance."""
        return ColorizationData(normals.pixels, normals.rows, recipe, compiled)

    def forward(self, images: Tensor) -> AnomalyMap:
        """Anomaly maps (N, 1, H, W) in ΔE00, with the recolored chrominance as the extra 'chroma'."""
        values, chroma = recolour(self.network, images, self.config.map_coding, compiled=self.compiled)
        return AnomalyMap(values, self.unit, {CHROMA: chroma})

    def paint(self, images: Tensor, found: AnomalyMap) -> Tensor:
        """The recolored images: their own lightness with the colorizer's chrominance."""
        return painted(images, found.extras[CHROMA])


def painted(images: Tensor, chroma: Tensor) -> Tensor:
    """Images with their chrominance replaced, float (N, 3, H, W), sRGB in [0, 1].

    Args:
        images: (N, 3, H, W), sRGB: uint8, or float in [0, 1].
        chroma: (N, 2, H, W), coded to [0, 1].
    """
    lightness = encode_lab(lab_of(images))[:, :1]
    return lab_to_rgb(decode_lab(torch.cat([lightness, chroma], 1)))


def recolour(
    colorizer: Callable[[Tensor], Tensor],
    images: Tensor,
    map_coding: MapCoding = "true",
    *,
    compiled: bool = False,
) -> tuple[Tensor, Tensor]:
    """Recolor images and compute their anomaly maps.

    Args:
        colorizer: lightness (N, 1, H, W) -> chrominance (N, 2, H, W), both coded to [0, 1].
        images: (N, 3, H, W), sRGB: uint8, or float32 in [0, 1].
        map_coding: 'true' compares in exact CIELAB; 'authors' gives the colorizer OpenCV's 8-bit lightness, as the
            published program does, and compares as it does.
        compiled: whether to compile the color functions, which pays off for thousands of images.
    Returns:
        Anomaly maps (N, 1, H, W) in ΔE00, and the predicted chrominance (N, 2, H, W) coded to [0, 1].
    Raises:
        ImportError: OpenCV is missing, which the coding 'authors' needs.
    """
    if map_coding == "authors":
        coded = opencv_lab_8_bit(scaled(images))
        chroma = colorizer(coded[:, :1])
        return authors_anomaly_map(coded, torch.cat([coded[:, :1], chroma], 1)), chroma
    to_lab, compare = (fused(lab_of), fused(_map_of_chroma)) if compiled else (lab_of, _map_of_chroma)
    with in_float32(images):
        lab = to_lab(images)
    chroma = colorizer((lab[:, :1] / 100).contiguous(memory_format=torch.channels_last))
    with in_float32(images):
        return compare(lab, chroma), chroma


def in_float32(images: Tensor) -> contextlib.AbstractContextManager[object]:
    """Compare colors in float32, whatever the colorizer's precision."""
    device = images.device.type
    if not torch.is_autocast_enabled(device):  # an exported graph cannot hold an autocast context
        return contextlib.nullcontext()
    return torch.autocast(device, enabled=False)


def scaled(images: Tensor) -> Tensor:
    """Images (N, 3, H, W), uint8 or float in [0, 1], as float in [0, 1]."""
    return images / 255 if images.dtype == torch.uint8 else images


def lab_of(images: Tensor) -> Tensor:
    """Lab (N, 3, H, W) of such images."""
    return rgb_to_lab(scaled(images))


def _map_of_chroma(lab: Tensor, chroma: Tensor) -> Tensor:
    """The anomaly map for an image (Lab) and predicted chrominance coded to [0, 1]."""
    # The original lightness: coding and decoding it makes the compiled function three times as slow.
    return anomaly_map(lab, torch.cat([lab[:, :1], decode_chrominance(chroma)], 1))
