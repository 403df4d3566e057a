"""The residual block of ResNet18, shared by ADN and CAAN."""

from __future__ import annotations

from torch import Tensor, nn

from leanet.networks.layers import SameConv2d, batch_norm, conv_bn_relu


class BasicBlock(nn.Module):
    """Two 3x3 convolutions beside a skip connection: (N, inputs, H, W) -> (N, outputs, H / stride, W / stride).

    Unlike torchvision's, a strided skip is a 1x1 convolution without BatchNorm.

    Source: He et al. (2016), arXiv 1512.03385, fig. 2, in the LEA-Net authors' variant.
    """

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        # The registration order is that of the authors' graph: the skip comes before the last BatchNorm.
        self.first = conv_bn_relu(inputs, outputs, 3, stride)
        self.second = SameConv2d(outputs, outputs, 3)
        self.skip = nn.Identity() if stride == 1 else SameConv2d(inputs, outputs, 1, stride)
        self.norm: nn.Module = batch_norm(outputs)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.skip(x) + self.norm(self.second(self.first(x)))
        return y.relu()
