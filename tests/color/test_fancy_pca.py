"""FancyPCA against a plain numpy computation of the same, one image at a time."""

import numpy as np
import pytest
import torch
from torch import Tensor

from leanet.color.fancy_pca import fancy_pca


def images(count: int, seed: int = 0) -> Tensor:
    """Images far from 0 and 1, each with its own correlations between the channels."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(count, 3, 16 * 16, generator=generator)
    mixing = torch.randn(count, 3, 3, generator=generator) * 0.04
    return (0.5 + mixing @ noise).clamp(0.1, 0.9).reshape(count, 3, 16, 16)


def expected_shift(image: Tensor, alpha: float) -> np.ndarray:
    values, vectors = np.linalg.eigh(np.cov(image.double().reshape(3, -1).numpy()))
    shift = np.zeros(3)
    for value, vector in zip(values, vectors.T, strict=True):
        shift += alpha * value * (vector if vector.sum() >= 0 else -vector)
    return shift


def test_adds_alpha_times_eigenvalues_along_eigenvectors() -> None:
    rgb, alpha = images(5), torch.tensor([-3.0, -0.1, 0.0, 0.1, 3.0])
    added = (fancy_pca(rgb, alpha=alpha) - rgb).flatten(2)
    for i in range(5):
        assert np.allclose(added[i].mean(1), expected_shift(rgb[i], float(alpha[i])), atol=1e-6)
    assert added.std(dim=2).max() < 1e-6  # one colour for all pixels


def test_alpha_is_drawn_from_the_normal_distribution_one_an_image() -> None:
    rgb = images(1).expand(4000, 3, 16, 16)
    moved = fancy_pca(rgb, generator=torch.Generator().manual_seed(3)) - rgb
    alpha = moved.mean((2, 3)).double().numpy() @ expected_shift(rgb[0], 1) / (expected_shift(rgb[0], 1) ** 2).sum()
    assert abs(alpha.mean()) < 4 * 0.08 / 4000**0.5
    assert 0.076 < alpha.std() < 0.084


def test_the_generator_decides() -> None:
    rgb = images(3)
    first, again, other = (fancy_pca(rgb, generator=torch.Generator().manual_seed(s)) for s in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_truncation_gives_8_bit_steps_and_leaves_8_bit_images_alone() -> None:
    rgb = (images(2) * 255).floor() / 255
    assert torch.equal((fancy_pca(rgb, alpha=torch.zeros(2), truncate=True) * 255).round(), (rgb * 255).round())
    exact = fancy_pca(rgb, alpha=torch.full((2,), 1.3)) * 255
    stepped = fancy_pca(rgb, alpha=torch.full((2,), 1.3), truncate=True) * 255
    assert torch.allclose(stepped, stepped.round(), atol=1e-4)
    assert ((exact - stepped > -2e-3) & (exact - stepped < 1.001)).all()


def test_stays_within_0_and_1_and_does_nothing_to_one_colour() -> None:
    extreme = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0)).round()
    moved = fancy_pca(extreme, alpha=torch.tensor([5.0, -5.0]))
    assert 0 <= moved.min() <= moved.max() <= 1
    plain = torch.full((1, 3, 8, 8), 0.25)
    assert torch.allclose(fancy_pca(plain, alpha=torch.ones(1)), plain)


def test_errors() -> None:
    with pytest.raises(ValueError, match="one image as"):
        fancy_pca(torch.rand(3, 4, 4))
    with pytest.raises(ValueError, match="one number per image"):
        fancy_pca(torch.rand(2, 3, 4, 4), alpha=torch.zeros(3))
    with pytest.raises(ValueError, match="expected floats"):
        fancy_pca(torch.zeros(2, 3, 4, 4, dtype=torch.uint8))
