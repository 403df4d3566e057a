"""Faster prediction: fold BatchNorm of a trained network into the convolution before it."""

from __future__ import annotations

import copy
from itertools import pairwise
from typing import TypeGuard, TypeVar

from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from leanet.networks.basic_block import BasicBlock

Network = TypeVar("Network", bound=nn.Module)


def fold_batch_norm(network: Network) -> Network:
    """A copy in evaluation mode with less BatchNorm; its predictions are equal up to rounding.

    It folds only what is known: leanet's own blocks and plain sequences. The copy is for prediction only: it cannot
    be trained, and its weights do not fit a checkpoint.
    """
    folded = copy.deepcopy(network).eval()
    for module in list(folded.modules()):
        if isinstance(module, nn.Sequential) and type(module).forward is nn.Sequential.forward:
            for i, (layer, norm) in enumerate(pairwise(list(module))):
                if _is_plain(layer) and type(norm) is nn.BatchNorm2d:
                    module[i] = fuse_conv_bn_eval(layer, norm, transpose=isinstance(layer, nn.ConvTranspose2d))
                    module[i + 1] = nn.Identity()
        elif isinstance(module, BasicBlock) and isinstance(module.norm, nn.BatchNorm2d):
            module.second = fuse_conv_bn_eval(module.second, module.norm)
            module.norm = nn.Identity()
    return folded


def _is_plain(layer: nn.Module) -> TypeGuard[nn.Conv2d | nn.ConvTranspose2d]:
    """Whether a layer convolves with its weight as it is; other packages' may standardize it first."""
    convolves = isinstance(layer, nn.Conv2d | nn.ConvTranspose2d)
    return convolves and type(layer).__module__.startswith(("leanet.", "torch."))
