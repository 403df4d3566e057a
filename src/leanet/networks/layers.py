"""TensorFlow-compatible layers: 'same' padding, BatchNorm's constants, flattening order, initial weights."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

TRUNCATED_STD = 0.87962566103423978
"""Standard deviation of a standard normal distribution truncated at -2 and 2."""

LEAK = 0.2
"""Slope of every LeakyReLU below zero."""


class SameConv2d(nn.Conv2d):
    """Convolution with TensorFlow's 'same' padding: (N, inputs, H, W) -> (N, outputs, H / stride, W / stride).

    The stride must divide H and W. The total padding is kernel - stride; if that is odd, the extra row and column
    go to the bottom and right.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        before, self.extra = divmod(max(kernel - stride, 0), 2)
        super().__init__(inputs, outputs, kernel, stride, padding=before, groups=groups)

    def forward(self, x: Tensor) -> Tensor:
        # F.pad makes a copy, so the convolution itself pads the symmetric part.
        return super().forward(F.pad(x, (0, self.extra, 0, self.extra)) if self.extra else x)


class DoublingConvTranspose2d(nn.ConvTranspose2d):
    """2x2 transposed convolution of stride 2: (N, inputs, H, W) -> (N, outputs, 2H, 2W).

    Its windows do not overlap, so it equals a 1x1 convolution to four times the channels, rearranged as 2x2 pixels.
    That form trains in two thirds of the time; for prediction, the plain form is faster.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, 2, 2)

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        if not self.training or self.bias is None:
            return super().forward(x, output_size)
        n, inputs, h, w = x.shape
        kernel = self.weight.permute(2, 3, 1, 0).reshape(-1, inputs, 1, 1)
        quarters = F.conv2d(x, kernel, self.bias.repeat(4)).permute(0, 2, 3, 1).reshape(n, h, w, 2, 2, -1)
        return quarters.permute(0, 1, 3, 2, 4, 5).reshape(n, 2 * h, 2 * w, -1).permute(0, 3, 1, 2)


def same_max_pool() -> nn.MaxPool2d:
    """3x3 max-pool of stride 2 with TensorFlow's 'same' padding: (N, C, H, W) -> (N, C, H / 2, W / 2), H, W even.

    With the output size rounded up, the last window extends past the bottom and right, where 'same' pads.
    """
    return nn.MaxPool2d(3, 2, ceil_mode=True)


def batch_norm(channels: int, momentum: float = 0.01) -> nn.BatchNorm2d:
    """BatchNorm with Keras' epsilon; the momentum is PyTorch's, one minus Keras'."""
    return nn.BatchNorm2d(channels, eps=1e-3, momentum=momentum)


def conv_bn_relu(inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    """Convolution, BatchNorm, ReLU: (N, inputs, H, W) -> (N, outputs, H / stride, W / stride)."""
    return nn.Sequential(SameConv2d(inputs, outputs, kernel, stride, groups), batch_norm(outputs), nn.ReLU())


class FlattenHWC(nn.Module):
    """(N, C, H, W) -> (N, H * W * C): the order in which TensorFlow's dense layers read features."""

    def forward(self, x: Tensor) -> Tensor:
        return x.permute(0, 2, 3, 1).flatten(1)


class GlobalAverage(nn.Module):
    """Mean over height and width: (N, C, H, W) -> float32 (N, C)."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean((2, 3), dtype=torch.float32)


class _FullPrecision(nn.Module):
    """A layer that computes in float32 even under autocast: bfloat16 logits are too coarse to rank images."""

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor
        if not torch.amp.is_autocast_available(x.device.type):  # the meta device, which has shapes only
            y = super().forward(x)
            return y
        with torch.autocast(x.device.type, enabled=False):
            y = super().forward(x.float())
        return y


class Logits(_FullPrecision, nn.Linear):
    """The final dense layer: (N, inputs) -> float32 (N, outputs)."""


class PointwiseLogits(_FullPrecision, nn.Conv2d):
    """The final 1x1 convolution: (N, inputs, 1, 1) -> float32 (N, outputs, 1, 1)."""


def he_normal_(weight: Tensor) -> Tensor:
    """Fill a weight (outputs, ...) in place with Keras' He-normal: truncated at 2 sigma, variance 2 / fan_in.

    Source: He et al. (2015), arXiv 1502.01852, eq. 10; tf.keras.initializers.HeNormal.
    """
    std = math.sqrt(2 / weight[0].numel()) / TRUNCATED_STD
    return nn.init.trunc_normal_(weight, std=std, a=-2 * std, b=2 * std)


def initialise(network: nn.Module, convolution: Callable[[Tensor], Tensor]) -> None:
    """Draw a network's initial weights from torch's global generator, as Keras would.

    Dense layers are Glorot-uniform, biases zero.

    Args:
        convolution: fills the kernel of a plain or transposed convolution in place. For a transposed kernel
            (in, out, h, w), torch takes fan_in from the out axis, as Keras does.
    """
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            (nn.init.xavier_uniform_ if isinstance(layer, nn.Linear) else convolution)(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
