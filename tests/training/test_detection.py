from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import log_loss

from leanet.networks.leanet import probability
from leanet.networks.registry import build_leanet
from leanet.training.detection import MOST_WEIGHT, class_weights, loss


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
