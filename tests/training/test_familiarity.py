"""The distance from the training images: that of Mahalanobis along principal components, measured out of fold."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.spatial.distance import mahalanobis

from leanet.errors import DamagedError
from leanet.model.card import Card, card_from, to_json
from leanet.model.result import Decision, csv_row, make_result
from leanet.networks.familiarity import Familiarity
from leanet.training.familiarity import Distance, farthest_of_classes, fit_familiarity

CHANNELS = (2, 3, 4, 5)
FIRST = 3 * (2 + 3)
"""Features of shallow blocks, which come first."""


def drawn(images: int, seed: int = 0) -> np.ndarray:
    """Correlated features of images, the last 27 of them of deep blocks."""
    mixing = np.random.default_rng(9).normal(size=(42, 42))
    return (np.random.default_rng(seed).normal(size=(images, 42)) @ mixing + 5).astype(np.float32)


def measured(distance: Distance, features: np.ndarray) -> np.ndarray:
    network = Familiarity(features.shape[1])
    network.set(*(torch.from_numpy(each) for each in (distance.scale, distance.shift, distance.weight)))
    with torch.inference_mode():
        found: np.ndarray = network(torch.from_numpy(features))[0].numpy()
    return found


def test_the_distance_is_that_of_mahalanobis_and_a_share_of_euclids() -> None:
    features, labels, others = drawn(200), np.repeat([0, 1], 100), drawn(20, seed=1)
    found = fit_familiarity(features, CHANNELS, labels, [str(i) for i in range(200)], 0)
    assert found is not None
    deep, theirs = (x[:, FIRST:].astype(np.float64) for x in (features, others))
    inverse = np.linalg.inv(np.cov(deep.T))
    of_all = [mahalanobis(other, deep.mean(0), inverse) ** 2 / 27 for other in theirs]
    of_each = np.square((theirs - deep.mean(0)) / deep.std(0)).mean(1)
    np.testing.assert_allclose(measured(found[0], others), np.sqrt(of_all + of_each / 2), rtol=1e-3)


def test_an_image_is_measured_by_a_fit_that_saw_neither_it_nor_its_group() -> None:
    features, labels = drawn(120), np.tile([0, 1], 60)
    features[:4] += 1000  # a group unlike all others
    groups = [str(i // 4) for i in range(120)]
    found = fit_familiarity(features, CHANNELS, labels, groups, 0)
    assert found is not None
    distance, unseen = found
    assert unseen[:4].min() > 10 * measured(distance, features)[:4].max()


def test_what_no_training_image_varies_in_counts() -> None:
    features = drawn(24)
    features[:, -1] = 7 + np.random.default_rng(0).normal(size=24) / 100  # little variance, in no component
    found = fit_familiarity(features, CHANNELS, np.tile([0, 1], 12), [str(i) for i in range(24)], 0)
    assert found is not None
    strange = features[:1].copy()
    strange[0, -1] = 8
    assert measured(found[0], strange)[0] > 2 * measured(found[0], features).max()


@pytest.mark.parametrize("images", [3, 8])
def test_too_few_images_or_groups_have_no_distance(images: int) -> None:
    labels = np.arange(images) % 2
    assert fit_familiarity(drawn(images), CHANNELS, labels, ["one"] * images, 0) is None


def head_card(distances: tuple[float, ...]) -> Card:
    made = Card(
        "EfficientNet-Lite0", "Direct", (), 64, "true", "normals", 7.5, 0.3, "made for a test", map_source="color"
    )
    return replace(made, tune="head", familiar_distances=distances)


@pytest.mark.parametrize(
    ("distance", "percentile", "decision"),
    [(0.5, 0.0, "anomalous"), (1.49, 49.0, "anomalous"), (1.97, 97.0, "anomalous"), (1.99, 99.0, "unfamiliar")],
)
def test_beyond_a_percentile_an_image_is_unfamiliar_whatever_its_probability(
    distance: float, percentile: float, decision: Decision
) -> None:
    card = head_card(tuple(1 + i / 100 for i in range(101)))
    peak = np.full((64, 64), 99, np.float32)
    result = make_result(card, (64, 64), peak, 0.9, None, None, distance=distance)
    assert result.unfamiliarity == pytest.approx(percentile)
    assert result.decision == decision
    assert (result.box is None) == (decision == "unfamiliar") != result.anomalous
    assert csv_row("a.png", result)[2] == decision
    assert float(csv_row("a.png", result)[-1]) == pytest.approx(percentile)


def test_distances_of_a_card_are_kept_and_checked() -> None:
    card = head_card(tuple(float(i) for i in range(101)))
    assert card_from(to_json(card), Path("m")) == card
    for wrong in (tuple(range(100)), (1.0, *[0.0] * 100), (-1.0, *[0.0] * 100)):
        with pytest.raises(DamagedError, match="familiar_distances"):
            card_from(to_json(head_card(tuple(map(float, wrong)))), Path("m"))
    with pytest.raises(DamagedError, match="familiar_distances"):
        card_from(to_json(replace(card, tune="all")), Path("m"))


def test_the_class_that_varies_more_sets_the_limit() -> None:
    distances, labels = np.arange(110.0), np.repeat([0, 1], [100, 10])  # the anomalous ones are the farthest
    found = farthest_of_classes(distances, labels, np.array([0.0, 50.0, 98.0]))
    np.testing.assert_allclose(found, [100, 104.5, 100 + 0.98 * 9])
    alone = farthest_of_classes(distances, np.zeros(110, dtype=np.int64), 98)
    np.testing.assert_allclose(alone, np.percentile(distances, 98))
