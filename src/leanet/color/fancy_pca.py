"""FancyPCA: a color augmentation along the principal components of an image's own colors."""

from __future__ import annotations

import torch
from torch import Tensor

from .lab import check_three_channels


def fancy_pca(
    rgb: Tensor,
    *,
    alpha: Tensor | None = None,
    sigma: float = 0.08,
    generator: torch.Generator | None = None,
    truncate: bool = False,
) -> Tensor:
    """Add one color to every pixel of an image: alpha times the sum of (eigenvalue x eigenvector).

    Eigenvalues and eigenvectors are those of the covariance of the image's own RGB pixels. The definition leaves an
    eigenvector's sign open; here its components sum to 0 or more. A positive alpha therefore lightens the image on
    every machine. No gradient flows through the added color.

    Args:
        rgb: float (N, 3, H, W), sRGB in [0, 1], two pixels or more.
        alpha: float (N,), one number per image; drawn from N(0, sigma) if None.
        sigma: standard deviation of alpha.
        generator: source of alpha, on its own device; PyTorch's global generator if None.
        truncate: round the result down to steps of 1/255, as the authors' conversion to uint8 does.
    Returns:
        float (N, 3, H, W), clipped to [0, 1].
    Raises:
        ValueError: the shape is not (N, 3, H, W), the values are integers, or alpha is not one number per image.
    Source: Krizhevsky, Sutskever & Hinton (2012), section 4.1; one alpha for all three components, as in LEA-Net.
    """
    check_three_channels(rgb, "rgb")
    if rgb.ndim != 4:
        raise ValueError(f"rgb has shape {tuple(rgb.shape)}, expected (N, 3, H, W). Give one image as rgb[None].")
    if alpha is None:
        device = generator.device if generator is not None else rgb.device
        alpha = sigma * torch.randn(len(rgb), generator=generator, device=device)
    if alpha.shape != (len(rgb),):
        raise ValueError(f"alpha has shape {tuple(alpha.shape)}, expected ({len(rgb)},): one number per image.")

    shift = alpha.to(rgb)[:, None] * _principal_colour(rgb)
    augmented = (rgb + shift[:, :, None, None]).clamp(0, 1)
    if truncate:
        # 1e-3 keeps a rounding error from moving a whole step to the step below.
        augmented = torch.floor(augmented * 255 + 1e-3) / 255
    return augmented


@torch.no_grad()
def _principal_colour(rgb: Tensor) -> Tensor:
    """Sum over the three components of eigenvalue times eigenvector: (N, 3)."""
    pixels = rgb.flatten(2)
    centred = pixels - pixels.mean(dim=2, keepdim=True)
    covariance = centred @ centred.mT / (pixels.shape[2] - 1)
    values, vectors = torch.linalg.eigh(covariance)  # the vectors are columns
    vectors = torch.where(vectors.sum(dim=1, keepdim=True) < 0, -vectors, vectors)
    colour: Tensor = (vectors @ values[:, :, None]).squeeze(2)
    return colour
