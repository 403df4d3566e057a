"""Recipes and optimisers against formulas written again here."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from leanet.color.fancy_pca import fancy_pca
from leanet.data.decode import decode, resize
from leanet.networks.leanet import probability
from leanet.networks.registry import ADNS, CAANS, COLORIZERS
from leanet.training import colorization, detection
from leanet.training.loop import epoch_batches
from leanet.training.recipe import KerasAdam, Recipe


def test_keras_adam_takes_keras_steps() -> None:
    rng = np.random.default_rng(0)
    start = rng.normal(size=(3, 4))
    gradients = rng.normal(size=(10, 3, 4)) * 10.0 ** rng.integers(-6, 2, size=(10, 3, 4))
    weights, m, v = start.copy(), np.zeros_like(start), np.zeros_like(start)
    parameter = nn.Parameter(torch.tensor(start))
    optimizer = KerasAdam([parameter], lr=1e-3)
    for t, g in enumerate(gradients, start=1):
        m = 0.9 * m + 0.1 * g
        v = 0.999 * v + 0.001 * g**2
        weights -= 1e-3 * np.sqrt(1 - 0.999**t) / (1 - 0.9**t) * m / (np.sqrt(v) + 1e-7)
        parameter.grad = torch.tensor(g)
        optimizer.step()
        np.testing.assert_allclose(parameter.detach().numpy(), weights, rtol=1e-12, atol=1e-15)


def test_cosine_schedule_warms_up_and_ends_at_zero() -> None:
    recipe = Recipe(epochs=10, batch_size=4, lr=0.1)
    rates = [recipe.lr_at(step, 200) for step in range(201)]
    assert rates[0] == pytest.approx(0.01)
    assert max(rates) == pytest.approx(0.1)
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[200] == pytest.approx(0.0, abs=1e-12)


def test_constant_schedule_is_constant() -> None:
    recipe = Recipe(epochs=10, batch_size=4, lr=0.1, schedule="constant")
    assert {recipe.lr_at(step, 200) for step in range(200)} == {0.1}


@pytest.mark.parametrize(("n", "keep", "sizes"), [
    (12, True, [4, 4, 4]), (14, True, [4, 4, 4, 2]), (13, True, [4, 4, 5]),
    (14, False, [4, 4, 4]), (3, False, [3]), (1, True, [1]),
])  # fmt: skip
def test_epoch_batches(n: int, keep: bool, sizes: list[int]) -> None:
    recipe = Recipe(epochs=1, batch_size=4, lr=0.1, keep_partial_batch=keep)
    batches = epoch_batches(n, recipe, seed=5)
    assert [len(b) for b in batches] == sizes
    images = np.concatenate(batches)
    assert len(set(images)) == len(images)
    assert set(images) <= set(range(n))


def test_epochs_differ_and_seeds_repeat() -> None:
    recipe = Recipe(epochs=1, batch_size=4, lr=0.1)
    first, again, other = (np.concatenate(epoch_batches(64, recipe, seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_published_numbers_of_the_authors_recipes() -> None:
    stage1, stage2 = colorization.RECIPES["authors"], detection.RECIPES["authors"]
    assert (stage1.epochs, stage1.batch_size, stage1.lr, stage1.patience) == (500, 16, 1e-3, 20)
    assert (stage2.epochs, stage2.batch_size, stage2.lr, stage2.patience) == (100, 32, 1e-4, None)
    assert {stage1.optimizer, stage2.optimizer} == {"keras_adam"}


def activated(logits: NDArray[np.float64], activation: str) -> NDArray[np.float64]:
    p = 1 / (1 + np.exp(-logits))
    return np.exp(logits) / np.exp(logits).sum(1, keepdims=True) if activation == "softmax" else p


ACTIVATIONS = ["softmax", "sigmoid", "clipped sigmoid"]


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_pair_cross_entropy_and_its_gradient_against_formulas(activation: str) -> None:
    rng = np.random.default_rng(1)
    labels, logits = rng.integers(0, 2, 8), rng.normal(scale=4, size=(8, 2))
    p, target = activated(logits, activation), np.eye(2)[labels]
    expected = -(target * np.log(p) + (1 - target) * np.log(1 - p)).mean()
    parameter = torch.tensor(logits, requires_grad=True)
    found = detection.pair_cross_entropy(parameter, torch.tensor(labels), activation)
    assert found.item() == pytest.approx(expected, rel=1e-5)
    torch.autograd.backward(found)
    # d/dp of the cross-entropy, and on to the logits: sigmoids by themselves, a softmax couples the two units
    slope = (p - target) / (p * (1 - p)) / p.size
    gradient = slope * p * (1 - p)
    if activation == "softmax":
        gradient = p * (slope - (slope * p).sum(1, keepdims=True))
    assert parameter.grad is not None
    np.testing.assert_allclose(parameter.grad.numpy(), gradient, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_saturated_pairs_are_clipped_unless_taken_from_their_logits(activation: str) -> None:
    logits = torch.tensor([[40.0, -40.0]], requires_grad=True)
    found = detection.pair_cross_entropy(logits, torch.tensor([1]), activation)
    torch.autograd.backward(found)
    assert logits.grad is not None
    if activation == "sigmoid":
        assert found.item() == pytest.approx(40)
        assert logits.grad.abs().min() > 0.4
    else:
        clipped = -np.log(np.float32(1e-7)), -np.log(1 - np.float32(1 - 1e-7))
        assert found.item() == pytest.approx(np.mean(clipped), rel=1e-4)
        assert logits.grad.abs().max() == 0


def expected_std(network: str, layer: nn.Module, place: str) -> float:
    """Standard deviation of a layer's initial weights by Keras' definitions, from the kernel as Keras sees it."""
    assert isinstance(layer, nn.Linear | nn.Conv2d | nn.ConvTranspose2d)
    first, second = layer.weight.shape[:2]
    area = layer.weight[0, 0].numel()
    # Keras reads fan_in from the last axis but one: of a transposed kernel (h, w, out, in) that is out.
    fan_out, fan_in = first * area, second * area
    if isinstance(layer, nn.Conv2d) and layer.groups > 1:
        fan_in, fan_out = layer.groups * area, area  # (h, w, channels, 1)
    glorot = math.sqrt(2 / (fan_in + fan_out))
    he = math.sqrt(2 / fan_in)
    if isinstance(layer, nn.Linear) or network in ("MobileNet", "AE", "SegNet"):
        return glorot
    if network == "Unet":
        return he if isinstance(layer, nn.ConvTranspose2d) and place != "last" else glorot
    return he


@pytest.mark.parametrize("name", ["VGG16", "ResNet18", "CNN", "MobileNet", "ResNet", "Unet", "SegNet", "AE"])
def test_initial_weights_spread_as_keras_would_have_them(name: str) -> None:
    torch.manual_seed(0)
    network = CAANS[name]() if name in CAANS else (ADNS | COLORIZERS)[name](64)
    checked = 0
    for place, layer in network.named_modules():
        if not isinstance(layer, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
            continue
        n = layer.weight.numel()
        # a uniform or truncated sample's deviation is known to about 0.55 / sqrt(n) of itself: five of these
        assert layer.weight.std().item() == pytest.approx(
            expected_std(name, layer, place), rel=3 / math.sqrt(n) + 1e-3
        ), place
        assert layer.bias is not None
        assert not layer.bias.any(), place
        checked += 1
    assert checked >= 6


def test_fancy_pca_moves_real_leaves_by_as_much_as_recorded(potato: Path) -> None:
    """About 1.6 grey levels: the length of the colour that alpha = 0.08, one standard deviation, adds."""
    lengths = []
    files = {
        kind: sorted(p for p in (potato / kind).rglob("*.*") if p.is_file()) for kind in ("Positive", "Negative")
    }
    for file in files["Positive"][::80] + files["Negative"][::40]:
        rgb = torch.tensor(resize(decode(file), 128)).permute(2, 0, 1)[None].float() / 255
        added = fancy_pca(rgb, alpha=torch.tensor([0.08])) - rgb
        lengths.append(255 * float(added.flatten(2).median(2).values.norm()))
    assert np.mean(lengths) == pytest.approx(1.6, abs=0.3)


def test_probability_is_a_sigmoid_of_the_difference_and_keeps_ranks() -> None:
    logits = torch.tensor([[0.0, 30.0], [0.0, 31.0], [1.0, 1.0]])
    p = probability(logits)
    assert p[2] == 0.5
    assert p[0] < p[1] < 1
