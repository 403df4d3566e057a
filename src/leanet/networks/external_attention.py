"""External attention, the paper's idea: one network's features weight another's."""

from __future__ import annotations

from torch import Tensor, nn


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
    same = features.shape[0] == guide.shape[0] and features.shape[-2:] == guide.shape[-2:]
    if not same:  # some mismatches would broadcast silently
        raise ValueError(
            f"features of {tuple(features.shape)} and a guide of {tuple(guide.shape)}: N, height and width must be "
            f"equal. Take the CAAN's features of the same stride."
        )
    # In the features' dtype: a float32 map would turn bfloat16 features into float32 ones.
    mean = guide.mean(dim=1, keepdim=True)
    attention = (mean if affine is None else affine(mean)).sigmoid().to(features.dtype)
    return features + features * attention, attention
