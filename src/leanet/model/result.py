"""A model's result for one image, and its overlay, without torch, for exported models."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from leanet.data.shape import Array, Placement, placement
from leanet.model.card import UNFAMILIAR, Card
from leanet.model.where import Box, Ceilings, region_of, strength, strongest_region

Decision = Literal["normal", "anomalous", "unfamiliar"]

FAINTEST = 0.35
"""Where overlays start in the color map: its lower part is as dark as the spots to be shown."""

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
    "unfamiliarity",
)


@dataclass(frozen=True)
class Result:
    """A model's result for one image.

    Attributes:
        probability: the ADN's probability of an anomaly, in [0, 1]; None for a model without detector.
        anomalous: whether it reaches the model's threshold, and is familiar.
        caan_probability: the CAAN's probability, in [0, 1]; None if the CAAN has no logits.
        mean_delta_e, peak_delta_e: mean and maximum of the anomaly map, in its unit.
        box: box around the map's strongest region above normal pictures' peaks; None if the decision is not
            anomalous or no region exceeds them.
        anomaly_map: float32 (S, S), 0 or more, ΔE00 of a colorizer's; S is the model's image size.
        attention: float32 (h, w) in [0, 1], at the finest of the model's points; None without attention.
        recoloured: uint8 (S, S, 3), the recolored image; None without a colorizer.
        heat: float32 (S, S), 0 or more, which the box and the overlay are of; None if that is the anomaly map.
        unfamiliarity: how far the image is from the training images: share, 0 to 100, of held-out training images
            that are nearer; None for a model without head on a frozen network, and of earlier versions.
        components: float32 (C,), the image's place among the training images: images are alike where theirs are
            near; None where `unfamiliarity` is, and for an exported model.
        strength: float32, the heat as a multiple of normal pictures' peaks, if the maps do not show a whole picture
            as a square; None otherwise, since `leanet.model.where.strength` then gives it.
        covers: the part of the picture that all maps show, if the model crops it; None: the whole picture.

    The maps of a letterboxed picture have its shape: (h, w), the longer of S pixels, without the letterbox. Their
    mean and maximum are those of the square that the model saw.
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
    heat: NDArray[np.float32] | None = None
    unfamiliarity: float | None = None
    components: NDArray[np.float32] | None = None
    strength: NDArray[np.float32] | None = None
    covers: Box | None = None

    @property
    def unfamiliar(self) -> bool:
        """Whether the image is unlike what the model was trained on; its probability then tells little."""
        return _is_unfamiliar(self.unfamiliarity)

    @property
    def shown(self) -> NDArray[np.float32] | None:
        """The heat map or, if there is none of its own, the anomaly map."""
        return self.anomaly_map if self.heat is None else self.heat

    @property
    def decision(self) -> Decision:
        """What the image is called: `unfamiliar`, whatever its probability, or else `anomalous` as a word."""
        if self.unfamiliar:
            return "unfamiliar"
        return "anomalous" if self.anomalous else "normal"


def make_result(
    card: Card,
    size: tuple[int, ...],
    anomaly_map: NDArray[np.float32],
    probability: float | None,
    caan_probability: float | None,
    attention: NDArray[np.float32] | None,
    recoloured: NDArray[np.uint8] | None = None,
    heat: NDArray[np.float32] | None = None,
    distance: float | None = None,
) -> Result:
    """A result with its derived parts: the decision, the map's mean and maximum, the box.

    Args:
        card: the model's card.
        size: height and width of the original image.
        anomaly_map, probability, caan_probability, attention, recoloured, heat: as in Result.
        distance: from the training images, of a model whose card has such distances.
    """
    mean, unfamiliarity = float(anomaly_map.mean()), _percentile(card, distance)
    if probability is not None:
        anomalous = probability >= card.threshold
    else:
        anomalous = card.map_threshold is not None and mean >= card.map_threshold
    anomalous = anomalous and not _is_unfamiliar(unfamiliarity)
    peak = float(anomaly_map.max())
    place = placement(size[0], size[1], len(anomaly_map), card.aspect)
    maps = (anomaly_map, attention, recoloured, heat)
    found = Result(probability, anomalous, caan_probability, mean, peak, None, *maps, unfamiliarity)
    if not place.whole:
        found = _cut(card, found, place, size)
    return replace(found, box=region(card, found, size)) if anomalous else found


def _percentile(card: Card, distance: float | None) -> float | None:
    """The share, 0 to 100, of held-out training images that are nearer than this distance."""
    if distance is None or card.familiar_distances is None:
        return None
    known = card.familiar_distances
    return float(np.interp(distance, known, np.linspace(0, 100, len(known))))


def _is_unfamiliar(percentile: float | None) -> bool:
    return percentile is not None and percentile > UNFAMILIAR


def _cut(card: Card, result: Result, place: Placement, size: tuple[int, ...]) -> Result:
    """A result of a square that holds more than the picture, or less, with maps of the picture."""

    def of_picture(square: Array | None) -> Array | None:
        return None if square is None else place.cut(square, card.image_size)

    limits = card.normals_peaks or card.normals_unit
    strong = None if result.shown is None or limits is None else strength(result.shown, limits)
    return replace(
        result,
        anomaly_map=of_picture(result.anomaly_map),
        attention=of_picture(result.attention),
        recoloured=of_picture(result.recoloured),
        heat=of_picture(result.heat),
        strength=of_picture(strong),
        covers=None if place.part == (0, 0, size[1], size[0]) else place.part,
    )


def region(card: Card, result: Result, size: tuple[int, ...]) -> Box | None:
    """The box of a result, whatever the decision; None if no region exceeds normal images' peaks.

    Args:
        card: the model's card; without statistics of normal images, there is no box.
        result: a result with its maps.
        size: height and width of the original image.
    """
    if result.strength is None:
        return None if result.shown is None or result.covers else beyond_normals(card, result.shown, size)
    left, top, width, height = result.covers or (0, 0, size[1], size[0])
    box = region_of(result.strength, width, height)
    return None if box is None else (box[0] + left, box[1] + top, *box[2:])


def beyond_normals(card: Card, anomaly_map: NDArray[np.float32], size: tuple[int, ...]) -> Box | None:
    """The box of a map's strongest region, whatever the decision; None if none exceeds normal images' peaks.

    Args:
        card: card of the model that made the map; without statistics of normal images, there is no box.
        anomaly_map: float32 (S, S), the one that is shown.
        size: height and width of the original image.
    """
    limits = card.normals_peaks or card.normals_unit
    return strongest_region(anomaly_map, limits, size[1], size[0]) if limits else None


def csv_row(file: str, result: Result | None, error: str = "") -> list[str]:
    """One row of predictions.csv, in the order of COLUMNS."""
    if result is None:
        return [file, *[""] * (len(COLUMNS) - 3), error, ""]
    r = result
    numbers = [_text(r.probability), _text(r.caan_probability), _text(r.mean_delta_e), _text(r.peak_delta_e)]
    box = "" if r.box is None else " ".join(map(str, r.box))
    return [file, numbers[0], r.decision, *numbers, box, error, _text(r.unfamiliarity)]


def overlay(image: NDArray[np.uint8], result: Result, ceilings: Ceilings) -> Image.Image:
    """The image under its heat map, whose opacity grows with the heat, with a frame around the strongest region.

    Args:
        image: uint8 (H, W, 3).
        ceilings: heat above which the map is visible; at twice this value, it is most opaque.
    """
    picture = Image.fromarray(image)
    if result.shown is None:
        return picture
    strong = strength(result.shown, ceilings) if result.strength is None else result.strength
    left, top, width, height = result.covers or (0, 0, *picture.size)
    over = layer_of(strong).resize((width, height), Image.Resampling.BILINEAR)
    if result.covers is not None:
        over = over.crop((-left, -top, picture.width - left, picture.height - top))  # transparent beyond it
    picture = Image.alpha_composite(picture.convert("RGBA"), over).convert("RGB")
    if result.box is not None:
        left, top, width, height = result.box
        line = max(1, round(max(picture.size) / 200))
        ImageDraw.Draw(picture).rectangle((left, top, left + width - 1, top + height - 1), None, "#ffffff", line)
    return picture


def layer(anomaly_map: NDArray[np.float32], ceilings: Ceilings) -> Image.Image:
    """A map to lay over its image, RGBA (S, S): transparent below the ceilings, most opaque at twice these."""
    return layer_of(strength(anomaly_map, ceilings))


def layer_of(strong: NDArray[np.float32]) -> Image.Image:
    """As `layer`, of a map that is a multiple of its ceilings."""
    import matplotlib as mpl  # slow to import, and not needed for predictions

    beyond = (strong - 1).clip(0, 1)
    rgba = mpl.colormaps["inferno"](FAINTEST + (1 - FAINTEST) * beyond)
    rgba[..., 3] = 0.75 * np.sqrt(beyond)
    return Image.fromarray((rgba * 255).astype(np.uint8))


def shown_from(card: Card, result: Result) -> Ceilings:
    """The value above which a result's map is shown; half its maximum if the model has no normals' statistics."""
    strongest = 0.0 if result.peak_delta_e is None else result.peak_delta_e
    return card.normals_peaks or card.normals_unit or max(strongest, 1e-6) / 2


def _text(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}"
