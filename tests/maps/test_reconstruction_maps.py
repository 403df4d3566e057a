"""Maps of reconstructions: ΔE00 between an image and what is painted of it, by scikit-image."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from sessions import session_in
from skimage import color

from leanet.config import ColorizerConfig
from leanet.maps.registry import build_map_source
from leanet.maps.source import MapSource, Normals

delta_e: Callable[..., Any] = color.deltaE_ciede2000  # scikit-image has no types

CONFIG = ColorizerConfig(maps=("reconstruction",), colorizer_epochs=8, colorizer_batch_size=4)


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    """Eight green pictures, and the first of them with a red spot."""
    generator = np.random.default_rng(0)
    pictures = generator.integers(0, 40, (8, 64, 64, 3)) + np.array([60, 140, 60])
    spoilt = pictures[:1].copy()
    spoilt[0, 32:48, 16:32] = (200, 40, 40)
    return np.concatenate([pictures, spoilt]).astype(np.uint8)


@pytest.fixture(scope="module")
def source(pixels: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> MapSource:
    """Fitted to the first seven pictures."""
    torch.manual_seed(0)
    made = build_map_source("reconstruction", 64, CONFIG)
    history = made.fit(Normals(pixels, np.arange(7)), session_in(tmp_path_factory.mktemp("fit")))
    assert history[-1]["loss"] < history[0]["loss"]
    return made.eval()


def test_the_map_is_the_color_difference_to_what_is_painted(source: MapSource, pixels: np.ndarray) -> None:
    images = torch.from_numpy(pixels[7:]).permute(0, 3, 1, 2)
    with torch.inference_mode():
        found = source(images)
        painted = source.paint(images, found)
    assert painted is not None
    labs = [color.rgb2lab(rgb, channel_axis=1) for rgb in (images.double().numpy() / 255, painted.double().numpy())]
    expected = delta_e(*labs, channel_axis=1)
    np.testing.assert_allclose(found.values[:, 0], expected, atol=1e-2)


def test_the_map_is_highest_where_the_picture_was_spoilt(source: MapSource, pixels: np.ndarray) -> None:
    with torch.inference_mode():
        values = source(torch.from_numpy(pixels[8:]).permute(0, 3, 1, 2)).values[0, 0]
    spot = torch.zeros(64, 64, dtype=torch.bool)
    spot[32:48, 16:32] = True
    assert values[spot].mean() > 2 * values[~spot].mean()


def test_the_network_sees_the_images_through_a_bottleneck(source: MapSource) -> None:
    with torch.inference_mode():
        narrow = source.get_submodule("network.encoder")(torch.rand(1, 3, 64, 64))
        narrow = source.get_submodule("network.bottleneck")(narrow)
    assert narrow.numel() == 3 * 64 * 64 // 48
