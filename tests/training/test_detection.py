from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.metrics import log_loss

from leanet.color.lab import srgb_to_linear
from leanet.networks.leanet import probability
from leanet.networks.registry import build_leanet
from leanet.training.augment import in_other_light
from leanet.training.detection import MOST_WEIGHT, RECIPES, DetectionData, class_weights, loss
from leanet.training.recipe import Recipe


@pytest.mark.parametrize("weight", [1.0, 0.3, 0.0])
def test_the_loss_is_the_cross_entropies_with_the_caans_weighed(weight: float) -> None:
    torch.manual_seed(0)
    model = build_leanet("CNN", "MobileNet", [2], 64).eval()
    images, maps, labels = torch.rand(3, 3, 64, 64), torch.rand(3, 1, 64, 64), torch.tensor([0, 1, 1])
    with torch.no_grad():
        total, adn, caan = loss(model, images, maps, labels, caan_weight=weight).tolist()
        output = model(images, maps)
    expected = [
        log_loss(labels.numpy(), probability(logits).numpy().astype(np.float64))
        for logits in (output.adn_logits, output.caan_logits)
    ]
    assert [adn, caan] == pytest.approx(expected, rel=1e-4)
    assert total == pytest.approx(expected[0] + weight * expected[1], rel=1e-4)


def test_weighed_losses_are_scikit_learns() -> None:
    torch.manual_seed(0)
    model = build_leanet("CNN", "MobileNet", [2], 64).eval()
    images, maps, labels = torch.rand(4, 3, 64, 64), torch.rand(4, 1, 64, 64), torch.tensor([0, 1, 0, 0])
    counts = class_weights(labels.numpy(), labels.numpy())
    with torch.no_grad():
        _, adn, _ = loss(model, images, maps, labels, torch.from_numpy(counts).float()).tolist()
        given = probability(model(images, maps).adn_logits).numpy()
    assert adn == pytest.approx(log_loss(labels.numpy(), given, sample_weight=counts), rel=1e-4)


@pytest.mark.parametrize(
    ("normal", "anomalous", "ratio"), [(90, 10, 9), (50, 50, 1), (10, 90, 1), (1000, 2, MOST_WEIGHT), (5, 0, 1)]
)
def test_few_anomalies_count_as_much_as_all_normals(normal: int, anomalous: int, ratio: float) -> None:
    labels = np.repeat([0, 1], [normal, anomalous])
    found = class_weights(labels, labels)
    assert found.mean() == pytest.approx(1)
    if anomalous:
        assert found[-1] / found[0] == pytest.approx(ratio)


def batch_of(recipe: Recipe, pixels: np.ndarray, maps: torch.Tensor) -> tuple[torch.Tensor, ...]:
    labels = np.arange(len(pixels)) % 2
    data = DetectionData(pixels, lambda rows: maps[rows], labels, np.arange(len(pixels)), recipe)
    return data.batch(range(len(pixels)), torch.Generator().manual_seed(3))


def test_half_of_the_images_are_seen_in_other_light() -> None:
    images = 0.2 + 0.3 * torch.rand(200, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    lit = in_other_light(images, torch.Generator().manual_seed(1))
    gains = (srgb_to_linear(lit) / srgb_to_linear(images)).flatten(2)
    assert (lit < 1).all()
    torch.testing.assert_close(gains, gains[:, :, :1].expand_as(gains), rtol=1e-4, atol=0)
    changed = (lit != images).flatten(1).any(1)
    assert 70 < changed.sum() < 130
    exposure = gains[changed].mean((1, 2)).log2()
    assert exposure.min() < -0.7
    assert exposure.max() > 0.7
    assert len(np.unique(gains[changed][:, :, 0].numpy(), axis=0)) == changed.sum()
    assert torch.equal(lit, in_other_light(images, torch.Generator().manual_seed(1)))


def test_other_light_leaves_the_maps_alone() -> None:
    pixels = np.full((32, 8, 8, 3), 100, np.uint8)
    maps = torch.arange(32.0)[:, None, None, None].expand(32, 1, 8, 8)
    images, guides, *_ = batch_of(replace(RECIPES["leanet"], other_light=True), pixels, maps)
    assert torch.equal(guides, maps)
    assert len(np.unique(images.numpy(), axis=0)) > 8
    images, guides, *_ = batch_of(RECIPES["leanet"], pixels, maps)
    assert torch.equal(guides, maps)
    assert np.unique(images.numpy()) == pytest.approx([100 / 255])
