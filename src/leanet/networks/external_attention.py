"""External attention, the paper's idea: one network's features weight another's. Each form is one function."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

FORMS = ("published", "affine", "gated", "pooled")

SHARPNESS = 2
"""Power of the map in `pooled_attention`; benchmarks/README.md has how it was chosen."""


def external_attention(features: Tensor, guide: Tensor, affine: nn.Module | None = None) -> tuple[Tensor, Tensor]:
    """Amplify features where another network's features are high at the same attention point.

    M = sigmoid(mean over channels of g),  f' = f + f * M

    After a ReLU the mean is 0 or more, and M lies in [0.5, 1). Our variant `affine` standardizes the mean before
    the sigmoid, and M can take any value in (0, 1).

    Args:
        features: f, float (N, C, h, w), the ADN's.
        guide: g, float (N, G, h, w), the CAAN's; G need not be C.
        affine: module applied to the mean, (N, 1, h, w), before the sigmoid; None for the published form.
    Returns:
        f', like f, and the attention map M, (N, 1, h, w) in [0, 1], in the dtype of f.
    Raises:
        ValueError: f and g differ in batch size, height or width.
    Source: Katafuchi & Tokunaga (2021), LEA-Net, arXiv 2109.05493.
    """
    mean = _mean(features, guide)
    # In the features' dtype: a float32 map would turn bfloat16 features into float32 ones.
    attention = (mean if affine is None else affine(mean)).sigmoid().to(features.dtype)
    return features + features * attention, attention


def gated_attention(features: Tensor, guide: Tensor, gate: Tensor) -> tuple[Tensor, Tensor]:
    """External attention in the measure that training finds useful: f' = f + w * f * M.

    Args:
        features, guide: as in `external_attention`.
        gate: w, (1,), learned; at 0, where it starts, the network is the one without attention.
    Returns:
        f' and M, as `external_attention`.
    Raises:
        ValueError: f and g differ in batch size, height or width.
    Source: Katafuchi & Tokunaga (2024), SN Computer Science, doi 10.1007/s42979-024-02912-3.
    """
    attention = _mean(features, guide).sigmoid().to(features.dtype)
    return features + gate.to(features.dtype) * features * attention, attention


def pooled_attention(features: Tensor, guide: Tensor) -> tuple[Tensor, Tensor]:
    """Features whose average over the image is their average where the guide is high.

    M = the guide's mean, stretched to [0, 1] in each image, to the power SHARPNESS;  f' = f * M / mean(M)

    Args:
        features, guide: as in `external_attention`.
    Returns:
        f' and M, as `external_attention`; where the guide is constant, f itself.
    Raises:
        ValueError: f and g differ in batch size, height or width.
    """
    mean = _mean(features, guide)
    low, high = mean.amin((2, 3), keepdim=True), mean.amax((2, 3), keepdim=True)
    flat = (high <= low).to(mean.dtype)  # 1 where the guide tells nothing
    attention = (flat + (1 - flat) * (mean - low) / (high - low + flat)).pow(SHARPNESS).to(features.dtype)
    return features * (attention / attention.mean((2, 3), keepdim=True)), attention


def at_resolution(anomaly_map: Tensor, side: int) -> Tensor:
    """Anomaly maps (N, 1, S, S) at another side, which divides S or is its multiple: each cell's largest value."""
    if side > anomaly_map.shape[-1]:
        return F.interpolate(anomaly_map, size=(side, side), mode="bilinear")
    return F.adaptive_max_pool2d(anomaly_map, side)


def _mean(features: Tensor, guide: Tensor) -> Tensor:
    """The guide's mean over its channels, (N, 1, h, w)."""
    same = features.shape[0] == guide.shape[0] and features.shape[-2:] == guide.shape[-2:]
    if not same:  # some mismatches would broadcast silently
        raise ValueError(
            f"features of {tuple(features.shape)} and a guide of {tuple(guide.shape)}: N, height and width must be "
            f"equal. Take the CAAN's features of the same stride."
        )
    return guide.mean(dim=1, keepdim=True)


def new_gate() -> nn.Parameter:
    """The gate of `gated_attention`, at 0."""
    return nn.Parameter(torch.zeros(1))
