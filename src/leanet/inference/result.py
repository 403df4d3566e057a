"""What a model says about one image, and how it is shown; needs no torch, so that exported models can use it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import matplotlib as mpl
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy.ndimage import find_objects
from scipy.ndimage import label as connected_regions

from leanet.inference.card import Card

Box = tuple[int, int, int, int]
"""Left, top, width, height in pixels of the image that was given."""

Decision = Literal["normal", "anomalous"]

COLUMNS = (
    "file",
    "probability",
    "decision",
    "adn_probability",
    "caan_probability",
    "mean_delta_e",
    "peak_delta_e",
    "box",
    "error",
)


@dataclass(frozen=True)
class Result:
    """What a model says about one image.

    Attributes:
        probability: of an anomaly, the ADN's; None of a model that only has a map.
        anomalous: whether it reaches the model's threshold.
        caan_probability: the attention network's own; None without logits of its own.
        mean_delta_e, peak_delta_e: mean and maximum of the anomaly map, ΔE.
        box: around the strongest region of the map; None where nothing stands out.
        anomaly_map: float32 (S, S), ΔE, S the model's image size.
        attention: float32 (h, w) in [0, 1], at the finest of the model's points; None without attention.
        recoloured: uint8 (S, S, 3), the image as the colorizer would have it; None without a colorizer.
    """

    probability: float | None
    anomalous: bool
    caan_probability: float | None = None
    mean_delta_e: float | None = None
    peak_delta_e: float | None = None
    box: Box | None = None
    anomaly_map: NDArray[np.float32] | None = None
    attention: NDArray[np.float32] | None = None
    recoloured: NDArray[np.uint8] | None = None

    @property
    def decision(self) -> Decision:
        """`anomalous` in a word."""
        return "anomalous" if self.anomalous else "normal"


def make_result(
    card: Card,
    size: tuple[int, ...],
    anomaly_map: NDArray[np.float32],
    probability: float | None,
    caan_probability: float | None,
    attention: NDArray[np.float32] | None,
    recoloured: NDArray[np.uint8] | None = None,
) -> Result:
    """A result with what follows from its parts: the decision, the map's numbers, the box.

    Args:
        card: of the model that says so.
        size: height and width of the image that was given.
        anomaly_map, probability, caan_probability, attention, recoloured: as in Result.
    """
    mean = float(anomaly_map.mean())
    if probability is not None:
        anomalous = probability >= card.threshold
    else:
        anomalous = card.map_threshold is not None and mean >= card.map_threshold
    unit = card.normals_unit
    box = None if unit is None else strongest_region(anomaly_map, unit, size[1], size[0])
    peak = float(anomaly_map.max())
    return Result(probability, anomalous, caan_probability, mean, peak, box, anomaly_map, attention, recoloured)


def csv_row(file: str, result: Result | None, error: str = "") -> list[str]:
    """One line of predictions.csv, in the order of COLUMNS."""
    if result is None:
        return [file, *[""] * (len(COLUMNS) - 2), error]
    r = result
    numbers = [_text(r.probability), _text(r.caan_probability), _text(r.mean_delta_e), _text(r.peak_delta_e)]
    box = "" if r.box is None else " ".join(map(str, r.box))
    return [file, numbers[0], r.decision, *numbers, box, error]


def strongest_region(anomaly_map: NDArray[np.float32], unit: float, width: int, height: int) -> Box | None:
    """The box around the connected region with the largest sum, of pixels that stand out.

    A pixel stands out above the normals' unit and above half of the map's maximum.

    Args:
        anomaly_map: float (S, S), ΔE.
        unit: ΔE that 99 % of the training normals' pixels lie below.
        width, height: of the image that the box is to be drawn on.
    """
    regions, count = connected_regions(anomaly_map > max(unit, 0.5 * float(anomaly_map.max())), np.ones((3, 3)))
    if not count:
        return None
    sums = np.bincount(regions.ravel(), anomaly_map.ravel())
    rows, columns = find_objects(regions)[int(sums[1:].argmax())]
    down, across = anomaly_map.shape
    left, top = columns.start * width // across, rows.start * height // down
    right, bottom = -(-columns.stop * width // across), -(-rows.stop * height // down)
    return left, top, right - left, bottom - top


def overlay(image: NDArray[np.uint8], result: Result, unit: float) -> Image.Image:
    """The image with its anomaly map laid over it, the stronger the more opaque, and the strongest region framed.

    Args:
        image: uint8 (H, W, 3).
        unit: ΔE from which the map shows; at four times this it is at its strongest.
    """
    picture = Image.fromarray(image)
    if result.anomaly_map is None:
        return picture
    over = layer(result.anomaly_map, unit).resize(picture.size, Image.Resampling.BILINEAR)
    picture = Image.alpha_composite(picture.convert("RGBA"), over).convert("RGB")
    if result.box is not None:
        left, top, width, height = result.box
        line = max(1, round(max(picture.size) / 200))
        ImageDraw.Draw(picture).rectangle((left, top, left + width - 1, top + height - 1), None, "#ffffff", line)
    return picture


def layer(anomaly_map: NDArray[np.float32], unit: float) -> Image.Image:
    """An anomaly map to lay over its image, RGBA (S, S): transparent below the unit, strongest at four times it."""
    strength = ((anomaly_map / unit - 1) / 3).clip(0, 1)
    rgba = mpl.colormaps["inferno"](strength)
    rgba[..., 3] = 0.75 * np.sqrt(strength)
    return Image.fromarray((rgba * 255).astype(np.uint8))


def shown_unit(card: Card, result: Result) -> float:
    """The ΔE from which a result's map is shown: the normals' unit, or part of the maximum where none is known."""
    strongest = 0.0 if result.peak_delta_e is None else result.peak_delta_e
    return card.normals_unit or max(strongest, 1e-6) / 20


def _text(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}"
