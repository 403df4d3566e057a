"""Recipes and optimisers against formulas written anew here."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

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


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
def test_pair_cross_entropy_against_its_formula(activation: str) -> None:
    rng = np.random.default_rng(1)
    logits, labels = rng.normal(scale=4, size=(8, 2)), rng.integers(0, 2, 8)
    if activation == "softmax":
        p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
        p = np.clip(p, 1e-7, 1 - 1e-7)
    else:
        p = 1 / (1 + np.exp(-logits))
    target = np.eye(2)[labels]
    expected = -(target * np.log(p) + (1 - target) * np.log(1 - p)).mean()
    found = detection.pair_cross_entropy(torch.tensor(logits), torch.tensor(labels), activation)
    assert float(found) == pytest.approx(expected, rel=1e-5)


def test_clipped_pairs_pass_no_gradient() -> None:
    logits = torch.tensor([[40.0, -40.0], [0.3, -0.2]], requires_grad=True)
    torch.autograd.backward(detection.pair_cross_entropy(logits, torch.tensor([1, 0]), "softmax"))
    assert logits.grad is not None
    assert logits.grad[0].abs().max() == 0
    assert logits.grad[1].abs().max() > 0


def test_probability_is_a_sigmoid_of_the_difference_and_keeps_ranks() -> None:
    logits = torch.tensor([[0.0, 30.0], [0.0, 31.0], [1.0, 1.0]])
    p = detection.probability(logits)
    assert p[2] == 0.5
    assert p[0] < p[1] < 1
