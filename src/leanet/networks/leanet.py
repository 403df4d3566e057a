"""LEA-Net: an ADN and a CAAN joined at the chosen attention points."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from leanet.networks.contract import ADN, CAAN, point_of
from leanet.networks.external_attention import (
    FORMS,
    at_resolution,
    external_attention,
    gated_attention,
    new_gate,
    pooled_attention,
)
from leanet.networks.pooled_head import PooledHead


@dataclass(frozen=True)
class LEANetOutput:
    """A LEA-Net's output for a batch.

    Attributes:
        adn_logits: (N, 2), normal and anomalous; the probability of an anomaly is sigmoid(logit1 - logit0).
        caan_logits: (N, 2), the same from the anomaly map alone; None without a CAAN that has logits.
        attention: attention point -> attention map (N, 1, h, w) in [0, 1].
        evidence: (N, 1, h, w), of a head: what each place adds to the logit, see `PooledHead.forward`; else None.
        distance, components: (N,) and (N, C), of a head with familiarity: from the training images, see
            `Familiarity`; else None.
    """

    adn_logits: Tensor
    caan_logits: Tensor | None
    attention: dict[int, Tensor]
    evidence: Tensor | None = None
    distance: Tensor | None = None
    components: Tensor | None = None


@dataclass(frozen=True)
class LEANetFeatures:
    """The ADN's features, for figures.

    Attributes:
        before, after: attention point -> the features (N, C, h, w) before and after attention; at a point without
            attention, both are the same tensor.
        guides: attention point -> the CAAN's features (N, G, h, w); empty without a CAAN.
        caan_logits, attention: as in LEANetOutput.
    """

    before: dict[int, Tensor]
    after: dict[int, Tensor]
    guides: dict[int, Tensor]
    caan_logits: Tensor | None
    attention: dict[int, Tensor]


class LEANet(nn.Module):
    """An ADN guided by a CAAN; without a CAAN, the plain ADN, which is the baseline.

    Args:
        adn: the network that classifies the image.
        caan: the network that reads the anomaly map; None for the baseline.
        attention_points: with a CAAN, one or more points that both networks have; without, none.
        attention: one of FORMS, see leanet.networks.external_attention. 'affine' has a BatchNorm at each point,
            which standardizes the guide's mean over the batch, then scales and shifts it; 'gated' a number.
        head: in place of the ADN's own head; only without a CAAN, since it reads the anomaly map itself.
    Raises:
        ValueError: a point that one of the networks lacks; a CAAN without points, or points without a CAAN; a
            network whose stages, strides and channels differ in number, or whose strides do not increase.
    Source: Katafuchi & Tokunaga (2021), arXiv 2109.05493.
    """

    def __init__(
        self,
        adn: ADN,
        caan: CAAN | None,
        attention_points: Sequence[int],
        attention: str = "published",
        head: PooledHead | None = None,
    ) -> None:
        super().__init__()
        if (caan is None) == bool(attention_points):
            raise ValueError("attention needs both: give a CAAN and at least one attention point, or neither.")
        if head is not None and caan is not None:
            raise ValueError("a pooled head reads the ADN alone: give it no CAAN.")
        networks = [network for network in (adn, caan) if network is not None]
        for network in networks:
            _check_lengths(network)
        shared = [point for point in adn.points if all(point in network.points for network in networks)]
        if any(point not in shared for point in attention_points):
            choice = ", ".join(map(str, shared))
            raise ValueError(f"attention points {list(attention_points)}: choose from {choice}.")
        if attention not in FORMS:
            raise ValueError(f"attention '{attention}': choose from {', '.join(FORMS)}.")
        self.adn = adn
        self.caan = caan
        self.head = head
        self.attention_points = tuple(sorted(set(attention_points)))
        self.attention = attention
        affine = self.attention_points if attention == "affine" else ()
        self.affine = nn.ModuleDict({str(point): nn.BatchNorm2d(1) for point in affine})
        gated = self.attention_points if attention == "gated" else ()
        self.gates = nn.ParameterDict({str(point): new_gate() for point in gated})

    def forward(self, image: Tensor, anomaly_map: Tensor | None = None) -> LEANetOutput:
        """Classify images.

        Args:
            image: float (N, 3, H, W), sRGB in [0, 1].
            anomaly_map: float (N, 1, H, W), 0 or more, scaled to about [0, 1]; the baseline ignores it.
        Raises:
            ValueError: no anomaly map for a CAAN.
        """
        if self.head is not None:
            logits, guide, evidence, place = self.head(self.adn, image, anomaly_map)
            point = point_of(image.shape[-1] // evidence.shape[-1])
            return LEANetOutput(logits, None, {} if guide is None else {point: guide}, evidence, *(place or ()))
        features = self.features(image, anomaly_map)
        last = features.after[self.adn.points[-1]]
        return LEANetOutput(self.adn.head(last), features.caan_logits, features.attention)

    def features(self, image: Tensor, anomaly_map: Tensor | None = None) -> LEANetFeatures:
        """The ADN's features at all its points, before and after attention; arguments as in forward.

        A head pools the features after attention; the next stage takes those before it.
        """
        if self.head is not None:
            return self._features_of_head(image, anomaly_map)
        caan_logits, guides = self._guide(anomaly_map)
        before: dict[int, Tensor] = {}
        after: dict[int, Tensor] = {}
        attention: dict[int, Tensor] = {}
        x = image
        for point, stage in zip(self.adn.points, self.adn.stages, strict=True):
            x = before[point] = stage(x)
            if point in self.attention_points:
                x, attention[point] = self._attend(point, x, guides[point])
            after[point] = x
        return LEANetFeatures(before, after, guides, caan_logits, attention)

    def _features_of_head(self, image: Tensor, anomaly_map: Tensor | None) -> LEANetFeatures:
        before: dict[int, Tensor] = {}
        after: dict[int, Tensor] = {}
        attention: dict[int, Tensor] = {}
        x = image
        for point, stage in zip(self.adn.points, self.adn.stages, strict=True):
            x = before[point] = after[point] = stage(x)
            if anomaly_map is not None and self.head is not None and self.head.with_maps:
                after[point], attention[point] = pooled_attention(x, at_resolution(anomaly_map, x.shape[-1]))
        return LEANetFeatures(before, after, {}, None, attention)

    def _attend(self, point: int, features: Tensor, guide: Tensor) -> tuple[Tensor, Tensor]:
        """The features after attention, and the attention map."""
        if self.attention == "pooled":
            return pooled_attention(features, guide)
        if self.attention == "gated":
            return gated_attention(features, guide, self.gates[str(point)])
        return external_attention(features, guide, self.affine[str(point)] if self.affine else None)

    def _guide(self, anomaly_map: Tensor | None) -> tuple[Tensor | None, dict[int, Tensor]]:
        if self.caan is None:
            return None, {}
        if anomaly_map is None:
            raise ValueError("no anomaly map: a LEA-Net with a CAAN needs one; the baseline does not.")
        logits, features = self.caan(anomaly_map)
        return logits, dict(zip(self.caan.points, features, strict=True))


def joined(outputs: Sequence[LEANetOutput]) -> LEANetOutput:
    """One output of several batches' outputs, at least one, of the same network."""
    first = outputs[0]
    return LEANetOutput(
        torch.cat([each.adn_logits for each in outputs]),
        None if first.caan_logits is None else _joined([each.caan_logits for each in outputs]),
        {point: torch.cat([each.attention[point] for each in outputs]) for point in first.attention},
        None if first.evidence is None else _joined([each.evidence for each in outputs]),
        None if first.distance is None else _joined([each.distance for each in outputs]),
        None if first.components is None else _joined([each.components for each in outputs]),
    )


def _joined(parts: Sequence[Tensor | None]) -> Tensor:
    return torch.cat([part for part in parts if part is not None])


def probability(logits: Tensor) -> Tensor:
    """Probability of an anomaly, sigmoid(logit1 - logit0): logits (N, 2) -> float64 (N,), in [0, 1].

    float64 keeps the ranks of near-equal scores. The result is on the CPU, because Apple's GPUs lack float64.
    """
    own = logits.float().cpu().double()
    return (own[:, 1] - own[:, 0]).sigmoid()


def _check_lengths(network: ADN | CAAN) -> None:
    """Raise ValueError unless a network has one stride and channel count per stage, and strides increase."""
    lengths = [len(network.stages), len(network.channels), len(network.strides)]
    name = type(network).__name__
    if len(set(lengths)) > 1:
        stages, channels, strides = lengths
        raise ValueError(
            f"{name}: {stages} stages, {channels} channels, {strides} strides: expected one per stage."
        )
    if list(network.strides) != sorted(set(network.strides)):
        raise ValueError(f"{name}: strides {network.strides}: each must be larger than the one before.")
