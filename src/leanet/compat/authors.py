"""Load the authors' Keras weights into our networks, and predict in the authors' format.

Source: the authors' tf.keras program for arXiv 2109.05493.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from leanet.compat.keras_graph import graph_of
from leanet.errors import UserError
from leanet.networks.contract import Colorizer
from leanet.networks.leanet import LEANet
from leanet.networks.registry import build_colorizer, build_leanet, find_adn

THEIR_ADNS, THEIR_CAANS = ("VGG16", "ResNet18", "CNN"), ("MobileNet", "ResNet", "Direct")
THEIR_COLORIZERS = ("Unet", "SegNet", "AE")
"""The networks of the authors' program."""

AUTHORS_SIZE = 256
"""Side of the authors' images in pixels."""

Arrays = Sequence[NDArray[Any]]

Network = TypeVar("Network", bound=nn.Module)


@dataclass(frozen=True)
class Slot:
    """The destination of one Keras array.

    Attributes:
        place: name of our weight, for messages.
        tensor: our weight.
        to_ours: permutation from the Keras array's axes to ours; empty if they are equal.
    """

    place: str
    tensor: Tensor
    to_ours: tuple[int, ...] = ()

    @property
    def keras_shape(self) -> tuple[int, ...]:
        """Shape of the Keras array."""
        ours = tuple(self.tensor.shape)
        return tuple(ours[self.to_ours.index(axis)] for axis in range(len(ours))) if self.to_ours else ours

    def fill(self, array: NDArray[Any]) -> None:
        """Copy an array of this shape into our weight."""
        values = torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32))
        self.tensor.copy_(values.permute(self.to_ours) if self.to_ours else values)


def from_keras_arrays(adn: str, caan: str, attention_point: int, arrays: Arrays) -> LEANet:
    """A LEA-Net with the weights of one of the authors' models.

    Args:
        adn: VGG16, ResNet18 or CNN.
        caan: MobileNet, ResNet or Direct.
        attention_point: 1..5.
        arrays: every weight, in the order of Keras' `model.layers` and in Keras' layouts (kernels h, w, in, out).
    Returns:
        The model in evaluation mode, for images of the size that the arrays were trained on (256 px if the weights
        do not depend on it).
    Raises:
        UserError: an unknown name or point, or arrays whose count, shape or type is not this pair's.
    """
    check_names(adn, caan, attention_point)
    model = _empty(lambda: build_leanet(adn, caan, [attention_point], _image_size(adn, arrays)))
    graph = graph_of(model)
    nodes = [graph.nodes[at] for at in graph.in_keras_order()]
    slots = [slot for node in nodes if node.module is not None for slot in _slots(node.place, node.module)]
    _fill(slots, arrays, f"{adn} with {caan} at attention point {attention_point}")
    return model.eval()


def colorizer_from_keras_arrays(name: str, arrays: Arrays) -> Colorizer:
    """A colorizer with the weights of one of the authors'.

    Args:
        name: Unet, SegNet or AE.
        arrays: every weight, layer by layer, in Keras' layouts (kernels h, w, in, out).
    Returns:
        The colorizer in evaluation mode, for images of 256 px, the only size that the authors' program makes.
    Raises:
        UserError: an unknown name, or arrays whose count, shape or type is not this colorizer's.
    """
    _check_name("colorizer", name, THEIR_COLORIZERS)
    model = _empty(lambda: build_colorizer(name, AUTHORS_SIZE))
    slots = [slot for place, module in model.named_modules() for slot in _slots(place, module)]
    _fill(slots, arrays, name)
    return model.eval()


@torch.inference_mode()
def predict(model: LEANet, image_nhwc: NDArray[Any], anomaly_map_nhwc: NDArray[Any]) -> list[NDArray[np.float64]]:
    """Predict in the authors' format.

    Args:
        model: a LEA-Net; it is put into evaluation mode.
        image_nhwc: (N, H, W, 3), sRGB in [0, 1].
        anomaly_map_nhwc: (N, H, W, 1), not scaled here; the authors first divide each map by its maximum.
    Returns:
        The activated pairs, each float64 (N, 2) in [0, 1]: the ADN's, then the CAAN's (none for Direct). A pair is
        a softmax or two sigmoids, as in the authors' network.
    Raises:
        UserError: other shapes, or values that are not finite.
    """
    image, anomaly_map = _batch("image", image_nhwc, 3), _batch("anomaly map", anomaly_map_nhwc, 1)
    if image.shape[0] != anomaly_map.shape[0] or image.shape[2:] != anomaly_map.shape[2:]:
        raise UserError(
            f"anomaly map: expected the images' number, height and width {np.shape(image_nhwc)[:3]}, "
            f"found {np.shape(anomaly_map_nhwc)[:3]}."
        )
    output = model.eval()(image, anomaly_map)
    pairs = [activate(output.adn_logits, model.adn.activation)]
    if model.caan is not None and output.caan_logits is not None:
        pairs.append(activate(output.caan_logits, model.caan.activation))
    return [pair.numpy() for pair in pairs]


def activate(logits: Tensor, activation: str) -> Tensor:
    """Two logits (N, 2) -> the authors' output, float64 (N, 2): softmax over both, or a sigmoid of each.

    In float32, a probability near 1 is too coarse for the logarithm in the loss.
    """
    wide = logits.double()
    return wide.softmax(1) if activation == "softmax" else wide.sigmoid()


def _empty(build: Callable[[], Network]) -> Network:
    """A network to fill: drawing the initial weights of a VGG16 takes seconds."""
    with torch.device("meta"):
        network = build()
    network.to_empty(device="cpu")
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.reset_running_stats()  # no array holds its count of batches
    return network


def _slots(place: str, module: nn.Module) -> Iterator[Slot]:
    """The Keras arrays of one layer, in Keras' order; none for a layer without weights."""
    if isinstance(module, nn.BatchNorm2d):
        assert module.running_mean is not None
        assert module.running_var is not None
        yield Slot(f"{place} gamma", module.weight.data)
        yield Slot(f"{place} beta", module.bias.data)
        yield Slot(f"{place} moving_mean", module.running_mean)
        yield Slot(f"{place} moving_variance", module.running_var)
    elif isinstance(module, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
        depthwise = isinstance(module, nn.Conv2d) and module.groups > 1
        # Keras: dense in, out; convolution h, w, in, out; transposed h, w, out, in; depthwise h, w, channels, 1.
        to_ours = (1, 0) if isinstance(module, nn.Linear) else (2, 3, 0, 1) if depthwise else (3, 2, 0, 1)
        yield Slot(f"{place} kernel", module.weight.data, to_ours)
        assert module.bias is not None
        yield Slot(f"{place} bias", module.bias.data)


def _fill(slots: Sequence[Slot], arrays: Arrays, what: str) -> None:
    if len(arrays) != len(slots):
        raise UserError(f"{what}: expected {len(slots)} arrays of weights, found {len(arrays)}.")
    for index, (slot, array) in enumerate(zip(slots, arrays, strict=True)):
        if tuple(np.shape(array)) != slot.keras_shape:
            raise UserError(
                f"{what}: array {index} ({slot.place}) must have shape {slot.keras_shape}, found {np.shape(array)}."
            )
        if np.asarray(array).dtype.kind != "f" or not np.isfinite(array).all():
            raise UserError(f"{what}: array {index} ({slot.place}) must hold finite floats, found something else.")
        slot.fill(np.asarray(array))


def _image_size(adn: str, arrays: Arrays) -> int:
    """Side of the images that the arrays were trained on, from the first dense kernel after the flattening."""
    if adn == "ResNet18":
        return AUTHORS_SIZE
    channels, stride = find_adn(adn).channels[-1], find_adn(adn).strides[-1]
    widths = [np.shape(a)[0] for a in arrays if len(np.shape(a)) == 2 and np.shape(a)[0] >= 4 * channels]
    side = math.isqrt(widths[0] // channels) * stride if widths else AUTHORS_SIZE
    return side if 64 <= side <= 512 else AUTHORS_SIZE


def check_names(adn: str, caan: str, attention_point: int) -> None:
    """Raise UserError unless this is one of the nine pairs at one of the points 1..5."""
    _check_name("ADN", adn, THEIR_ADNS)
    _check_name("CAAN", caan, THEIR_CAANS)
    if attention_point not in range(1, 6):
        raise UserError(f"attention point {attention_point}: expected one of 1 2 3 4 5.")


def _check_name(kind: str, name: str, known: Sequence[str] | dict[str, Any]) -> None:
    if name not in known:
        raise UserError(f"{kind} {name}: expected one of {', '.join(known)}.")


def _batch(what: str, array: NDArray[Any], channels: int) -> Tensor:
    if np.ndim(array) != 4 or np.shape(array)[3] != channels:
        raise UserError(f"{what}: expected shape (N, H, W, {channels}), found {np.shape(array)}.")
    if not np.isfinite(array).all():
        raise UserError(f"{what}: expected finite numbers, found NaN or infinity.")
    return torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32)).permute(0, 3, 1, 2)
