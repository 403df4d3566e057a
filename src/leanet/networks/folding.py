"""Faster prediction: fold every BatchNorm of a trained network into the convolution before it."""

from __future__ import annotations

import copy
from itertools import pairwise
from typing import TypeVar

from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from leanet.networks.basic_block import BasicBlock

Network = TypeVar("Network", bound=nn.Module)


def fold_batch_norm(network: Network) -> Network:
    """A copy in evaluation mode without BatchNorm; its predictions are equal up to rounding.

    The copy is for prediction only: it cannot be trained, and its weights do not fit a checkpoint.
    """
    folded = copy.deepcopy(network).eval()
    for module in list(folded.modules()):
        if isinstance(module, nn.Sequential):
            for i, (layer, norm) in enumerate(pairwise(list(module))):
                if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d) and type(norm) is nn.BatchNorm2d:
                    module[i] = fuse_conv_bn_eval(layer, norm, transpose=isinstance(layer, nn.ConvTranspose2d))
                    module[i + 1] = nn.Identity()
        elif isinstance(module, BasicBlock) and isinstance(module.norm, nn.BatchNorm2d):
            module.second = fuse_conv_bn_eval(module.second, module.norm)
            module.norm = nn.Identity()
    return folded
