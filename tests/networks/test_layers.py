from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from leanet.networks.layers import (
    DoublingConvTranspose2d,
    FlattenHWC,
    SameConv2d,
    he_normal_,
    initialise,
    same_max_pool,
)


def tensorflow_padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """Rows before and after, by TensorFlow's published formula for 'same'."""
    total = max((math.ceil(size / stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


@pytest.mark.parametrize("size", [8, 12])
@pytest.mark.parametrize(("kernel", "stride"), [(1, 1), (1, 2), (3, 1), (3, 2), (4, 1), (4, 2), (5, 2), (7, 2)])
def test_same_convolution_pads_like_tensorflow(size: int, kernel: int, stride: int) -> None:
    layer = SameConv2d(2, 3, kernel, stride).double()
    x = torch.rand(1, 2, size, size, dtype=torch.float64)
    padded = F.pad(x, tensorflow_padding(size, kernel, stride) * 2)
    torch.testing.assert_close(layer(x), F.conv2d(padded, layer.weight, layer.bias, stride))


@pytest.mark.parametrize("size", [4, 8, 12])
def test_same_max_pool_pads_like_tensorflow(size: int) -> None:
    x = -torch.rand(1, 2, size, size)
    padded = F.pad(x, tensorflow_padding(size, 3, 2) * 2, value=-math.inf)
    assert torch.equal(same_max_pool()(x), F.max_pool2d(padded, 3, 2))


def test_doubling_layer_is_pytorchs_transposed_convolution_in_training_too() -> None:
    layer = DoublingConvTranspose2d(3, 5).double()
    x = torch.rand(2, 3, 4, 6, dtype=torch.float64, requires_grad=True)
    upstream = torch.rand(2, 5, 8, 12, dtype=torch.float64)
    expected = F.conv_transpose2d(x, layer.weight, layer.bias, stride=2)
    inputs = [x, *layer.parameters()]
    torch.testing.assert_close(layer(x), expected)
    torch.testing.assert_close(layer.eval()(x), expected)
    torch.testing.assert_close(
        torch.autograd.grad(layer.train()(x), inputs, upstream), torch.autograd.grad(expected, inputs, upstream)
    )


def test_flatten_reads_channels_fastest() -> None:
    x = torch.arange(12.0).view(1, 3, 2, 2)
    assert FlattenHWC()(x).tolist() == [[0, 4, 8, 1, 5, 9, 2, 6, 10, 3, 7, 11]]


def test_he_normal_is_truncated_and_keeps_its_variance() -> None:
    torch.manual_seed(0)
    weight = he_normal_(torch.empty(500, 40, 3, 3))
    std = math.sqrt(2 / (40 * 9))
    assert weight.std().item() == pytest.approx(std, rel=0.01)
    assert weight.abs().max().item() < 2 * std / 0.8796


def test_transposed_kernels_take_fan_in_from_their_out_axis() -> None:
    layer = nn.ConvTranspose2d(256, 32, 2)
    initialise(layer, lambda weight: nn.init.kaiming_uniform_(weight, nonlinearity="relu"))
    assert layer.weight.abs().max().item() == pytest.approx(math.sqrt(6 / (32 * 4)), rel=0.01)
    assert not layer.bias.any() if layer.bias is not None else False
