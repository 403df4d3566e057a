from __future__ import annotations

import pytest
import torch
from network_contract import NetworkContract
from torch import nn
from torch.nn import functional as F

from leanet.networks.colorizers.segnet import max_pool_with_peaks, max_unpool
from leanet.networks.colorizers.unet import Unet
from leanet.networks.registry import build_colorizer


class ColorizerContract(NetworkContract):
    name: str
    channels_in = 1

    def build(self, image_size: int) -> nn.Module:
        return build_colorizer(self.name, image_size)

    def shapes(self, n: int, image_size: int) -> list[tuple[int, ...]]:
        return [(n, 2, image_size, image_size)]

    def test_chrominance_is_float32_in_range(self) -> None:
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
            chrominance = self.built().eval()(self.example(64))
        assert chrominance.dtype == torch.float32
        assert chrominance.min() >= 0
        assert chrominance.max() <= 1


class TestUnet(ColorizerContract):
    name = "Unet"
    parameters = 28_275_330

    @pytest.mark.parametrize(("image_size", "levels"), [(64, 6), (96, 5), (160, 5), (256, 8), (512, 8)])
    def test_as_many_levels_as_the_side_halves_evenly(self, image_size: int, levels: int) -> None:
        with torch.device("meta"):
            unet = Unet(image_size)
        dropouts = [any(isinstance(m, nn.Dropout) for m in up.modules()) for up in unet.up]
        assert len(unet.down) == levels
        assert dropouts == [True] * 3 + [False] * (levels - 4)


class TestAE(ColorizerContract):
    name = "AE"
    parameters = 29_197_026


class TestSegNet(ColorizerContract):
    name = "SegNet"
    parameters = 53_113_602

    def test_unpooling_is_pytorchs_own_with_ties_at_the_first(self) -> None:
        generator = torch.Generator().manual_seed(1)
        x = torch.randint(0, 3, (2, 5, 8, 12), generator=generator).float()
        y = torch.rand(2, 5, 4, 6, generator=generator)
        pooled, peaks = max_pool_with_peaks(x)
        expected, indices = F.max_pool2d(x, 2, return_indices=True)
        assert torch.equal(pooled, expected)
        assert torch.equal(max_unpool(y, peaks), F.max_unpool2d(y, indices, [2, 2]))

    def test_all_zero_window_has_its_peak_at_the_top_left(self) -> None:
        _, peaks = max_pool_with_peaks(torch.zeros(1, 1, 2, 2))
        assert peaks.tolist() == [[[[1, 0], [0, 0]]]]


def test_unknown_name_and_size_tell_the_remedy() -> None:
    with pytest.raises(ValueError, match="choose from AE, SegNet, Unet"):
        build_colorizer("UNet", 64)
    with pytest.raises(ValueError, match="multiple of 32"):
        build_colorizer("Unet", 100)
