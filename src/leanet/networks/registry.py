"""Networks by name: a file in adn/, caan/ or colorizers/ registers its own; other packages may register more."""

from __future__ import annotations

import functools
import importlib
import pkgutil
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import torch
from torch import Tensor

from leanet.config import NO_CAAN, TIMM
from leanet.errors import UnknownNameError
from leanet.networks import adn as adn_room
from leanet.networks import caan as caan_room
from leanet.networks import colorizers as colorizer_room
from leanet.networks.contract import ADN, CAAN, Colorizer
from leanet.networks.leanet import LEANet
from leanet.networks.pooled_head import PooledHead

COLORIZERS: dict[str, type[Colorizer]] = {}
ADNS: dict[str, type[ADN]] = {}
CAANS: dict[str, type[CAAN]] = {}

Join = Callable[[ADN], LEANet]
JOINS: dict[str, Join] = {}
"""ADN's name -> what makes the detector of the ADN alone, for those that are more than stages and a head."""

Network = TypeVar("Network")


def register_adn(name: str, join: Join | None = None) -> Callable[[type[ADN]], type[ADN]]:
    """A decorator that registers an ADN's class under a name; a later class of the same name replaces it.

    Args:
        join: makes the detector without a CAAN of a new ADN; None: the ADN alone. A subclass of LEANet can read the
            anomaly map itself, or return a second pair of logits, whose loss is added as a CAAN's is.
    """
    JOINS.pop(name, None)
    if join is not None:
        JOINS[name] = join
    return functools.partial(_register, ADNS, name)


def register_caan(name: str) -> Callable[[type[CAAN]], type[CAAN]]:
    """A decorator that registers a CAAN's class under a name; a later class of the same name replaces it."""
    return functools.partial(_register, CAANS, name)


def register_colorizer(name: str) -> Callable[[type[Colorizer]], type[Colorizer]]:
    """A decorator that registers a colorizer's class under a name; a later class of the same name replaces it."""
    return functools.partial(_register, COLORIZERS, name)


def find_adn(name: str) -> type[ADN]:
    """The class of an ADN: a registered one, or timm's network NAME for 'timm/NAME', which imports timm.

    Raises:
        UnknownNameError: nothing has this name; the message has what is there, of timm the nearest.
        ValueError: the network of timm is no sequence of stages whose strides grow.
    """
    if name.startswith(TIMM) and name not in ADNS:
        from leanet.networks.adn.timm import timm_adn

        return timm_adn(name.removeprefix(TIMM))
    return _find(ADNS, name, "ADN")


def check_adn(name: str, image_size: int) -> type[ADN]:
    """The class that `find_adn` finds, whose stages give what it says at this image size.

    Raises:
        ValueError: as `find_adn`, or another shape; the message names the stage and both shapes.
    """
    kind = find_adn(name)
    if not kind.__module__.startswith("leanet."):  # our own are tested, and the check takes torch seconds to begin
        _check_stages(kind, image_size)
    return kind


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
    adn: str,
    caan: str | None,
    attention_points: Sequence[int],
    image_size: int,
    attention: str = "published",
    weights: str = "none",
    tune: str = "all",
) -> LEANet:
    """A LEA-Net with new weights, drawn from torch's global generator.

    Args:
        adn: one of ADNS, or 'timm/NAME'.
        caan: one of CAANS; None or 'none' for the baseline, which has no CAAN. A head has none either, but
            reads the anomaly map unless this is 'none'.
        attention_points: points that both the ADN and the CAAN have; an empty list is the baseline too.
        image_size: side of the images in pixels, a multiple of 32 from 64 to 512.
        attention: one of leanet.networks.external_attention.FORMS, see LEANet.
        weights: what the ADN starts from: 'none', or as `ADN.load_pretrained` takes it.
        tune: 'all' for the ADN's own head, or 'head' for a PooledHead; see `DetectorConfig.tune`.
    Raises:
        ValueError: unknown name, a point that one of the networks lacks, an image size outside these limits, or a
            network whose stages return other shapes than its class declares.
        OptionError: the ADN has no such weights.
    """
    _check_image_size(image_size)
    detector = check_adn(adn, image_size)(image_size)
    if weights != "none":
        detector.load_pretrained(weights)
    if tune == "head":
        head = PooledHead(_channels_of(type(detector), image_size), with_maps=caan not in (None, NO_CAAN))
        return LEANet(detector, None, (), head=head)
    if caan is None or caan == NO_CAAN or not attention_points:
        return JOINS[adn](detector) if adn in JOINS else LEANet(detector, None, ())
    return LEANet(detector, _find(CAANS, caan, "CAAN")(), attention_points, attention)


def _channels_of(kind: type[ADN], image_size: int) -> list[int]:
    """The channels of each of an ADN's blocks."""
    with torch.device("meta"), torch.random.fork_rng(devices=()):
        blocks = kind(image_size).eval().blocks(torch.empty(1, 3, image_size, image_size))
    return [block.shape[1] for block in blocks]


def _register(networks: dict[str, type[Network]], name: str, kind: type[Network]) -> type[Network]:
    networks[name] = kind
    return kind


def _find(networks: Mapping[str, Network], name: str, kind: str) -> Network:
    if name not in networks:
        also = f", or {TIMM}NAME" if networks is ADNS else ""
        raise UnknownNameError(f"unknown {kind} '{name}': choose from {', '.join(networks)}{also}.")
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
    if image_size % kind.strides[-1]:
        raise ValueError(
            f"{kind.__name__}: image size {image_size} is no multiple of its largest stride, {kind.strides[-1]}. "
            "Choose one that is."
        )
    with torch.device("meta"), torch.random.fork_rng(devices=()):
        network = kind(image_size).eval()
        x = torch.empty(2, 3, image_size, image_size)
    for i, stage in enumerate(network.stages[: len(network.strides)]):
        side = image_size // network.strides[i]
        x = _passed(stage, x, f"{kind.__name__}: stage {i + 1}", (2, network.channels[i], side, side))
    _passed(network.head, x, f"{kind.__name__}: the head", (2, 2))
    _CHECKED.add((kind, image_size))


def _passed(module: torch.nn.Module, x: Tensor, name: str, expected: tuple[int, ...]) -> Tensor:
    try:
        found: Tensor = module(x)
    except (AssertionError, RuntimeError, ValueError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise ValueError(f"{name} takes no such input ({reason:.80}): try another image size.") from None
    if tuple(found.shape) != expected:
        raise ValueError(
            f"{name} gives {tuple(found.shape)}, expected {expected}: fix its channels or strides, "
            "or choose another ADN."
        )
    return found


for _room in (adn_room, caan_room, colorizer_room):
    for _file in pkgutil.iter_modules(_room.__path__):
        importlib.import_module(f"{_room.__name__}.{_file.name}")
