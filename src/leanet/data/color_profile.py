"""Embedded color profiles (ICC): convert an image to sRGB."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from io import BytesIO
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageCms

UInt8Array: TypeAlias = npt.NDArray[np.uint8]

SAME = 2
"""A profile within this many of 255 gray levels of sRGB counts as sRGB, of which there are many variants."""

_CACHED = 16
_MOST_BYTES = 16_000_000
_NAME_LENGTH = 40
_INTENT = ImageCms.Intent.RELATIVE_COLORIMETRIC
_FLAGS = ImageCms.Flags.BLACKPOINTCOMPENSATION | ImageCms.Flags.HIGHRESPRECALC
_EXACT = ImageCms.Flags.BLACKPOINTCOMPENSATION | ImageCms.Flags.NOOPTIMIZE
_MODES = {
    "RGB": ("1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBX", "RGBa", "YCbCr", "HSV", "I"),
    "GRAY": ("1", "L", "LA", "La", "I"),
    "CMYK": ("CMYK",),
    "Lab": ("LAB",),
}


@dataclass(frozen=True, eq=False)
class Profile:
    """A color profile.

    Attributes:
        name: its own description.
        space: RGB, GRAY, CMYK or Lab; "" if it is broken.
        is_srgb: whether it is sRGB, which needs no conversion.
        curve: for GRAY, the sRGB level of each 16-bit level, uint8 (65536, 3).
    """

    name: str
    space: str
    is_srgb: bool = False
    curve: UInt8Array | None = None
    transforms: tuple[tuple[str, ImageCms.ImageCmsTransform], ...] = ()

    def suits(self, mode: str) -> bool:
        """Whether it fits images of this Pillow mode; a broken one fits none."""
        return mode.split(";")[0] in _MODES.get(self.space, ())

    def convert(self, image: Image.Image) -> Image.Image:
        """Convert an image to sRGB.

        Args:
            image: 8-bit, without palette, of a mode that the profile suits; an RGB profile takes RGB or RGBA.
        Returns:
            RGB, or RGBA with the original alpha.
        """
        if self.curve is not None:
            levels = np.asarray(image.getchannel(0)).astype(np.uint16) * 257
            grey = Image.fromarray(self.curve[levels])
            if image.mode == "RGBA":
                grey.putalpha(image.getchannel(3))
            return grey
        return dict(self.transforms)[image.mode].apply(image)


BROKEN = Profile("", "")


@functools.lru_cache(_CACHED)
def read_profile(data: bytes) -> Profile:
    """Read a profile; BROKEN if it is damaged or its color space is not that of a picture.

    The intent is relative colorimetric with black point compensation, as in browsers for the profiles of cameras
    and screens (primaries and curves). The transforms are thread-safe.
    """
    if len(data) > _MOST_BYTES:
        return BROKEN
    try:
        profile = ImageCms.ImageCmsProfile(BytesIO(data))
        space = profile.profile.xcolor_space.strip()
        name = _printable(profile.profile.profile_description or "") or "unnamed"
        if space == "GRAY":
            curve = _grey_curve(profile)
            differs = np.abs(curve[::257].astype(int) - np.arange(256)[:, None]).max()
            return Profile(name, space, bool(differs <= SAME), curve)
        if space == "RGB":
            made = tuple((mode, _transform(profile, mode, mode, _FLAGS)) for mode in ("RGB", "RGBA"))
            return Profile(name, space, _leaves_colors(made[0][1]), None, made)
        if space == "CMYK":
            return Profile(name, space, False, None, (("CMYK", _transform(profile, "CMYK", "RGB", _FLAGS)),))
        return Profile(name, space) if space == "Lab" else BROKEN
    except (OSError, ImageCms.PyCMSError, ValueError, TypeError):
        return BROKEN


@functools.cache
def _srgb() -> ImageCms.ImageCmsProfile:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))


def _transform(
    profile: ImageCms.ImageCmsProfile, mode: str, to: str, flags: ImageCms.Flags
) -> ImageCms.ImageCmsTransform:
    return ImageCms.ImageCmsTransform(profile, _srgb(), mode, to, _INTENT, flags=flags)


def _grey_curve(profile: ImageCms.ImageCmsProfile) -> UInt8Array:
    """The sRGB level of every 16-bit level, without the optimizations that make dark levels coarse."""
    levels = Image.fromarray(np.arange(65536, dtype=np.uint16).reshape(256, 256))
    return np.asarray(_transform(profile, "I;16", "RGB", _EXACT).apply(levels)).reshape(65536, 3)


def _leaves_colors(transform: ImageCms.ImageCmsTransform) -> bool:
    steps = np.linspace(0, 255, 18).round().astype(np.uint8)
    cube = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), -1).reshape(18, -1, 3)
    changed = np.asarray(transform.apply(Image.fromarray(cube)))
    return int(np.abs(changed.astype(int) - cube).max()) <= SAME


def _printable(name: str) -> str:
    return "".join(c for c in " ".join(name.split()) if c.isprintable())[:_NAME_LENGTH]
