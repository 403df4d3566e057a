"""Maps from features: distances to the nearest patch of normal images, by scikit-learn's neighbors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from sessions import CPU, session_in
from sklearn.neighbors import NearestNeighbors
from torch import Tensor

from leanet.config import ColorizerConfig
from leanet.maps.source import Normals
from leanet.maps.sources.features import FeatureMap
from leanet.training.prediction import predictor

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
    made = FeatureMap(SIDE, ColorizerConfig(maps=("features",)))
    made.load_pretrained()
    with torch.inference_mode():
        descriptions = made.eval().describe(as_tensor(pixels)).numpy()
    made.fit(Normals(pixels, np.arange(4), descriptions), session_in(tmp_path_factory.mktemp("none")))
    return made


def as_tensor(pixels: np.ndarray) -> Tensor:
    return torch.from_numpy(pixels).permute(0, 3, 1, 2)


def nearest(source: FeatureMap, bank: Tensor, pictures: np.ndarray) -> Tensor:
    """Distances (N, patches) of pictures from the nearest patches of a bank."""
    with torch.inference_mode():
        patches = (source.describe(as_tensor(pictures)).float() - source.mean) / source.std
    found, _ = NearestNeighbors(n_neighbors=1).fit(bank.numpy()).kneighbors(patches.flatten(0, 1).numpy())
    return torch.from_numpy(found).float().reshape(len(pictures), -1)


def test_values_are_distances_to_the_nearest_patch_over_those_of_normal_images(
    source: FeatureMap, pixels: np.ndarray
) -> None:
    with torch.inference_mode():
        values = source(as_tensor(pixels[4:5])).values
    side = SIDE // 16
    coarse = (nearest(source, source.bank, pixels[4:5]) / source.usual).reshape(1, 1, side, side)
    torch.testing.assert_close(values, torch.nn.functional.interpolate(coarse, scale_factor=16, mode="bilinear"))


def test_the_usual_distance_is_halfway_between_the_mean_at_a_place_and_at_all_places(
    source: FeatureMap, pixels: np.ndarray
) -> None:
    with torch.inference_mode():  # 4,000 draws from 64 patches have drawn each, so the bank is all of them
        patches = (source.describe(as_tensor(pixels[:4])).float() - source.mean) / source.std
    others = [patches[[i for i in range(4) if i != own]].flatten(0, 1) for own in range(4)]
    mean = torch.cat([nearest(source, others[i], pixels[i : i + 1]) for i in range(4)]).mean(0)
    torch.testing.assert_close(source.usual, (mean + mean.mean()) / 2, rtol=1e-4, atol=1e-4)


def test_with_one_normal_image_distances_are_absolute(pixels: np.ndarray, source: FeatureMap) -> None:
    alone = FeatureMap(SIDE, source.config)
    with torch.inference_mode():
        descriptions = source.describe(as_tensor(pixels)).numpy()
    alone.fit(Normals(pixels, np.arange(1), descriptions), session_in(Path("none")))
    assert (alone.usual == 1).all()


def test_a_picture_of_the_bank_has_a_map_of_zero(source: FeatureMap, pixels: np.ndarray) -> None:
    with torch.inference_mode():  # 4,000 draws from 64 patches have drawn each
        assert float(source(as_tensor(pixels[:1])).values.max()) < 1e-4


def test_features_are_standardized_by_all_patches_of_the_normal_images(
    source: FeatureMap, pixels: np.ndarray
) -> None:
    with torch.inference_mode():
        patches = source.describe(as_tensor(pixels[:4])).double().flatten(0, 1)
    torch.testing.assert_close(source.mean.double(), patches.mean(0), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(source.std.double(), patches.std(0) + 1e-5, rtol=1e-5, atol=1e-6)


def test_maps_of_stored_descriptions_are_those_of_the_images(source: FeatureMap, pixels: np.ndarray) -> None:
    stored = predictor(source, CPU, "describe")(as_tensor(pixels)).numpy()
    assert stored.dtype == np.float16
    found = predictor(source, CPU, "compare")(torch.from_numpy(stored)).values
    with torch.inference_mode():
        expected = source(as_tensor(pixels)).values
    torch.testing.assert_close(found, expected, rtol=0, atol=source.step)


def test_fitting_without_descriptions_says_what_to_pass(source: FeatureMap, pixels: np.ndarray) -> None:
    with pytest.raises(ValueError, match="pass those that `describe` returns"):
        source.fit(Normals(pixels, np.arange(4)), session_in(Path("none")))


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
