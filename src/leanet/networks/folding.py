"""Faster prediction: fold BatchNorm of a trained network into the convolution before it."""

from __future__ import annotations

import copy
from itertools import pairwise
from typing import TypeGuard, TypeVar

from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from leanet.networks.basic_block import BasicBlock

Network = TypeVar("Network", bound=nn.Module)

BATCH_NORM_ACT = "timm.layers.norm_act.BatchNormAct2d"
"""BatchNorm and then an activation, which folding leaves."""

CONV_SAME = "timm.layers.conv2d_same.Conv2dSame"
"""A convolution with TensorFlow's padding of zeros."""

IN_ORDER = {
    "timm.models._efficientnet_blocks.DepthwiseSeparableConv",
    "timm.models._efficientnet_blocks.InvertedResidual",
    "timm.models.resnet.BasicBlock",
    "timm.models.resnet.Bottleneck",
}
"""Blocks whose convolutions feed the module that they list next, and nothing else."""


def fold_batch_norm(network: Network) -> Network:
    """A copy in evaluation mode with less BatchNorm; its predictions are equal up to rounding.

    It folds only what is known: leanet's own blocks, plain sequences, and timm's blocks of EfficientNet and ResNet.
    The copy is for prediction only: it cannot be trained, and its weights do not fit a checkpoint.
    """
    folded = copy.deepcopy(network).eval()
    for module in list(folded.modules()):
        if _runs_in_order(module):
            for (name, layer), (next_name, norm) in pairwise(_children(module)):
                if _is_plain(layer) and _is_batch_norm(norm):
                    fused = fuse_conv_bn_eval(layer, norm, transpose=isinstance(layer, nn.ConvTranspose2d))
                    setattr(module, name, fused)
                    setattr(module, next_name, norm.act if _name(norm) == BATCH_NORM_ACT else nn.Identity())
        elif isinstance(module, BasicBlock) and isinstance(module.norm, nn.BatchNorm2d):
            module.second = fuse_conv_bn_eval(module.second, module.norm)
            module.norm = nn.Identity()
    return folded


def _runs_in_order(module: nn.Module) -> bool:
    is_sequence = isinstance(module, nn.Sequential) and type(module).forward is nn.Sequential.forward
    return is_sequence or _name(module) in IN_ORDER


def _children(module: nn.Module) -> list[tuple[str, nn.Module]]:
    """The modules in it by name, one that is used twice included: it separates others in both places."""
    return [(k, v) for k, v in module.named_modules(remove_duplicate=False) if k and "." not in k]


def _is_batch_norm(norm: nn.Module) -> TypeGuard[nn.BatchNorm2d]:
    """Whether it is BatchNorm as we know it: other subclasses may add more."""
    return type(norm) is nn.BatchNorm2d or _name(norm) == BATCH_NORM_ACT


def _is_plain(layer: nn.Module) -> TypeGuard[nn.Conv2d | nn.ConvTranspose2d]:
    """Whether a layer convolves with its weight as it is; other packages' may standardize it first."""
    convolves = isinstance(layer, nn.Conv2d | nn.ConvTranspose2d)
    return convolves and (_name(layer) == CONV_SAME or _name(layer).startswith(("leanet.", "torch.")))


def _name(module: nn.Module) -> str:
    """The class by name, which needs no import of its package."""
    return f"{type(module).__module__}.{type(module).__qualname__}"
