"""Synthetic leaves: a generated data set with exact masks, part of the package.

Every leaf has patches of two tissues, a smooth and a striped one. Hue depends on lightness, from green where the
leaf is dark to rose where it is light; chroma depends on the tissue's texture. An anomalous leaf is drawn like a
normal one, but a few small regions, round (`spot`) or long (`streak`), have the hue of another lightness. Their
lightness is unchanged, and their hues are common elsewhere in every normal leaf. Lightness therefore does not
reveal an anomaly, and a pixel's color barely does; the relation of color to lightness does. (An image's color
histogram reveals most anomalies, too.)
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from leanet.color.lab import lab_to_rgb
from leanet.files import beside, is_free

Defect = Literal["spot", "streak"]
Field = NDArray[np.float64]  # (S, S): one number per pixel

_MIDDLE, _REACH = 54.0, 24.0  # L* of leaves lies within _MIDDLE - _REACH .. _MIDDLE + _REACH
_CHROMA = 25.0  # moderate, so that any of the hues below is inside the sRGB gamut at any of these lightnesses


@dataclass(frozen=True)
class Leaf:
    """A normal leaf before it becomes pixels; fields are float (S, S).

    lightness: L* of the leaf, even where the background hides it; tone: the same without stripes, veins and
    grain, which determines the hue; striped: share of the striped tissue, 0..1;
    cover: 1 on the leaf, 0 on the background; background: L* there; along, across: coordinates in the leaf, with
    tip and base at along = 1 and -1.
    """

    lightness: Field
    tone: Field
    striped: Field
    cover: Field
    background: Field
    along: Field
    across: Field


def make_leaves(
    out: Path,
    *,
    n_normal: int = 200,
    n_anomalous: int = 120,
    image_size: int = 64,
    seed: int = 0,
    n_defects: tuple[int, int] = (2, 4),
    defect_size: float = 1.4,
    colour_shift: float = 1.0,
) -> None:
    """Write a data set in the layout of MVTec AD.

    The files are train/good/000.png ..., test/spot/000.png ..., test/streak/000.png ..., and for every anomalous
    image ground_truth/<defect>/<stem>_mask.png (255 = anomalous). Equal arguments give equal bytes, and leaf k is
    the same whatever the number of leaves. The folder is written completely or not at all.

    Args:
        out: folder to make; it may exist if it is empty.
        n_normal, n_anomalous: numbers of images; the anomalous ones alternate between the two kinds of defect.
        image_size: side in pixels, 32 or more.
        seed: any non-negative integer.
        n_defects: fewest and most defects on an anomalous leaf. Fewer is harder.
        defect_size: factor for the defects' size; at 1, a spot's radius is 4 to 8 % of the image's side. Smaller
            is harder.
        colour_shift: how wrong the defects' colors are, from 0 (right) to 1 (ΔE00 of about 10 to 25).
    Raises:
        FileExistsError: `out` exists and is not an empty folder.
        ValueError: an argument is out of its range.
    """
    if n_normal < 0 or n_anomalous < 0:
        raise ValueError(f"n_normal={n_normal}, n_anomalous={n_anomalous}: counts cannot be negative.")
    if image_size < 32:
        raise ValueError(f"image_size={image_size}: below 32 pixels the stripes are lost. Choose 32 or more.")
    if not 1 <= n_defects[0] <= n_defects[1]:
        raise ValueError(f"n_defects={n_defects}: give (fewest, most), with 1 <= fewest <= most.")
    if not 0 <= colour_shift <= 1:
        raise ValueError(f"colour_shift={colour_shift}: beyond 0..1 colors would leave the palette of leaves.")
    if defect_size <= 0:
        raise ValueError(f"defect_size={defect_size}: it must be above 0.")
    if not is_free(out):
        raise FileExistsError(f"{out}: already there and not an empty folder. Remove it or choose another name.")

    with beside(out) as folder:
        folder.mkdir()
        for i in range(n_normal):
            leaf = grow_leaf(np.random.default_rng((seed, 0, i)), image_size)
            _save(folder / "train" / "good" / f"{i:03d}.png", _to_pixels(paint(leaf, right_colour(leaf))))
        for i in range(n_anomalous):
            rng = np.random.default_rng((seed, 1, i))
            leaf = grow_leaf(rng, image_size)
            kind = get_args(Defect)[i % 2]
            share = place_defects(leaf, kind, rng, n_defects, defect_size)
            wrong = wrong_colour(leaf)
            chrominance = right_colour(leaf) + colour_shift * share * (wrong - right_colour(leaf))
            stem = f"{i // 2:03d}"
            _save(folder / "test" / kind / f"{stem}.png", _to_pixels(paint(leaf, chrominance)))
            mask = np.where(share * leaf.cover >= 0.5, 255, 0).astype(np.uint8)
            _save(folder / "ground_truth" / kind / f"{stem}_mask.png", mask)


def grow_leaf(rng: np.random.Generator, image_size: int) -> Leaf:
    """Generate shape, veins, tissues and lightness of one leaf."""
    centres = (np.arange(image_size) + 0.5) / image_size * 2 - 1
    x, y = np.meshgrid(centres - rng.uniform(-0.05, 0.05), centres - rng.uniform(-0.05, 0.05))
    angle, length = rng.uniform(0, 2 * np.pi), rng.uniform(0.78, 0.9)
    along = (x * np.cos(angle) + y * np.sin(angle)) / length
    across = (y * np.cos(angle) - x * np.sin(angle)) / length
    across = across - rng.uniform(-0.12, 0.12) * (1 - along**2)  # leaves are a little bent

    half_width = _half_width(rng, along)
    pixel = 2 / image_size / length
    cover = _step(half_width - np.abs(across), pixel)
    stalk = _step(0.03 - np.abs(across), pixel) * _step(along + 1.16, pixel) * _step(-0.9 - along, pixel)
    cover = np.maximum(cover, stalk)

    striped = _step(_waves(rng, x, y, 2.0, 4.5) + rng.uniform(-0.3, 0.3), 0.5)
    slant = rng.uniform(0, np.pi)
    stripes = np.cos((x * np.cos(slant) + y * np.sin(slant)) * 2 * np.pi / 0.2 + rng.uniform(0, 6.3))

    # light veins: the midrib, and side veins that leave it towards the tip
    spacing = rng.uniform(0.26, 0.34)
    nearest = (along - 0.7 * np.abs(across)) / spacing
    nearest = (nearest - np.round(nearest)) * spacing
    veins = np.exp(-((across / 0.035) ** 2)) + 0.7 * np.exp(-((nearest / 0.028) ** 2))

    tone = (
        rng.uniform(_MIDDLE - 4, _MIDDLE + 4)
        + 11 * _waves(rng, x, y, 2.0, 6.0)
        + rng.choice((-3.0, 3.0)) * np.tanh(across / 0.1)
    )
    for centre, radius in _places(rng, cover, x, y, int(rng.integers(3, 7))):
        # blotches as large as defects, lighter or darker, with the matching color
        tone += rng.choice((-1, 1)) * rng.uniform(9, 15) * _disc(rng, x, y, centre, radius)
    lightness = tone + 7 * striped * stripes + 6 * veins + rng.normal(0, 0.8, x.shape)
    lightness = _MIDDLE + _REACH * np.tanh((lightness - _MIDDLE) / _REACH)

    shadow = _step(half_width - np.abs(across + 0.06) + 0.02, 0.22)
    background = 89 + 2 * (x * np.cos(angle) + y) - 16 * shadow + rng.normal(0, 0.5, x.shape)
    return Leaf(lightness, tone, striped, cover, background, along, across)


def right_colour(leaf: Leaf) -> NDArray[np.float64]:
    """a* and b*, (2, S, S), that match the leaf's lightness and tissue."""
    return _law(leaf.tone, leaf.striped)


def wrong_colour(leaf: Leaf) -> NDArray[np.float64]:
    """a* and b*, (2, S, S), of a defect: those of a tone far from the leaf's own."""
    return _law(leaf.tone + np.where(leaf.tone < _MIDDLE, 24.0, -24.0), leaf.striped)


def place_defects(
    leaf: Leaf, kind: Defect, rng: np.random.Generator, n_defects: tuple[int, int], defect_size: float
) -> Field:
    """Share of the wrong color, (S, S) in 0..1: 1 inside a defect, falling to 0 over its soft edge."""
    size = leaf.cover.shape[0]
    centres = (np.arange(size) + 0.5) / size * 2 - 1
    x, y = np.meshgrid(centres, centres)
    share: Field = np.zeros_like(x)
    for centre, radius in _places(rng, leaf.cover, x, y, int(rng.integers(n_defects[0], n_defects[1] + 1))):
        if kind == "spot":
            shape = _disc(rng, x, y, centre, radius * defect_size)
        else:
            shape = _stroke(rng, x, y, centre, radius * defect_size)
        share = np.maximum(share, shape)
    return share


def paint(leaf: Leaf, chrominance: NDArray[np.float64]) -> NDArray[np.float64]:
    """The leaf with the given a* and b*, (2, S, S), on its background: Lab, (3, S, S)."""
    on_leaf = np.concatenate((leaf.lightness[None], chrominance))
    neutral = np.stack((leaf.background, np.full_like(leaf.background, 0.3), np.full_like(leaf.background, 1.5)))
    return leaf.cover * on_leaf + (1 - leaf.cover) * neutral


def _law(tone: Field, striped: Field) -> NDArray[np.float64]:
    """The color of a tone in a mixture of the two tissues: a* and b*, (2, S, S).

    Dark is green, the middle yellow-green, light is ochre to rose; striped tissue is paler than smooth.
    """
    hue = np.radians(92 - 60 * np.tanh((tone - _MIDDLE) / 9))
    chroma = _CHROMA * (1 - 0.4 * striped)
    return np.stack((chroma * np.cos(hue), chroma * np.sin(hue)))


def _half_width(rng: np.random.Generator, along: Field) -> Field:
    """Half the width of the leaf at each place along it; negative beyond its ends."""
    inside = np.clip(1 - along**2, 0, None)
    outline = rng.uniform(0.48, 0.62) * inside ** rng.uniform(0.75, 1.0) * (1 - rng.uniform(0.15, 0.35) * along)
    waved = outline * (1 + 0.04 * np.sin(rng.uniform(9, 13) * along + rng.uniform(0, 6.3)))
    half_width: Field = np.where(inside > 0, waved, -1.0)
    return half_width


def _step(distance: Field, softness: float) -> Field:
    """0 below, 1 above distance 0, with a smooth ramp `softness` to either side."""
    t = np.clip(distance / (2 * softness) + 0.5, 0, 1)
    return t * t * (3 - 2 * t)


def _waves(rng: np.random.Generator, x: Field, y: Field, lowest: float, highest: float) -> Field:
    """Smooth noise of standard deviation about 1: twelve plane waves of random direction and frequency."""
    total: Field = np.zeros_like(x)
    for frequency, angle, phase in zip(
        rng.uniform(lowest, highest, 12), rng.uniform(0, 2 * np.pi, 12), rng.uniform(0, 2 * np.pi, 12), strict=True
    ):
        total += np.cos(frequency * (x * np.cos(angle) + y * np.sin(angle)) + phase)
    return total / math.sqrt(6)


def _places(
    rng: np.random.Generator, cover: Field, x: Field, y: Field, count: int
) -> Iterator[tuple[tuple[float, float], float]]:
    """Centers well inside the leaf, and radii."""
    rows, columns = np.nonzero(cover > 0.99)
    for _ in range(count):
        k = rng.integers(len(rows))
        yield (float(x[rows[k], columns[k]]), float(y[rows[k], columns[k]])), float(rng.uniform(0.08, 0.16))


def _disc(rng: np.random.Generator, x: Field, y: Field, centre: tuple[float, float], radius: float) -> Field:
    """A slightly oval spot with a soft edge."""
    angle, stretch = rng.uniform(0, np.pi), rng.uniform(1, 1.4)
    u = (x - centre[0]) * np.cos(angle) + (y - centre[1]) * np.sin(angle)
    v = (y - centre[1]) * np.cos(angle) - (x - centre[0]) * np.sin(angle)
    return _step(radius - np.hypot(u / stretch, v * stretch), 0.3 * radius)


def _stroke(rng: np.random.Generator, x: Field, y: Field, centre: tuple[float, float], radius: float) -> Field:
    """A bent stroke with soft edges: about three radii long to either side, half a radius to either side wide."""
    angle, bend = rng.uniform(0, np.pi), rng.uniform(-1.5, 1.5)
    u = (x - centre[0]) * np.cos(angle) + (y - centre[1]) * np.sin(angle)
    v = (y - centre[1]) * np.cos(angle) - (x - centre[0]) * np.sin(angle)
    thickness = 0.5 * radius * np.sqrt(np.clip(1 - (u / (3 * radius)) ** 2, 0, None))
    stroke: Field = _step(thickness - np.abs(v - bend * u**2), 0.25 * radius) * (np.abs(u) < 3 * radius)
    return stroke


def _to_pixels(lab: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Lab, (3, S, S), to sRGB, uint8 (S, S, 3)."""
    rgb = lab_to_rgb(torch.from_numpy(lab)).permute(1, 2, 0)
    return (rgb * 255).round().to(torch.uint8).numpy()


def _save(path: Path, pixels: NDArray[np.uint8]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
