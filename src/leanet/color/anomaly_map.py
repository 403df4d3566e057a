"""Compute a color anomaly map from an image and its recolored version, and scale it for a network.

Two independent settings: the coding of the map ('true': `anomaly_map`, 'authors': `authors_anomaly_map`) and its
scale (`scale_map`).
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from .ciede2000 import ciede2000
from .opencv_lab import opencv_lab

Scale = Literal["max", "normals"]

NORMALS_UNIT_QUANTILE = 0.99
"""The unit of the scale 'normals' is this quantile of ΔE00 over all pixels of the training normals' maps."""


def anomaly_map(lab: Tensor, recoloured_lab: Tensor) -> Tensor:
    """Color difference between each pixel and its recolored version: the coding 'true'.

    Args:
        lab, recoloured_lab: float (N, 3, H, W); L* in 0..100, a* and b* about -128..127.
    Returns:
        float (N, 1, H, W), ΔE00, 0 or more.
    Raises:
        ValueError: the shapes differ, are not (N, 3, H, W), or the values are integers.
    Source: Katafuchi & Tokunaga (2021), arXiv 2109.05493, section 3.2.
    """
    if lab.ndim != 4:
        raise ValueError(f"lab has shape {tuple(lab.shape)}, expected (N, 3, H, W). Give one image as lab[None].")
    return ciede2000(lab, recoloured_lab)


def authors_anomaly_map(coded: Tensor, recoloured: Tensor) -> Tensor:
    """The map as the authors' program computes it: the coding 'authors', for models trained on such maps.

    That program passes Lab, coded to [0, 1], to a function that expects sRGB. OpenCV reads L, a, b as red, green,
    blue and converts them to Lab again. The result is the ΔE00 of these values, not of the two images.

    Args:
        coded: float (N, 3, H, W) in [0, 1], the image as `opencv_lab_8_bit` gives it.
        recoloured: float (N, 3, H, W) in [0, 1], its lightness with a colorizer's chrominance.
    Returns:
        float32 (N, 1, H, W), 0 or more, without gradient.
    Raises:
        ValueError: the shapes differ, are not (N, 3, H, W), or the values are integers.
        ImportError: OpenCV is missing.
    Source: the authors' program for arXiv 2109.05493.
    """
    return ciede2000(opencv_lab(coded), opencv_lab(recoloured))


def scale_map(anomaly_map: Tensor, scale: Scale, normals_unit: float | None = None) -> Tensor:
    """Scale anomaly maps for a network's input.

    'max' divides each map by its own maximum, as published: the largest value is 1, and images are no longer
    comparable. 'normals' divides every map by `normals_unit`, the 99th percentile of ΔE00 over all pixels of the
    normal training images: 1 % of normal pixels exceed 1, anomalies often do, and images stay comparable. With a
    maximum instead of a percentile, one hot pixel would set the scale.

    Args:
        anomaly_map: float (N, 1, H, W), ΔE00, 0 or more.
        scale: 'max' or 'normals'.
        normals_unit: ΔE00 above 0; needed for 'normals', ignored for 'max'.
    Returns:
        float (N, 1, H, W): in [0, 1] for 'max' (a map of zeros stays zeros), 0 or more for 'normals'.
    Raises:
        ValueError: the shape is not (N, 1, H, W), the scale is unknown, or `normals_unit` is missing or not
            above 0.
    """
    if anomaly_map.ndim != 4 or anomaly_map.shape[1] != 1:
        raise ValueError(f"anomaly_map has shape {tuple(anomaly_map.shape)}, expected (N, 1, H, W).")
    if scale == "max":
        largest = anomaly_map.amax(dim=(1, 2, 3), keepdim=True)
        return anomaly_map / largest.where(largest > 0, 1)
    if scale == "normals":
        if normals_unit is None or not normals_unit > 0:
            raise ValueError(
                f"normals_unit={normals_unit}: the scale 'normals' needs a ΔE00 above 0. "
                "Measure it on the training normals' maps, or use the scale 'max'."
            )
        return anomaly_map / normals_unit
    raise ValueError(f"scale={scale!r}: choose 'max' or 'normals'.")
