"""The smallest networks that meet the contracts, and blank figures, for tests of other things."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor, nn

from leanet.networks.contract import ADN, CAAN, Colorizer
from leanet.networks.layers import GlobalAverage, Logits, conv_bn_relu
from leanet.networks.registry import ADNS, CAANS, COLORIZERS

CHANNELS = (2, 4, 4, 4, 4)


def stages(inputs: int) -> nn.ModuleList:
    """Five convolutions of stride 2: features at strides 2 to 32."""
    return nn.ModuleList(
        conv_bn_relu(i, o, 3, stride=2) for i, o in zip((inputs, *CHANNELS), CHANNELS, strict=False)
    )


class TinyADN(ADN):
    """Five small convolutions and a dense layer."""

    channels = CHANNELS

    def __init__(self, image_size: int) -> None:
        super().__init__(image_size)
        self.stages = stages(3)
        self.head = nn.Sequential(GlobalAverage(), Logits(CHANNELS[-1], 2))


class TinyCAAN(CAAN):
    """The same layers for an anomaly map."""

    channels = CHANNELS

    def __init__(self) -> None:
        super().__init__()
        self.stages = stages(1)
        self.head = nn.Sequential(GlobalAverage(), Logits(CHANNELS[-1], 2))


class TinyColorizer(Colorizer):
    """Predicts each pixel's chrominance from the lightness around it."""

    def __init__(self, image_size: int) -> None:
        super().__init__(image_size)
        self.layers = nn.Sequential(conv_bn_relu(1, 4, 3), nn.Conv2d(4, 2, 1))

    def forward(self, lightness: Tensor) -> Tensor:
        chrominance: Tensor = self.layers(lightness)
        return chrominance.float().sigmoid()


@contextmanager
def registered() -> Iterator[None]:
    """Replace all networks that are trained, except a CAAN without logits, with the tiny ones."""
    with pytest.MonkeyPatch.context() as patch:
        for name in COLORIZERS:
            patch.setitem(COLORIZERS, name, TinyColorizer)
        for name in [name for name, adn in ADNS.items() if not adn.pretrained]:
            patch.setitem(ADNS, name, TinyADN)
        for name in [name for name, caan in CAANS.items() if caan.has_logits]:
            patch.setitem(CAANS, name, TinyCAAN)
        yield


@pytest.fixture(scope="module")
def tiny_networks() -> Iterator[None]:
    """Replace the authors' networks with the tiny ones, for all tests of a module."""
    with registered():
        yield


@pytest.fixture
def blank_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Save figures as nearly empty files, because layout takes most of a report's time."""

    def savefig(_figure: Figure, path: Path, format: str, **_: object) -> None:
        Image.new("L", (1, 1)).save(path, "PNG") if format == "png" else path.write_text("<svg/>")

    monkeypatch.setattr(Figure, "savefig", savefig)


@contextmanager
def laid_out_once() -> Iterator[None]:
    """Lay a figure out for the first of its files alone: layout takes half of the time of drawing."""
    savefig = Figure.savefig

    def save(figure: Figure, *arguments: Any, **options: Any) -> None:
        savefig(figure, *arguments, **options)
        figure.set_layout_engine("none")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Figure, "savefig", save)
        yield
