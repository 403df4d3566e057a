"""The heat map, which shows where: the anomaly map, a head's evidence, or the sum of both."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from leanet.model.card import Heat, Scales


def heat_map(kind: Heat, scales: Scales | None, anomaly_map: Tensor, evidence: Tensor | None) -> Tensor:
    """What is shown over an image.

    Args:
        kind: which; the evidence, and the map in the sum, are in standard deviations above normal images' mean, and
            0 below it.
        scales: mean and standard deviation of the evidence, and of the anomaly map, over normal images' pixels;
            only the anomaly map alone needs none.
        anomaly_map: (N, 1, S, S).
        evidence: (N, 1, h, w), see `LEANetOutput`; only the anomaly map alone needs none.
    Returns:
        (N, 1, S, S), 0 or more.
    """
    if kind == "map" or scales is None or evidence is None:
        return anomaly_map
    side = anomaly_map.shape[-1]
    (mean, spread), (map_mean, map_spread) = scales
    found = (F.interpolate(evidence, size=(side, side), mode="bilinear") - mean) / spread
    if kind == "both":
        found = found + (anomaly_map - map_mean) / map_spread
    return found.clamp(min=0)
