"""The idea of the paper: features of one network, read as attention by another."""

from __future__ import annotations

from torch import Tensor


def external_attention(features: Tensor, guide: Tensor) -> tuple[Tensor, Tensor]:
    """Strengthen features where another network's features at the same point are high.

    M = sigmoid(mean over channels of g),  f' = f + f * M

    Args:
        features: f, float (N, C, h, w), the ADN's.
        guide: g, float (N, G, h, w), the CAAN's; G need not be C.
    Returns:
        f', like f, and the attention map M, (N, 1, h, w) in [0, 1], in the dtype of f.
    Source: Katafuchi & Tokunaga (2021), LEA-Net, arXiv 2109.05493.
    """
    # In the features' dtype, lest a float32 map turn bfloat16 features into float32 ones.
    attention = guide.mean(dim=1, keepdim=True).sigmoid().to(features.dtype)
    return features + features * attention, attention
