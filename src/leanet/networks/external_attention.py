"""The idea of the paper: features of one network, read as attention by another."""

from __future__ import annotations

from torch import Tensor, nn


def external_attention(features: Tensor, guide: Tensor, affine: nn.Module | None = None) -> tuple[Tensor, Tensor]:
    """Strengthen features where another network's features at the same point are high.

    M = sigmoid(mean over channels of g),  f' = f + f * M

    Features that come out of a ReLU have a mean of 0 or more, so that M lies in [0.5, 1): with `affine` the mean is
    standardized before the sigmoid, and M can use all of (0, 1). That is a variant of ours.

    Args:
        features: f, float (N, C, h, w), the ADN's.
        guide: g, float (N, G, h, w), the CAAN's; G need not be C.
        affine: what is applied to the mean, (N, 1, h, w), before the sigmoid; None for the published form.
    Returns:
        f', like f, and the attention map M, (N, 1, h, w) in [0, 1], in the dtype of f.
    Raises:
        ValueError: f and g are not of the same images, or not of the same height and width.
    Source: Katafuchi & Tokunaga (2021), LEA-Net, arXiv 2109.05493.
    """
    same = features.shape[0] == guide.shape[0] and features.shape[-2:] == guide.shape[-2:]
    if not same:  # some of these would broadcast
        raise ValueError(
            f"features of {tuple(features.shape)}, and a guide of {tuple(guide.shape)}: the same images, height "
            f"and width are needed. Take the CAAN's features of the same stride."
        )
    # In the features' dtype: a float32 map would turn bfloat16 features into float32 ones.
    mean = guide.mean(dim=1, keepdim=True)
    attention = (mean if affine is None else affine(mean)).sigmoid().to(features.dtype)
    return features + features * attention, attention
