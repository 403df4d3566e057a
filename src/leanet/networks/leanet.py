"""LEA-Net: an ADN, a CAAN and the chosen attention points, put together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from leanet.networks.contract import ADN, CAAN, POINTS
from leanet.networks.external_attention import external_attention

FORMS = ("published", "affine")


@dataclass(frozen=True)
class LEANetOutput:
    """What a LEA-Net says about a batch.

    Attributes:
        adn_logits: (N, 2), normal and anomalous; the probability of an anomaly is sigmoid(logit1 - logit0).
        caan_logits: (N, 2) likewise, from the anomaly map alone; None without a CAAN that has logits.
        attention: attention point -> attention map (N, 1, h, w) in [0, 1].
    """

    adn_logits: Tensor
    caan_logits: Tensor | None
    attention: dict[int, Tensor]


@dataclass(frozen=True)
class LEANetFeatures:
    """The ADN's features, for figures.

    Attributes:
        before, after: the features (N, C, h, w) at points 1..5, before and after attention; where there is no
            attention, both are one tensor.
        guides: the CAAN's features at points 1..5; none without a CAAN.
        caan_logits, attention: as in LEANetOutput.
    """

    before: list[Tensor]
    after: list[Tensor]
    guides: list[Tensor]
    caan_logits: Tensor | None
    attention: dict[int, Tensor]


class LEANet(nn.Module):
    """An ADN that looks where a CAAN tells it to; without a CAAN it is the plain ADN, the baseline.

    Args:
        adn: the network that classifies the image.
        caan: the network that reads the anomaly map; None for the baseline.
        attention_points: one or more of 1..5 with a CAAN, none without.
        attention: 'published', or 'affine': at each point the guide's mean is standardised over the batch, then
            scaled and shifted by two learned numbers (BatchNorm), before the sigmoid.
    Raises:
        ValueError: a point outside 1..5, a CAAN without points, or points without a CAAN.
    Source: Katafuchi & Tokunaga (2021), arXiv 2109.05493.
    """

    def __init__(
        self, adn: ADN, caan: CAAN | None, attention_points: Sequence[int], attention: str = "published"
    ) -> None:
        super().__init__()
        if any(point not in POINTS for point in attention_points):
            raise ValueError(f"attention points {list(attention_points)}: choose from 1, 2, 3, 4, 5.")
        if (caan is None) == bool(attention_points):
            raise ValueError("attention needs both: give a CAAN and at least one attention point, or neither.")
        if attention not in FORMS:
            raise ValueError(f"attention '{attention}': choose from {', '.join(FORMS)}.")
        self.adn = adn
        self.caan = caan
        self.attention_points = tuple(sorted(set(attention_points)))
        affine = self.attention_points if attention == "affine" else ()
        self.affine = nn.ModuleDict({str(point): nn.BatchNorm2d(1) for point in affine})

    def forward(self, image: Tensor, anomaly_map: Tensor | None = None) -> LEANetOutput:
        """Classify images.

        Args:
            image: float (N, 3, H, W), sRGB in [0, 1].
            anomaly_map: float (N, 1, H, W), 0 or more, scaled to about [0, 1]; the baseline ignores it.
        Raises:
            ValueError: there is a CAAN, but no anomaly map.
        """
        features = self.features(image, anomaly_map)
        return LEANetOutput(self.adn.head(features.after[-1]), features.caan_logits, features.attention)

    def features(self, image: Tensor, anomaly_map: Tensor | None = None) -> LEANetFeatures:
        """The ADN's features at all five points, before and after attention; arguments as in forward."""
        caan_logits, guides = self._guide(anomaly_map)
        before, after, attention = [], [], {}
        x = image
        for point, stage in zip(POINTS, self.adn.stages, strict=True):
            x = stage(x)
            before.append(x)
            if point in self.attention_points:
                affine = self.affine[str(point)] if self.affine else None
                x, attention[point] = external_attention(x, guides[point - 1], affine)
            after.append(x)
        return LEANetFeatures(before, after, guides, caan_logits, attention)

    def _guide(self, anomaly_map: Tensor | None) -> tuple[Tensor | None, list[Tensor]]:
        if self.caan is None:
            return None, []
        if anomaly_map is None:
            raise ValueError("no anomaly map: a LEA-Net with a CAAN needs one; the baseline does not.")
        guided: tuple[Tensor | None, list[Tensor]] = self.caan(anomaly_map)
        return guided
