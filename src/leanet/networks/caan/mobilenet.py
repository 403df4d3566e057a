"""A small MobileNetV3 that reads the anomaly map."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn

from leanet.networks.contract import CAAN
from leanet.networks.layers import GlobalAverage, PointwiseLogits, SameConv2d, batch_norm, conv_bn_relu, initialise
from leanet.networks.registry import register_caan


class Row(NamedTuple):
    """One bottleneck of MobileNetV3-small."""

    outputs: int
    kernel: int
    expansion: int
    stride: int
    squeeze: bool


STAGES = (
    (Row(16, 3, 16, 2, True),),
    (Row(24, 3, 72, 2, False), Row(24, 3, 88, 1, False)),
    (
        Row(40, 5, 96, 2, True),
        Row(40, 5, 240, 1, True),
        Row(40, 5, 240, 1, True),
        Row(48, 5, 120, 1, True),
        Row(48, 5, 144, 1, True),
    ),
    (Row(96, 5, 288, 2, True), Row(96, 5, 576, 1, True), Row(96, 5, 576, 1, True)),
)
"""The bottlenecks before attention points 2..5; each point is the last output at its resolution."""


@register_caan("MobileNet")
class MobileNet(CAAN):
    """MobileNetV3-small with ReLU throughout, for one input channel.

    Source: Howard et al. (2019), arXiv 1905.02244, table 2, in the LEA-Net authors' variant.
    """

    activation = "clipped sigmoid"
    ends_in_relu = False  # its bottlenecks end in BatchNorm
    channels = (16, 16, 24, 48, 96)

    def __init__(self) -> None:
        super().__init__()
        stages = [conv_bn_relu(1, 16, 3, stride=2)]
        inputs = 16
        for rows in STAGES:
            blocks = []
            for row in rows:
                blocks.append(Bottleneck(inputs, row))
                inputs = row.outputs
            stages.append(nn.Sequential(*blocks))
        self.stages = nn.ModuleList(stages)
        self.head = nn.Sequential(
            conv_bn_relu(96, 576, 1),
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(576, 1280, 1),
            nn.ReLU(),
            PointwiseLogits(1280, 2, 1),
            nn.Flatten(),
        )
        initialise(self, nn.init.xavier_uniform_)


class Bottleneck(nn.Module):
    """Expand, filter depthwise, squeeze and excite, project, and add the input if the shapes match.

    (N, inputs, H, W) -> (N, outputs, H / stride, W / stride).
    """

    def __init__(self, inputs: int, row: Row) -> None:
        super().__init__()
        wide = row.expansion
        self.residual = row.stride == 1 and inputs == row.outputs
        self.body = nn.Sequential(
            conv_bn_relu(inputs, wide, 1),
            conv_bn_relu(wide, wide, row.kernel, row.stride, groups=wide),
            SqueezeExcite(wide) if row.squeeze else nn.Identity(),
            SameConv2d(wide, row.outputs, 1),
            batch_norm(row.outputs),
        )

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.body(x)
        return y + x if self.residual else y


class SqueezeExcite(nn.Module):
    """Weight each channel by a gate computed from all channels' means: (N, C, H, W) -> the same shape.

    Source: Hu et al. (2018), arXiv 1709.01507, without the bottleneck.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.squeeze = GlobalAverage()
        self.hidden = nn.Linear(channels, channels)
        self.gate = nn.Linear(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        gate = self.gate(self.hidden(self.squeeze(x)).relu())
        # Keras' hard sigmoid is steeper than PyTorch's, whose slope is 1/6.
        weight: Tensor = (0.2 * gate + 0.5).clamp(0, 1)
        return x * weight[:, :, None, None]
