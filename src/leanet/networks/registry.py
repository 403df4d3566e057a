"""Networks by name: a file in adn/, caan/ or colorizers/ registers its own; other packages may register more."""

from __future__ import annotations

import functools
import importlib
import pkgutil
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import torch
from torch import Tensor

from leanet.config import NO_CAAN
from leanet.errors import UnknownNameError
from leanet.networks import adn as adn_room
from leanet.networks import caan as caan_room
from leanet.networks import colorizers as colorizer_room
from leanet.networks.contract import ADN, CAAN, Colorizer
from leanet.networks.leanet import LEANet

COLORIZERS: dict[str, type[Colorizer]] = {}
ADNS: dict[str, type[ADN]] = {}
CAANS: dict[str, type[CAAN]] = {}

Network = TypeVar("Network")


def register_adn(name: str) -> Callable[[type[ADN]], type[ADN]]:
    """A decorator that registers an ADN's class under a name; a later class of the same name replaces it."""
    return functools.partial(_register, ADNS, name)


def register_caan(name: str) -> Callable[[type[CAAN]], type[CAAN]]:
    """A decorator that registers a CAAN's class under a name; a later class of the same name replaces it."""
    return functools.partial(_register, CAANS, name)


def register_colorizer(name: str) -> Callable[[type[Colorizer]], type[Colorizer]]:
    """A decorator that registers a colorizer's class under a name; a later class of the same name replaces it."""
    return functools.partial(_register, COLORIZERS, name)


def build_colorizer(name: str, image_size: int) -> Colorizer:
    """A colorizer with new weights, drawn from torch's global generator.

    Args:
        name: one of COLORIZERS.
        image_size: side of the images in pixels, a multiple of 32 from 64 to 512.
    Raises:
        ValueError: unknown name, or an image size outside these limits.
    """
    _check_image_size(image_size)
    return _find(COLORIZERS, name, "colorizer")(image_size)


def build_leanet(
    adn: str, caan: str | None, attention_points: Sequence[int], image_size: int, attention: str = "published"
) -> LEANet:
    """A LEA-Net with new weights, drawn from torch's global generator.

    Args:
        adn: one of ADNS.
        caan: one of CAANS; None or 'none' for the baseline, which has no CAAN.
        attention_points: points that both the ADN and the CAAN have; an empty list is the baseline too.
        image_size: side of the images in pixels, a multiple of 32 from 64 to 512.
        attention: 'published' or 'affine', see LEANet.
    Raises:
        ValueError: unknown name, a point that one of the networks lacks, an image size outside these limits, or a
            network whose stages return other shapes than its class declares.
    """
    _check_image_size(image_size)
    kind = _find(ADNS, adn, "ADN")
    if not kind.__module__.startswith("leanet."):  # tests cover our own, and the check's first pass takes seconds
        _check_stages(kind, image_size)
    detector = kind(image_size)
    if caan is None or caan == NO_CAAN or not attention_points:
        return LEANet(detector, None, ())
    return LEANet(detector, _find(CAANS, caan, "CAAN")(), attention_points, attention)


def _register(networks: dict[str, type[Network]], name: str, kind: type[Network]) -> type[Network]:
    networks[name] = kind
    return kind


def _find(networks: Mapping[str, Network], name: str, kind: str) -> Network:
    if name not in networks:
        raise UnknownNameError(f"unknown {kind} '{name}': choose from {', '.join(networks)}.")
    return networks[name]


def _check_image_size(image_size: int) -> None:
    if image_size % 32 or not 64 <= image_size <= 512:
        nearest = min(512, max(64, round(image_size / 32) * 32))
        raise ValueError(f"image size {image_size}: expected a multiple of 32 from 64 to 512, such as {nearest}.")


_CHECKED: set[tuple[type[ADN], int]] = set()
"""ADNs, each with an image size, whose shapes passed the check."""


def _check_stages(kind: type[ADN], image_size: int) -> None:
    """Raise ValueError if an ADN's stages or head return other shapes than its class declares."""
    if (kind, image_size) in _CHECKED:
        return
    with torch.device("meta"), torch.random.fork_rng(devices=()):
        network = kind(image_size).eval()
        x = torch.empty(2, 3, image_size, image_size)
    for i, stage in enumerate(network.stages[: len(network.strides)]):
        side = image_size // network.strides[i]
        x = _passed(stage, x, f"{kind.__name__}: stage {i + 1}", (2, network.channels[i], side, side))
    _passed(network.head, x, f"{kind.__name__}: the head", (2, 2))
    _CHECKED.add((kind, image_size))


def _passed(module: torch.nn.Module, x: Tensor, name: str, expected: tuple[int, ...]) -> Tensor:
    found: Tensor = module(x)
    if tuple(found.shape) != expected:
        raise ValueError(f"{name} gives {tuple(found.shape)}, expected {expected}: fix its channels or strides.")
    return found


for _room in (adn_room, caan_room, colorizer_room):
    for _file in pkgutil.iter_modules(_room.__path__):
        importlib.import_module(f"{_room.__name__}.{_file.name}")
