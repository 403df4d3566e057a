"""The service's responses: JSON models, and maps as PNGs."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Annotated, Any, Literal, TypeAlias

import matplotlib as mpl
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import BaseModel, Field

from leanet.config import COLOR_MAP, ServeConfig, Tune
from leanet.config.maps import JOINED, RECONSTRUCTION
from leanet.data.shape import placement
from leanet.model.card import Card, Heat
from leanet.model.predict_files import Loaded
from leanet.model.result import Decision, Result, layer, layer_of, region, shown_from
from leanet.model.where import Box

MapName = Literal["overlay", "anomaly_map", "recoloured", "attention", "input"]

DELTA_E_STEPS = 200
"""Gray levels per ΔE in an anomaly map's PNG."""


Rectangle: TypeAlias = Annotated[tuple[int, ...], Field(min_length=4, max_length=4)]
"""Left, top, width, height in pixels of the original image."""


class Prediction(BaseModel):
    """One image's result; with `error`, all fields but `file` are null.

    `region` is the map's strongest region above normal images' peaks, whatever the decision; `box` is the same for
    anomalous images only. `unfamiliarity` is how far the image is from the training images: the share, 0 to 100, of
    held-out ones that are nearer; beyond a limit, the decision is 'unfamiliar'.
    """

    file: str
    probability: float | None = None
    decision: Decision | None = None
    adn_probability: float | None = None
    caan_probability: float | None = None
    mean_delta_e: float | None = None
    peak_delta_e: float | None = None
    box: Rectangle | None = None
    region: Rectangle | None = None
    width: int | None = None
    height: int | None = None
    note: str | None = None
    error: str | None = None
    unfamiliarity: float | None = None
    maps: dict[MapName, str] | None = None


class Predictions(BaseModel):
    """The results, in the order of the images."""

    results: list[Prediction]


class Problem(BaseModel):
    """The reason for a failure, in one line."""

    detail: str


class ModelNames(BaseModel):
    """The names of the service's models."""

    default: str
    models: list[str]


class ModelInfo(BaseModel):
    """A model of the service: name, networks, thresholds and measured quality."""

    name: str
    adn: str
    caan: str
    attention_points: tuple[int, ...]
    colorizer: str | None
    image_size: int
    threshold: float
    map_threshold: float | None
    normals_unit: float | None
    normals_peaks: tuple[tuple[float, ...], ...] | None
    heat: Heat
    tune: Tune
    map_unit: Literal["ΔE", ""]
    classes: tuple[str, ...] = ("normal", "anomalous")
    maps: tuple[MapName, ...]
    training: dict[str, Any]
    validation: dict[str, Any]
    versions: dict[str, str]
    limits: dict[str, int]
    tile: int | None = None
    takes_labels: bool = False


def prediction(name: str, result: Result, image: Loaded, card: Card, maps: Sequence[MapName]) -> Prediction:
    """One image's result, with the requested maps that the model has."""
    return Prediction(
        file=name,
        probability=result.probability,
        decision=result.decision,
        adn_probability=result.probability,
        caan_probability=result.caan_probability,
        mean_delta_e=result.mean_delta_e,
        peak_delta_e=result.peak_delta_e,
        unfamiliarity=result.unfamiliarity,
        box=result.box,
        region=_region(result, image, card),
        width=image.size[1],
        height=image.size[0],
        note="; ".join(_notes(image)) or None,
        maps=_pictures(result, card, maps, image) if maps else None,
    )


def _region(result: Result, image: Loaded, card: Card) -> Box | None:
    """The box that the image would have if it were called anomalous."""
    return result.box if result.box is not None else region(card, result, image.size)


def _notes(image: Loaded) -> Iterator[str]:
    """Notes on how a file was read."""
    if image.first_of_several:
        yield "the first of several frames or pages"
    if image.broken_profile:
        yield "its color profile cannot be used: taken as sRGB"


def _pictures(result: Result, card: Card, maps: Sequence[MapName], image: Loaded) -> dict[MapName, str]:
    """The requested maps in the picture's shape; beyond what a crop covers, they are transparent or black."""
    found: dict[MapName, Image.Image] = {}
    for name in maps:
        if name == "input" and image.in_shape:
            found[name] = Image.fromarray(image.pixels)
        elif name == "input":
            place = placement(*image.size, card.image_size, card.aspect)
            found[name] = Image.fromarray(place.cut(image.pixels, card.image_size))
        elif name == "overlay" and result.shown is not None:
            strong = result.strength
            found[name] = layer(result.shown, shown_from(card, result)) if strong is None else layer_of(strong)
        elif name == "anomaly_map" and result.anomaly_map is not None:
            grey = np.rint(result.anomaly_map * DELTA_E_STEPS).clip(0, 65535)
            found[name] = Image.fromarray(grey.astype(np.uint16))
        elif name == "recoloured" and result.recoloured is not None:
            found[name] = Image.fromarray(result.recoloured)
        elif name == "attention" and result.attention is not None:
            colours = mpl.colormaps["viridis"](_stretched(result.attention))[..., :3]
            found[name] = Image.fromarray((colours * 255).astype(np.uint8))
    return {name: _png(_framed(one, result.covers, image.size)) for name, one in found.items()}


def _framed(shown: Image.Image, covers: Box | None, size: tuple[int, int]) -> Image.Image:
    """A map of a part of a picture (height, width) within a frame of the picture's shape."""
    if covers is None:
        return shown
    left, top, width, _ = covers
    scale = shown.width / width
    x, y, right, bottom = (round(scale * edge) for edge in (-left, -top, size[1] - left, size[0] - top))
    return shown.crop((x, y, right, bottom))


def _stretched(attention: NDArray[np.float32]) -> NDArray[np.float32]:
    low, high = float(attention.min()), float(attention.max())
    return (attention - low) / max(high - low, 1e-6)


def _png(image: Image.Image) -> str:
    stream = io.BytesIO()
    image.save(stream, "PNG", compress_level=1)
    return base64.b64encode(stream.getvalue()).decode("ascii")


def model_info(name: str, card: Card, config: ServeConfig) -> ModelInfo:
    """The public facts of a model."""
    maps: list[MapName] = ["overlay", "anomaly_map", "input"]
    if card.colorizer or RECONSTRUCTION in (card.map_source or "").split(JOINED):
        maps.append("recoloured")
    if card.has_attention:
        maps.append("attention")
    shown = {name: value for name, value in asdict(card).items() if name in ModelInfo.model_fields}
    shown["tile"] = config.tile or card.tile
    limits = {
        "max_megabytes": config.max_megabytes,
        "max_megapixels": config.max_megapixels,
        "max_files": config.max_files,
    }
    unit: Literal["ΔE", ""] = "ΔE" if card.map_source in (COLOR_MAP, RECONSTRUCTION) else ""
    takes_labels = config.labels is not None
    return ModelInfo(name=name, maps=tuple(maps), limits=limits, map_unit=unit, takes_labels=takes_labels, **shown)
