"""A linear head on the pooled features of every block of a frozen ADN, and on its anomaly map."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from leanet.networks.contract import ADN
from leanet.networks.external_attention import at_resolution, pooled_attention
from leanet.networks.familiarity import Familiarity

ORIENTATIONS: tuple[tuple[int, ...], ...] = ((), (3,), (2,), (2, 3))
"""Axes to mirror an image along: features are averaged over these four."""

STATISTICS = 3
"""Numbers per channel, and of a map: mean, maximum, root mean square."""

FEATURES, ATTENTION, MAP = "features", "attention", "anomaly map"
"""The parts that a head reads, in this order; without anomaly maps the first alone."""

DEEP = 2
"""Evidence is of the last blocks at this many of the coarsest strides."""

TINY = 1e-6


class PooledHead(nn.Module):
    """Two logits of an image by one linear function of its parts, whose weights `set` replaces.

    Args:
        channels: of each block of the ADN.
        with_maps: whether it reads anomaly maps too.

    Attributes:
        familiarity: measures how far an image is from the training images; None if nothing was fitted.
    """

    def __init__(self, channels: Sequence[int], with_maps: bool = False) -> None:
        super().__init__()
        self.channels, self.with_maps = tuple(channels), with_maps
        sizes = sizes_of(channels)
        self.linear = nn.Linear(sum(sizes.values()) if with_maps else sizes[FEATURES], 1)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)
        self.familiarity: Familiarity | None = None

    def add_familiarity(self) -> Familiarity:
        """Make the part that measures how far an image is from the training images, for its weights."""
        self.familiarity = Familiarity(sizes_of(self.channels)[FEATURES])
        return self.familiarity

    @torch.no_grad()
    def set(self, weight: Tensor, bias: float) -> None:
        """Take over a linear function: weight (D,), of the parts in their order, and a bias."""
        self.linear.weight.copy_(weight[None])
        self.linear.bias.fill_(bias)

    def forward(
        self, adn: ADN, images: Tensor, maps: Tensor | None
    ) -> tuple[Tensor, Tensor | None, Tensor, tuple[Tensor, Tensor] | None]:
        """Logits, attention map, evidence, and what `familiarity` gives.

        Logits (N, 2) are symmetric about 0; the attention map (N, 1, h, w) is in [0, 1], if there is one; distance
        and components are None without `familiarity`.

        Args:
            adn: the network.
            images: float (N, 3, H, W), sRGB in [0, 1].
            maps: anomaly maps, float (N, 1, H, W), 0 or more.
        Raises:
            ValueError: no maps for a head that reads them.
        """
        if self.with_maps and maps is None:
            raise ValueError("no anomaly map: a head with attention needs one.")
        blocks = mirrored_blocks(adn, images)
        parts = {FEATURES: pooled_features(blocks)}
        attention = None
        if self.with_maps and maps is not None:
            parts |= {ATTENTION: attended_features(blocks, maps), MAP: map_statistics(maps)}
        logits = self.logits(torch.cat(list(parts.values()), 1))
        plain = [block[: len(images)] for block in blocks]
        if self.with_maps and maps is not None:
            finest = plain[deepest(plain)[0]]
            attention = pooled_attention(finest, at_resolution(maps, finest.shape[-1]))[1]
        place = None if self.familiarity is None else self.familiarity(parts[FEATURES])
        return logits, attention, self._evidence(plain, maps), place

    def evidence(self, adn: ADN, images: Tensor, maps: Tensor | None) -> Tensor:
        """What each place of the last blocks adds to the logit, float (N, 1, h, w); arguments as in `forward`.

        Its mean is what the means, root mean squares and attention of these blocks add, of the image as it is, not
        mirrored.
        """
        return self._evidence([block.float() for block in adn.blocks(images)], maps)

    def logits(self, descriptions: Tensor) -> Tensor:
        """Logits (N, 2) of the joined parts (N, D)."""
        with torch.autocast(descriptions.device.type, enabled=False):
            z = self.linear(descriptions.float())
        return torch.cat([-z / 2, z / 2], 1)

    def _evidence(self, blocks: Sequence[Tensor], maps: Tensor | None) -> Tensor:
        """Evidence at the finest of the last blocks' resolutions."""
        deep = deepest(blocks)
        weight, ends = self.linear.weight[0], torch.tensor(self.channels).cumsum(0).tolist()
        side, total = blocks[deep[0]].shape[-1], torch.zeros(())
        for i in deep:
            f, end, c = blocks[i], ends[i], self.channels[i]
            first = STATISTICS * (end - c)
            of_mean, of_rms = weight[first : first + c], weight[first + 2 * c : first + 3 * c]
            rms = f.square().mean((2, 3), keepdim=True).sqrt() + TINY
            each = _weighted(f, of_mean) + _weighted(f.square() / rms, of_rms)
            if self.with_maps and maps is not None:
                of_attention = weight[STATISTICS * ends[-1] + end - c : STATISTICS * ends[-1] + end]
                each = each + _weighted(pooled_attention(f, at_resolution(maps, f.shape[-1]))[0], of_attention)
            total = total + nn.functional.interpolate(each, size=(side, side), mode="bilinear")
        return total


def mirrored_blocks(adn: ADN, images: Tensor) -> list[Tensor]:
    """Each block's features, float32 (4 N, C, h, w), of images (N, 3, H, W) in the four orientations."""
    # The image as it is passes alone: an exported graph shares this pass with the feature map's.
    flipped = torch.cat([images.flip(axes) for axes in ORIENTATIONS[1:]])
    passes = zip(adn.blocks(images), adn.blocks(flipped), strict=True)
    return [torch.cat(both).float() for both in passes]


def pooled_features(blocks: Sequence[Tensor]) -> Tensor:
    """Mean, maximum and root mean square of every channel of `mirrored_blocks`, over the orientations: (N, D)."""
    return _averaged(torch.cat([_statistics(block) for block in blocks], 1))


def attended_features(blocks: Sequence[Tensor], maps: Tensor) -> Tensor:
    """The mean of every channel of `mirrored_blocks` after `pooled_attention` by maps (N, 1, S, S): (N, all C)."""
    guides: dict[int, Tensor] = {}
    for side in sorted({block.shape[-1] for block in blocks}, reverse=True):
        maps = at_resolution(maps, side)  # the largest of the largest values
        guides[side] = _mirrored(maps)
    pooled = [pooled_attention(block, guides[block.shape[-1]])[0].mean((2, 3)) for block in blocks]
    return _averaged(torch.cat(pooled, 1))


def map_statistics(maps: Tensor) -> Tensor:
    """Logarithms of mean, maximum and root mean square of maps (N, 1, S, S): (N, STATISTICS)."""
    return (_statistics(maps.float()) + TINY).log()


def sizes_of(channels: Sequence[int]) -> dict[str, int]:
    """Part -> how many numbers it has, for blocks with these channels."""
    total = sum(channels)
    return {FEATURES: STATISTICS * total, ATTENTION: total, MAP: STATISTICS}


def deepest(blocks: Sequence[Tensor]) -> list[int]:
    """The numbers of the last blocks at the DEEP coarsest strides, finest first."""
    last = {block.shape[-1]: i for i, block in enumerate(blocks)}
    return [last[side] for side in sorted(last)[:DEEP]][::-1]


def _weighted(features: Tensor, weight: Tensor) -> Tensor:
    """(N, C, h, w) and (C,) -> (N, 1, h, w), the weighted sum over the channels."""
    return (features * weight[None, :, None, None]).sum(1, keepdim=True)  # as a convolution, bfloat16 by autocast


def _mirrored(x: Tensor) -> Tensor:
    """X (N, C, H, W) in the four orientations, one after the other: (4 N, C, H, W)."""
    return torch.cat([x.flip(axes) if axes else x for axes in ORIENTATIONS])


def _averaged(of_orientations: Tensor) -> Tensor:
    return of_orientations.reshape(len(ORIENTATIONS), -1, of_orientations.shape[1]).mean(0)


def _statistics(features: Tensor) -> Tensor:
    """(N, C, h, w) -> (N, STATISTICS * C)."""
    return torch.cat([features.mean((2, 3)), features.amax((2, 3)), features.square().mean((2, 3)).sqrt()], 1)
