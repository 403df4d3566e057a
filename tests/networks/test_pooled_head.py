"""Pooled features, those that attention pools, and the head that reads them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tiny import TinyADN
from torch import Tensor

from leanet.networks.contract import ADN
from leanet.networks.leanet import LEANet, probability
from leanet.networks.pooled_head import (
    PooledHead,
    attended_features,
    map_statistics,
    mirrored_blocks,
    pooled_features,
)
from leanet.networks.registry import CAANS, build_leanet


class Pixels(ADN):
    """An ADN whose only block is the image itself."""

    def blocks(self, image: Tensor) -> list[Tensor]:
        return [image]


@pytest.fixture(scope="module")
def images() -> Tensor:
    return torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def maps() -> Tensor:
    return 5 * torch.rand(3, 1, 64, 64, generator=torch.Generator().manual_seed(1))


def test_features_are_mean_maximum_and_root_mean_square_of_every_channel(images: Tensor) -> None:
    x = images.numpy().astype(np.float64)
    expected = np.concatenate([x.mean((2, 3)), x.max((2, 3)), np.sqrt((x**2).mean((2, 3)))], 1)
    found = pooled_features(mirrored_blocks(Pixels(64), images))
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-5)


def test_attention_pools_where_the_map_is_high(images: Tensor, maps: Tensor) -> None:
    x, m = images.numpy().astype(np.float64), maps.numpy().astype(np.float64)
    least, most = m.min((2, 3), keepdims=True), m.max((2, 3), keepdims=True)
    weights = ((m - least) / (most - least)) ** 2
    expected = (x * weights).sum((2, 3)) / weights.sum((2, 3))
    found = attended_features(mirrored_blocks(Pixels(64), images), maps)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-4)


def test_a_map_without_contrast_pools_everywhere(images: Tensor) -> None:
    found = attended_features(mirrored_blocks(Pixels(64), images), torch.full((3, 1, 64, 64), 2.0))
    torch.testing.assert_close(found, images.mean((2, 3)))


def test_mirroring_an_image_with_its_map_changes_no_feature(images: Tensor, maps: Tensor) -> None:
    adn = TinyADN(64).eval()

    def both(axes: tuple[int, ...]) -> Tensor:
        blocks = mirrored_blocks(adn, images.flip(axes))
        return torch.cat([pooled_features(blocks), attended_features(blocks, maps.flip(axes))], 1)

    with torch.inference_mode():
        for axes in ((2,), (3,), (2, 3)):
            torch.testing.assert_close(both(axes), both(()))


def test_statistics_of_a_map_are_logarithms(maps: Tensor) -> None:
    m = maps.numpy().astype(np.float64)[:, 0]
    expected = np.log(np.stack([m.mean((1, 2)), m.max((1, 2)), np.sqrt((m**2).mean((1, 2)))], 1))
    np.testing.assert_allclose(map_statistics(maps).numpy(), expected, rtol=1e-5)


def test_the_network_says_the_logistic_of_a_linear_function_of_its_parts(images: Tensor, maps: Tensor) -> None:
    network = build_leanet("EfficientNet-Lite0", "Direct", (), 64, tune="head").eval()
    assert network.head is not None
    weight = torch.randn(network.head.linear.in_features, generator=torch.Generator().manual_seed(1)) / 50
    network.head.set(weight, 0.25)
    with torch.inference_mode():
        blocks = mirrored_blocks(network.adn, images)
        parts = [pooled_features(blocks), attended_features(blocks, maps), map_statistics(maps)]
        z = torch.cat(parts, 1) @ weight + 0.25
        torch.testing.assert_close(probability(network(images, maps).adn_logits).float(), z.sigmoid())


def test_evidence_is_what_each_place_adds_to_the_logit(images: Tensor, maps: Tensor) -> None:
    head = PooledHead([3], with_maps=True)
    weight = torch.randn(head.linear.in_features, generator=torch.Generator().manual_seed(2))
    weight[3:6] = 0  # of the maxima, which no place has to itself
    weight[-3:] = 0  # of the map's statistics
    head.set(weight, 0.0)
    with torch.inference_mode():
        logits, _, evidence, _ = head(Pixels(64), images, maps)
    assert evidence.shape == (3, 1, 64, 64)
    torch.testing.assert_close(evidence.mean((1, 2, 3)), logits[:, 1] - logits[:, 0], atol=1e-4, rtol=1e-4)


def test_evidence_is_as_fine_as_the_second_coarsest_blocks(images: Tensor, maps: Tensor) -> None:
    network = build_leanet("EfficientNet-Lite0", "Direct", (), 64, tune="head").eval()
    with torch.inference_mode():
        output = network(images, maps)
    assert output.evidence is not None
    assert output.evidence.shape == (3, 1, 4, 4)
    assert {point: tuple(m.shape) for point, m in output.attention.items()} == {4: (3, 1, 4, 4)}


def test_each_block_of_an_efficientnet_is_pooled() -> None:
    adn = build_leanet("EfficientNet-Lite0", None, (), 64).adn.eval()
    with torch.inference_mode():
        blocks = adn.blocks(torch.rand(1, 3, 64, 64))
    # The widths of EfficientNet-B0's seven stages: Tan & Le (2019), table 1.
    assert [block.shape[1] for block in blocks] == [16, 24, 40, 80, 112, 192, 320]
    assert [64 // block.shape[2] for block in blocks] == [2, 4, 8, 16, 16, 32, 32]


def test_a_head_takes_no_caan() -> None:
    with pytest.raises(ValueError, match="give it no CAAN"):
        LEANet(TinyADN(64), CAANS["Direct"](), (2,), head=PooledHead([5]))


def test_a_head_with_attention_needs_a_map(images: Tensor) -> None:
    with pytest.raises(ValueError, match="no anomaly map"):
        build_leanet("EfficientNet-Lite0", "Direct", (), 64, tune="head").eval()(images)
