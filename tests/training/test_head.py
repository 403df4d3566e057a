"""The linear head: scikit-learn's analysis as one linear function, calibrated on scores of unseen images."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.covariance import shrunk_covariance
from sklearn.metrics import log_loss, roc_auc_score
from sklearn.preprocessing import StandardScaler

from leanet.errors import UserError
from leanet.networks.pooled_head import ATTENTION, FEATURES, MAP
from leanet.training.head import SHRINKAGES, fit_head


def drawn(normal: int, anomalous: int, shift: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Correlated features of which the normal images tell the covariance; each image is its own group."""
    generator = np.random.default_rng(seed)
    mixing = generator.normal(size=(30, 30))
    labels = np.repeat([0, 1], [normal, anomalous])
    features = generator.normal(size=(len(labels), 30)) @ mixing + shift * labels[:, None] * mixing[0]
    return features.astype(np.float32), labels, [str(i) for i in range(len(labels))]


def test_direction_is_that_of_discriminant_analysis_with_a_shrunk_covariance() -> None:
    features, labels, groups = drawn(200, 8, 3.0)
    found = fit_head({FEATURES: features}, labels, groups, 1.0, 0)
    x = StandardScaler().fit_transform(features.astype(np.float64))
    means = np.stack([x[labels == label].mean(0) for label in (0, 1)])
    covariance = shrunk_covariance(np.cov((x - means[labels]).T, bias=True), found.shrinkage)
    expected = np.linalg.solve(covariance, means[1] - means[0]) / features.astype(np.float64).std(0)
    cosine = found.weight @ expected / np.linalg.norm(found.weight) / np.linalg.norm(expected)
    assert cosine == pytest.approx(1, abs=1e-4)


def test_what_other_light_changes_counts_as_scatter_within_a_class() -> None:
    features, labels, groups = drawn(200, 8, 3.0)
    changes = (5 * np.random.default_rng(1).normal(size=(40, 1)) * features.std(0)).astype(np.float32)
    with_changes, without = (
        fit_head({FEATURES: features}, labels, groups, 1.0, 0, c) for c in ({FEATURES: changes}, None)
    )
    x = StandardScaler().fit(features.astype(np.float64))
    scaled, moved = x.transform(features.astype(np.float64)), changes / x.scale_
    means = np.stack([scaled[labels == label].mean(0) for label in (0, 1)])
    covariance = shrunk_covariance(np.cov((scaled - means[labels]).T, bias=True), with_changes.shrinkage)
    expected = np.linalg.solve(covariance + moved.T @ moved / 40, means[1] - means[0]) / x.scale_
    cosine = with_changes.weight @ expected / np.linalg.norm(with_changes.weight) / np.linalg.norm(expected)
    assert cosine == pytest.approx(1, abs=1e-4)
    assert np.abs(changes @ with_changes.weight).max() < 0.1 * np.abs(changes @ without.weight).max()


def test_a_few_anomalies_suffice_where_many_normals_tell_the_covariance() -> None:
    features, labels, groups = drawn(300, 4, 4.0)
    found = fit_head({FEATURES: features}, labels, groups, 1.0, 0)
    others, truth, _ = drawn(300, 300, 4.0, seed=0)
    assert roc_auc_score(truth, others @ found.weight + found.bias) > 0.95


def test_probabilities_of_unseen_images_are_calibrated() -> None:
    features, labels, groups = drawn(400, 400, 0.8)
    found = fit_head({FEATURES: features[::2]}, labels[::2], groups[::2], 1.0, 0)
    assert found.unseen is not None
    said = 1 / (1 + np.exp(-(features[1::2] @ found.weight + found.bias)))
    base = log_loss(labels[1::2], np.full(400, 0.5))
    assert log_loss(labels[1::2], said) < base
    assert said[labels[1::2] == 1].mean() == pytest.approx(found.unseen[labels[::2] == 1].mean(), abs=0.1)


def test_an_image_is_not_predicted_by_a_head_that_saw_its_group() -> None:
    # Groups have features of their own and labels at random: only who saw a group knows its label.
    generator = np.random.default_rng(0)
    groups = [str(i // 4) for i in range(160)]
    labels = np.repeat(generator.integers(0, 2, 40), 4)
    features = (np.repeat(generator.normal(size=(40, 200)), 4, 0) + 0.01).astype(np.float32)
    found = fit_head({FEATURES: features}, labels, groups, 1.0, 0)
    assert found.unseen is not None
    assert roc_auc_score(labels, features @ found.weight + found.bias) == 1
    assert roc_auc_score(labels, found.unseen) < 0.75


def test_anomalies_left_out_count_in_the_probabilities() -> None:
    features, labels, groups = drawn(300, 10, 2.0)
    plain, counted = (fit_head({FEATURES: features}, labels, groups, p_rate, 0) for p_rate in (1.0, 0.1))
    assert plain.unseen is not None
    assert counted.unseen is not None
    assert counted.unseen.mean() > plain.unseen.mean()


def test_one_group_of_anomalies_gives_no_unseen_scores() -> None:
    features, labels, groups = drawn(50, 4, 3.0)
    found = fit_head({FEATURES: features}, labels, [*groups[:50], *["same"] * 4], 1.0, 0)
    assert found.unseen is None
    assert np.isfinite(found.weight).all()


def test_one_anomaly_is_refused() -> None:
    features, labels, groups = drawn(50, 1, 3.0)
    with pytest.raises(UserError, match="1 anomalous and 50 normal labeled images: a head needs two"):
        fit_head({FEATURES: features}, labels, groups, 1.0, 0)


def with_map(shift_of_map: float, seed: int) -> tuple[dict[str, np.ndarray], np.ndarray, list[str]]:
    """Features, and statistics of a map that tell the anomalies by this shift."""
    features, labels, groups = drawn(200, 24, 1.0, seed)
    noise = np.random.default_rng(seed + 1).normal(size=(len(labels), 3))
    of_map = (noise + shift_of_map * labels[:, None]).astype(np.float32)
    return {FEATURES: features[:, :20], ATTENTION: features[:, 20:], MAP: of_map}, labels, groups


def test_a_map_that_helps_is_part_of_the_answer() -> None:
    parts, labels, groups = with_map(2.0, 0)
    found = fit_head(parts, labels, groups, 1.0, 0)
    alone = fit_head({name: parts[name] for name in (FEATURES, ATTENTION)}, labels, groups, 1.0, 0)
    assert found.parts == (FEATURES, ATTENTION, MAP)
    assert found.unseen is not None
    assert alone.unseen is not None
    assert roc_auc_score(labels, found.unseen) > roc_auc_score(labels, alone.unseen)
    assert np.all(found.weight[-3:] != 0)


def test_a_map_that_misleads_is_left_out_with_its_attention() -> None:
    parts, labels, groups = with_map(-2.0, 0)
    found = fit_head(parts, labels, groups, 1.0, 0)
    alone = fit_head({FEATURES: parts[FEATURES]}, labels, groups, 1.0, 0)
    assert found.parts == (FEATURES,)
    np.testing.assert_array_equal(found.weight, [*alone.weight, *np.zeros(parts[ATTENTION].shape[1] + 3)])
    assert alone.unseen is not None
    np.testing.assert_array_equal(found.unseen, alone.unseen)


def test_statistics_of_a_map_that_do_not_help_are_left_out() -> None:
    parts, labels, groups = with_map(0.0, 3)
    parts[MAP] = np.where(labels[:, None] == np.arange(len(labels))[:, None] % 2, 3.0, -3.0).repeat(3, 1)
    parts[MAP][:, 0] = 0  # a mean that says nothing does not mislead
    found = fit_head(parts, labels, groups, 1.0, 0)
    alone = fit_head({name: parts[name] for name in (FEATURES, ATTENTION)}, labels, groups, 1.0, 0)
    assert found.parts == (FEATURES, ATTENTION)
    np.testing.assert_array_equal(found.weight, [*alone.weight, 0, 0, 0])


def test_less_shrinkage_is_taken_where_unseen_images_are_ranked_clearly_better() -> None:
    features, labels, groups = drawn(300, 300, 4.0)
    assert fit_head({FEATURES: features}, labels, groups, 1.0, 0).shrinkage == SHRINKAGES[1]
    features, labels, groups = drawn(60, 30, 3.0)
    assert fit_head({FEATURES: features}, labels, groups, 1.0, 0).shrinkage == SHRINKAGES[0]
