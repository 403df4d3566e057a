from __future__ import annotations

import torch
from network_contract import NetworkContract
from torch.nn import functional as F

from leanet.networks.contract import CAAN
from leanet.networks.registry import CAANS


class CAANContract(NetworkContract):
    name: str
    channels_in = 1

    def build(self, image_size: int) -> CAAN:
        del image_size  # a CAAN is built for any size
        return CAANS[self.name]()

    def shapes(self, n: int, image_size: int) -> list[tuple[int, ...]]:
        kind = CAANS[self.name]
        sides = [image_size // stride for stride in kind.strides]
        features = [(n, c, side, side) for c, side in zip(kind.channels, sides, strict=True)]
        return [(n, 2), *features] if self.parameters else [*features]


class TestMobileNet(CAANContract):
    name = "MobileNet"
    parameters = 3_041_906


class TestResNet(CAANContract):
    name = "ResNet"
    parameters = 4_905_602


class TestDirect(CAANContract):
    name = "Direct"
    parameters = 0

    def test_clips_and_halves_bilinearly(self) -> None:
        anomaly_map = torch.linspace(-1, 3, 64 * 64).view(1, 1, 64, 64)
        logits, features = self.build(64)(anomaly_map)
        assert logits is None
        expected = anomaly_map.clamp(0, 1)
        for found in features:
            expected = F.interpolate(expected, scale_factor=0.5, mode="bilinear", align_corners=False)
            torch.testing.assert_close(found, expected)
