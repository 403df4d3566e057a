from __future__ import annotations

import pytest
import torch
from network_contract import NetworkContract

from leanet.networks.contract import ADN
from leanet.networks.registry import find_adn


class ADNContract(NetworkContract):
    name: str
    channels_in = 3

    def build(self, image_size: int) -> ADN:
        return find_adn(self.name)(image_size)

    def shapes(self, n: int, image_size: int) -> list[tuple[int, ...]]:
        del image_size  # two logits whatever the size
        return [(n, 2)]

    @pytest.mark.parametrize("image_size", [64, 96])
    def test_stages_are_the_attention_points(self, image_size: int) -> None:
        with torch.device("meta"):
            network = self.build(image_size)
            x = torch.empty(2, 3, image_size, image_size)
            for stage, channels, stride in zip(network.stages, network.channels, network.strides, strict=True):
                x = stage(x)
                assert x.shape == (2, channels, image_size // stride, image_size // stride)


class TestVGG16(ADNContract):
    name = "VGG16"
    parameters = 165_726_018


class TestResNet18(ADNContract):
    name = "ResNet18"
    parameters = 11_225_282


class TestCNN(ADNContract):
    name = "CNN"
    parameters = 3_982_210
