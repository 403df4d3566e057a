"""Models with random weights, and pictures for them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from PIL import Image
from torch import nn

from leanet.config import ColorizerConfig
from leanet.data.decode import decode
from leanet.maps.registry import build_map_source
from leanet.model.card import Card
from leanet.model.model import Model
from leanet.networks.registry import build_leanet

SIZES = ((64, 64), (97, 131), (300, 201), (1, 57))
POTATO = Path(__file__).parents[2] / "shared" / "data" / "plantvillage_potato"


def pictures() -> Iterator[np.ndarray]:
    """Two pictures at four sizes: a real leaf, if the data is available, and noise."""
    generator = np.random.default_rng(0)
    sources = [generator.integers(0, 256, (256, 256, 3), dtype=np.uint8)]
    sources += [decode(file) for file in sorted((POTATO / "Positive").rglob("*.*"))[:1]]
    for source, (height, width) in itertools.product(sources, SIZES):
        yield np.asarray(Image.fromarray(source).resize((width, height)))


def made(adn: str, caan: str, point: int, attention: Literal["published", "affine"] = "published") -> Model:
    """A model with random weights and BatchNorm statistics, scaled to keep it well-conditioned."""
    torch.manual_seed(0)
    network = build_leanet(adn, caan, (point,), 64, attention)
    maps = build_map_source("color", 64, ColorizerConfig())
    generator = torch.Generator().manual_seed(0)
    for layer in itertools.chain(network.modules(), maps.modules()):
        if isinstance(layer, nn.BatchNorm2d) and layer.running_mean is not None and layer.running_var is not None:
            layer.running_mean.normal_(0, 0.1, generator=generator)
            layer.running_var.uniform_(0.5, 2, generator=generator)
    card = Card(
        adn,
        caan,
        (point,),
        64,
        "true",
        "normals",
        7.5,
        0.3,
        "made for a test",
        colorizer="Unet",
        attention=attention,
    )
    return Model(card, network.eval(), maps.eval())
