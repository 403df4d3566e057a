"""The baseline: plain float32 PyTorch, contiguous, eager; scikit-image for color; files decoded at every use.

It imports nothing from leanet: the ratios can be measured anywhere, and changes to leanet cannot affect it. The
caller passes the networks, whose architecture is ours.
"""

from collections.abc import Callable
from types import MethodType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from skimage import color
from torch import Tensor, nn
from torch.nn import functional as F

Array = NDArray[Any]  # float32; images are (H, W, 3), in [0, 1] where they are RGB
LOW, SPAN = np.array([0, 128, 128], np.float32), np.array([100, 255, 255], np.float32)
delta_e: Callable[..., Array] = color.deltaE_ciede2000  # scikit-image has no types


def as_published(network: nn.Module) -> nn.Module:
    """The network with PyTorch's layers in place of our faster equivalents."""
    for layer in network.modules():
        if isinstance(layer, nn.ConvTranspose2d):
            layer.forward = MethodType(nn.ConvTranspose2d.forward, layer)  # type: ignore[method-assign]
    return network


def detector_step(
    model: nn.Module, adam: torch.optim.Adam, files: list[str], side: int, maps: Array, labels: Tensor
) -> None:
    scaled = torch.from_numpy(maps / maps.max((1, 2), keepdims=True))[:, None]
    output = model(to_batch([decode(file, side) for file in files]), scaled)
    update(adam, F.cross_entropy(output.adn_logits, labels) + F.cross_entropy(output.caan_logits, labels))


def colorizer_step(model: nn.Module, adam: torch.optim.Adam, files: list[str], side: int) -> None:
    labs = [color.rgb2lab(fancy_pca(decode(file, side))) for file in files]
    coded = to_batch([(lab + LOW) / SPAN for lab in labs])
    update(adam, F.mse_loss(model(coded[:, :1].contiguous()), coded[:, 1:].contiguous()))


def lab_and_delta_e(rgb: Array, recoloured_lab: Array) -> tuple[Array, Array]:
    lab = color.rgb2lab(rgb)
    return lab, delta_e(lab, recoloured_lab)


@torch.no_grad()
def predict_files(
    colorizer: nn.Module, detector: nn.Module, files: list[str], side: int, unit: float
) -> tuple[Array, Array]:
    images = [decode(file, side) for file in files]
    labs = [color.rgb2lab(image) for image in images]
    lightness = to_batch([(lab + LOW) / SPAN for lab in labs])[:, :1].contiguous()
    coded = torch.cat([lightness, colorizer.eval()(lightness)], 1).permute(0, 2, 3, 1).numpy()
    maps = np.stack([delta_e(lab, c * SPAN - LOW) for lab, c in zip(labs, coded, strict=True)])
    output = detector.eval()(to_batch(images), torch.from_numpy(maps / unit)[:, None])
    return output.adn_logits.softmax(1)[:, 1].numpy(), maps


def decode(file: str, side: int) -> Array:
    with Image.open(file) as image:
        return np.asarray(image.convert("RGB").resize((side, side), Image.Resampling.BILINEAR), np.float32) / 255


def fancy_pca(rgb: Array) -> Array:
    values, vectors = np.linalg.eigh(np.cov(rgb.reshape(-1, 3).T))
    shift = (vectors @ values * np.random.default_rng().normal(0, 0.08)).astype(np.float32)
    shifted: Array = ((rgb + shift).clip(0, 1) * 255).astype(np.uint8) / np.float32(255)
    return shifted


def to_batch(images: list[Array]) -> Tensor:
    return torch.from_numpy(np.stack(images).transpose(0, 3, 1, 2)).contiguous()


def update(adam: torch.optim.Adam, loss: Tensor) -> None:
    adam.zero_grad()
    torch.autograd.backward(loss)
    adam.step()
