"""Anomaly maps in their two codings and two scales."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from skimage import color
from torch import Tensor

from leanet.color.anomaly_map import anomaly_map, authors_anomaly_map, scale_map
from leanet.color.lab import encode_lab, rgb_to_lab
from leanet.color.opencv_lab import opencv_lab, opencv_lab_8_bit

REFERENCE = Path(__file__).parents[2].parent / "shared" / "reference" / "reference_map.npz"


def to_tensor(images: np.ndarray) -> Tensor:
    """(N, H, W, 3) to float32 (N, 3, H, W)."""
    return torch.from_numpy(images.astype(np.float32)).movedim(-1, 1)


def random_images(seed: int) -> np.ndarray:
    """Two 8-bit images, not square: the corners of the cube of colours, greys, and noise."""
    images = np.random.default_rng(seed).integers(0, 256, (2, 24, 40, 3), dtype=np.uint8)
    images[:, 0] = images[:, 0] // 128 * 255
    images[:, 1] = images[:, 1, :, :1]
    return images


def test_the_map_is_zero_where_the_colour_was_guessed() -> None:
    lab = torch.full((2, 3, 4, 4), 40.0)
    recoloured = lab.clone()
    recoloured[1, 1, 2, 3] = -10
    result = anomaly_map(lab, recoloured)
    assert result.shape == (2, 1, 4, 4)
    assert result.nonzero().tolist() == [[1, 0, 2, 3]]


def test_authors_map_is_the_published_one() -> None:
    if not REFERENCE.exists():
        pytest.skip(f"{REFERENCE} is not here")
    with np.load(REFERENCE) as arrays:
        rgb, lab8, recoloured, published = (arrays[k] for k in ("rgb", "lab8", "recoloured", "reference_map"))
    coded = opencv_lab_8_bit(to_tensor(rgb) / 255)
    assert torch.equal(coded, to_tensor(lab8) / 255)
    result = authors_anomaly_map(coded, to_tensor(recoloured))
    assert result.shape == (3, 1, 64, 64)
    expected = torch.from_numpy(published)[:, None]
    assert (result - expected).abs().max() < 1e-3
    largest = expected.amax(dim=(1, 2, 3), keepdim=True)
    assert (scale_map(result, "max") - expected / largest).abs().max() < 1e-3


def test_authors_map_is_scikit_images_difference_of_opencvs_lab_of_lab() -> None:
    delta_e: Callable[..., Any] = color.deltaE_ciede2000  # scikit-image has no types
    images, other = random_images(0), random_images(1)
    lab8 = [cv2.cvtColor(image, cv2.COLOR_RGB2LAB) for image in images]
    recoloured = other.astype(np.float32) / np.float32(255) + np.float32(1e-3)
    expected = [
        delta_e(
            cv2.cvtColor(own.astype(np.float32) / np.float32(255), cv2.COLOR_RGB2LAB).astype(np.float64),
            cv2.cvtColor(guess, cv2.COLOR_RGB2LAB).astype(np.float64),
        )
        for own, guess in zip(lab8, recoloured, strict=True)
    ]
    result = authors_anomaly_map(opencv_lab_8_bit(to_tensor(images) / 255), to_tensor(recoloured))
    assert np.abs(result[:, 0].numpy() - np.stack(expected)).max() < 1e-3
    assert result.max() > 50


def test_opencvs_lab_is_near_the_formula() -> None:
    rgb = to_tensor(random_images(2)) / 255
    assert (opencv_lab_8_bit(rgb) - encode_lab(rgb_to_lab(rgb))).abs().max() < 2.6 / 255
    assert (opencv_lab(rgb) - rgb_to_lab(rgb)).abs().mean() < 1


def test_authors_map_is_zero_where_the_colour_was_guessed() -> None:
    coded = opencv_lab_8_bit(to_tensor(random_images(3)) / 255)
    assert (authors_anomaly_map(coded, coded) == 0).all()


def test_missing_opencv(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)
    for function in (opencv_lab_8_bit, opencv_lab):
        with pytest.raises(ImportError, match="OpenCV is missing"):
            function(torch.rand(1, 3, 4, 4))


def test_scale_max_uses_each_maps_own_maximum_and_leaves_a_perfect_map_zero() -> None:
    maps = torch.stack((torch.zeros(1, 2, 2), torch.tensor([[[1.0, 2.0], [3.0, 4.0]]])))
    scaled = scale_map(maps, "max")
    assert (scaled[0] == 0).all()
    assert torch.equal(scaled[1], maps[1] / 4)


def test_scale_normals_divides_all_maps_by_one_number() -> None:
    maps = torch.rand(3, 1, 4, 4) * 20
    assert torch.equal(scale_map(maps, "normals", 5.0), maps / 5)


@pytest.mark.parametrize("unit", [None, 0.0, -1.0, float("nan")])
def test_scale_normals_needs_its_unit(unit: float | None) -> None:
    with pytest.raises(ValueError, match="needs a ΔE00 above 0"):
        scale_map(torch.rand(1, 1, 2, 2), "normals", unit)


def test_errors() -> None:
    unknown: Any = "biggest"
    with pytest.raises(ValueError, match="one image as"):
        anomaly_map(torch.rand(3, 4, 4), torch.rand(3, 4, 4))
    with pytest.raises(ValueError, match="one image as"):
        authors_anomaly_map(torch.rand(3, 4, 4), torch.rand(3, 4, 4))
    with pytest.raises(ValueError, match="must be equal"):
        authors_anomaly_map(torch.rand(2, 3, 4, 4), torch.rand(1, 3, 4, 4))
    with pytest.raises(ValueError, match="expected floats"):
        opencv_lab_8_bit(torch.zeros(1, 3, 4, 4, dtype=torch.uint8))
    with pytest.raises(ValueError, match=r"\(N, 1, H, W\)"):
        scale_map(torch.rand(1, 3, 4, 4), "max")
    with pytest.raises(ValueError, match="choose"):
        scale_map(torch.rand(1, 1, 4, 4), unknown)
