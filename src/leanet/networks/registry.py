"""Networks by name: a new one costs its file and a line here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeVar

from leanet.networks.adn.cnn import CNN
from leanet.networks.adn.resnet18 import ResNet18
from leanet.networks.adn.vgg16 import VGG16
from leanet.networks.caan.direct import Direct
from leanet.networks.caan.mobilenet import MobileNet
from leanet.networks.caan.resnet import ResNet
from leanet.networks.colorizers.autoencoder import AE
from leanet.networks.colorizers.segnet import SegNet
from leanet.networks.colorizers.unet import Unet
from leanet.networks.contract import ADN, CAAN, Colorizer
from leanet.networks.leanet import LEANet

COLORIZERS: dict[str, type[Colorizer]] = {"Unet": Unet, "SegNet": SegNet, "AE": AE}
ADNS: dict[str, type[ADN]] = {"VGG16": VGG16, "ResNet18": ResNet18, "CNN": CNN}
CAANS: dict[str, type[CAAN]] = {"MobileNet": MobileNet, "ResNet": ResNet, "Direct": Direct}

Network = TypeVar("Network")


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
        attention_points: some of 1..5; none of them is the baseline as well.
        image_size: side of the images in pixels, a multiple of 32 from 64 to 512.
        attention: 'published' or 'affine', see LEANet.
    Raises:
        ValueError: unknown name, a point outside 1..5, or an image size outside these limits.
    """
    _check_image_size(image_size)
    detector = _find(ADNS, adn, "ADN")(image_size)
    if caan is None or caan == "none" or not attention_points:
        return LEANet(detector, None, ())
    return LEANet(detector, _find(CAANS, caan, "CAAN")(), attention_points, attention)


def _find(networks: Mapping[str, Network], name: str, kind: str) -> Network:
    if name not in networks:
        raise ValueError(f"unknown {kind} '{name}': choose from {', '.join(networks)}.")
    return networks[name]


def _check_image_size(image_size: int) -> None:
    if image_size % 32 or not 64 <= image_size <= 512:
        nearest = min(512, max(64, round(image_size / 32) * 32))
        raise ValueError(f"image size {image_size}: a multiple of 32 from 64 to 512 is needed, such as {nearest}.")
