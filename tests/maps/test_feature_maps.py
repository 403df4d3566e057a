"""Maps from features: distances to the nearest patch of normal images, by scikit-learn's neighbors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.neighbors import NearestNeighbors
from torch import Tensor

from leanet.config import ColorizerConfig
from leanet.maps.source import Normals
from leanet.maps.sources.features import FeatureMap
from leanet.training.checkpoint import Checkpoint
from leanet.training.compute import Compute
from leanet.training.session import Engines, Session

SIDE = 64


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    """Five smooth pictures, and the first of them again with a bright spot."""
    generator = np.random.default_rng(0)
    coarse = torch.from_numpy(generator.integers(40, 200, (5, 3, 8, 8))).float()
    smooth = torch.nn.functional.interpolate(coarse, size=(SIDE, SIDE), mode="bicubic").clamp(0, 255)
    pictures = smooth.byte().permute(0, 2, 3, 1).numpy()
    spoilt = pictures[:1].copy()
    spoilt[0, 40:56, 8:24] = (250, 20, 20)
    return np.concatenate([pictures, spoilt])


@pytest.fixture(scope="module")
def source(pixels: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> FeatureMap:
    """Fitted to the first four pictures."""
    made = FeatureMap(SIDE, ColorizerConfig(map_source="features"))
    compute = Compute(torch.device("cpu"), bfloat16=False, compiled=False)
    checkpoint = Checkpoint(Path(tmp_path_factory.mktemp("none")) / "none", "", 60)
    seen: list[int] = []
    session = Session("leanet", compute, 0, checkpoint, lambda images, _: seen.append(images), Engines())
    made.fit(Normals(pixels, np.arange(4)), session)
    assert sum(seen) == 4
    return made.eval()


def as_tensor(pixels: np.ndarray) -> Tensor:
    return torch.from_numpy(pixels).permute(0, 3, 1, 2)


def test_values_are_distances_to_the_nearest_patch(source: FeatureMap, pixels: np.ndarray) -> None:
    with torch.inference_mode():
        values = source(as_tensor(pixels[4:5])).values
        patches = (source.patches(as_tensor(pixels[4:5]).float() / 255) - source.mean) / source.std
    expected, _ = NearestNeighbors(n_neighbors=1).fit(source.bank.numpy()).kneighbors(patches[0].numpy())
    side = SIDE // 16
    coarse = torch.from_numpy(expected).float().reshape(1, 1, side, side)
    torch.testing.assert_close(values, torch.nn.functional.interpolate(coarse, scale_factor=16, mode="bilinear"))


def test_a_picture_of_the_bank_has_a_map_of_zero(source: FeatureMap, pixels: np.ndarray) -> None:
    with torch.inference_mode():  # 4,000 draws from 64 patches have drawn each
        assert float(source(as_tensor(pixels[:1])).values.max()) < 0.01


def test_the_map_is_highest_where_the_picture_was_spoilt(source: FeatureMap, pixels: np.ndarray) -> None:
    with torch.inference_mode():
        values = source(as_tensor(pixels[5:6])).values[0, 0]
    row, column = divmod(int(values.argmax()), SIDE)
    assert 32 <= row < 64
    assert column < 32


def test_uint8_and_float_images_have_the_same_map(source: FeatureMap, pixels: np.ndarray) -> None:
    images = as_tensor(pixels[3:])
    with torch.inference_mode():
        torch.testing.assert_close(source(images).values, source(images.float() / 255).values)
