"""Networks to compare external attention with: an ADN with the map as a fourth channel, or with self-attention.

Each is made by a `join` of `leanet.register_adn`, from a new ADN. Its own weights are drawn after the ADN's, which
are therefore those of the plain ADN with the same seed.
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from timm.layers.cbam import CbamModule
from timm.layers.squeeze_excite import SEModule
from torch import Tensor, nn

from leanet.networks.basic_block import BasicBlock
from leanet.networks.contract import ADN
from leanet.networks.layers import GlobalAverage, Logits, batch_norm, he_normal_, initialise
from leanet.networks.leanet import LEANet, LEANetOutput

SQUEEZE_EXCITATION: type[nn.Module] = SEModule
"""Source: Hu et al. (2018), arXiv 1709.01507."""

CBAM: type[nn.Module] = CbamModule
"""Source: Woo et al. (2018), arXiv 1807.06521."""


class FourthChannel(LEANet):
    """An ADN whose first convolution also reads the anomaly map; at first it is the plain ADN."""

    def __init__(self, adn: ADN) -> None:
        in_first_stage = ((n, m) for n, m in adn.named_modules() if n.startswith("stages.0"))
        name, convolution = next((n, m) for n, m in in_first_stage if isinstance(m, nn.Conv2d))
        adn.set_submodule(name, ConvolutionWithMap(convolution))
        super().__init__(adn, None, ())
        self.first = f"adn.{name}"

    def forward(self, image: Tensor, anomaly_map: Tensor | None = None) -> LEANetOutput:
        """As `LEANet.forward`; without a map, the ADN sees the image alone."""
        # A stage takes the image alone, and may normalize it: the map reaches the convolution beside the stage.
        self.get_submodule(self.first).anomaly_map = anomaly_map  # type: ignore[assignment]  # no parameter
        return super().forward(image)


class ConvolutionWithMap(nn.Module):
    """A convolution of images with the anomaly map as one more channel, whose weights are 0 at first.

    A convolution of four channels is the sum of one of three and one of one.

    forward: the image, float (N, 3, H, W) -> as the image's convolution.

    Args:
        image: the image's convolution, which it keeps.

    Attributes:
        anomaly_map: float (N, 1, H, W), of the images that `forward` takes next; None: no such channel.
    """

    def __init__(self, image: nn.Conv2d) -> None:
        super().__init__()
        self.image = image
        self.map = copy.deepcopy(image)
        self.map.in_channels = 1
        self.map.weight = nn.Parameter(torch.zeros_like(image.weight[:, :1]))
        self.map.bias = None
        self.anomaly_map: Tensor | None = None

    def forward(self, image: Tensor) -> Tensor:
        convolved: Tensor = self.image(image)
        return convolved if self.anomaly_map is None else convolved + self.map(self.anomaly_map)


def with_layer(layer: Callable[[int], nn.Module], adn: ADN, point: int) -> LEANet:
    """An ADN with a layer of self-attention after the stage of an attention point.

    Args:
        layer: channels -> the layer, SQUEEZE_EXCITATION or CBAM.
    """
    i = adn.points.index(point)
    adn.stages[i] = nn.Sequential(adn.stages[i], layer(adn.channels[i]))
    return LEANet(adn, None, ())


class AttentionBranch(LEANet):
    """An attention branch network: a branch classifies the image too, and its map multiplies the ADN's features.

    f' = f + f * M, where M comes from the features that the branch classifies by. The branch's logits take the
    place of a CAAN's: their loss is added, and the ADN's logits answer.

    The branch has two basic blocks of as many channels as the ADN has at the point; the published one repeats the
    ADN's next stage, without its stride.

    Args:
        point: the attention point where the branch leaves the ADN.
    Source: Fukui et al. (2019), arXiv 1812.10025.
    """

    def __init__(self, adn: ADN, point: int) -> None:
        super().__init__(adn, None, ())
        self.point = point
        channels = adn.channels[adn.points.index(point)]
        self.branch = nn.Sequential(
            BasicBlock(channels, channels),
            BasicBlock(channels, channels),
            batch_norm(channels),
            nn.Conv2d(channels, 2, 1, bias=False),
            batch_norm(2),
            nn.ReLU(),
        )
        self.to_map = nn.Sequential(nn.Conv2d(2, 1, 3, padding=1, bias=False), batch_norm(1), nn.Sigmoid())
        self.to_logits = nn.Sequential(GlobalAverage(), Logits(2, 2, bias=False))
        for part in (self.branch, self.to_map, self.to_logits):
            initialise(part, he_normal_)

    def forward(self, image: Tensor, anomaly_map: Tensor | None = None) -> LEANetOutput:  # noqa: ARG002
        """As `LEANet.forward`; it ignores the anomaly map."""
        x = image
        for point, stage in zip(self.adn.points, self.adn.stages, strict=True):
            x = stage(x)
            if point == self.point:
                evidence = self.branch(x)
                attention = self.to_map(evidence).to(x.dtype)
                x = x + x * attention
        return LEANetOutput(self.adn.head(x), self.to_logits(evidence), {self.point: attention})
