"""Pooled features and the head that reads them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tiny import TinyADN
from torch import Tensor

from leanet.networks.contract import ADN
from leanet.networks.leanet import LEANet, probability
from leanet.networks.pooled_head import PooledHead, pooled_features
from leanet.networks.registry import CAANS, build_leanet


class Pixels(ADN):
    """An ADN whose only block is the image itself."""

    def blocks(self, image: Tensor) -> list[Tensor]:
        return [image]


@pytest.fixture(scope="module")
def images() -> Tensor:
    return torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(0))


def test_features_are_mean_maximum_and_root_mean_square_of_every_channel(images: Tensor) -> None:
    x = images.numpy().astype(np.float64)
    expected = np.concatenate([x.mean((2, 3)), x.max((2, 3)), np.sqrt((x**2).mean((2, 3)))], 1)
    np.testing.assert_allclose(pooled_features(Pixels(64), images).numpy(), expected, rtol=1e-5)


def test_mirroring_an_image_changes_no_feature(images: Tensor) -> None:
    adn = TinyADN(64).eval()
    with torch.inference_mode():
        plain = pooled_features(adn, images)
        for axes in ((2,), (3,), (2, 3)):
            torch.testing.assert_close(pooled_features(adn, images.flip(axes)), plain)


def test_the_network_says_the_logistic_of_a_linear_function_of_its_features(images: Tensor) -> None:
    network = build_leanet("EfficientNet-Lite0", None, (), 64, tune="head").eval()
    assert network.head is not None
    weight = torch.randn(network.head.linear.in_features, generator=torch.Generator().manual_seed(1)) / 50
    network.head.set(weight, 0.25)
    with torch.inference_mode():
        z = pooled_features(network.adn, images) @ weight + 0.25
        torch.testing.assert_close(probability(network(images).adn_logits).float(), z.sigmoid())


def test_each_block_of_an_efficientnet_is_pooled() -> None:
    adn = build_leanet("EfficientNet-Lite0", None, (), 64).adn.eval()
    with torch.inference_mode():
        blocks = adn.blocks(torch.rand(1, 3, 64, 64))
    # The widths of EfficientNet-B0's seven stages: Tan & Le (2019), table 1.
    assert [block.shape[1] for block in blocks] == [16, 24, 40, 80, 112, 192, 320]
    assert [64 // block.shape[2] for block in blocks] == [2, 4, 8, 16, 16, 32, 32]


def test_a_head_takes_no_caan() -> None:
    with pytest.raises(ValueError, match="give it no CAAN"):
        LEANet(TinyADN(64), CAANS["Direct"](), (2,), head=PooledHead(5))
