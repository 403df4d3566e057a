from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import log_loss

from leanet.networks.registry import build_leanet
from leanet.training.detection import loss, probability


@pytest.mark.parametrize("weight", [1.0, 0.3, 0.0])
def test_the_loss_is_the_cross_entropies_with_the_caans_weighed(weight: float) -> None:
    torch.manual_seed(0)
    model = build_leanet("CNN", "MobileNet", [2], 64).eval()
    images, maps, labels = torch.rand(3, 3, 64, 64), torch.rand(3, 1, 64, 64), torch.tensor([0, 1, 1])
    with torch.no_grad():
        total, adn, caan = loss(model, images, maps, labels, weight).tolist()
        output = model(images, maps)
    expected = [
        log_loss(labels.numpy(), probability(logits).numpy().astype(np.float64))
        for logits in (output.adn_logits, output.caan_logits)
    ]
    assert [adn, caan] == pytest.approx(expected, rel=1e-4)
    assert total == pytest.approx(expected[0] + weight * expected[1], rel=1e-4)
