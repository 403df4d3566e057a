"""What must be known of a model to use it, and the files of its folder; needs no torch."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from leanet.errors import UserError

FORMAT = 1
MOST_DELTA_E = 1000
"""No colour difference is as large, in either coding of the maps."""

CARD, WEIGHTS, COLORIZER = "model.json", "weights.safetensors", "colorizer.safetensors"


@dataclass(frozen=True)
class Card:
    """What must be known of a model's weights to use them.

    Attributes:
        adn, caan, attention_points, image_size: as `build_leanet` takes them; adn "" where there is only a map.
        map_coding: how the anomaly maps that it was trained on were computed; other maps are refused.
        map_scale: how they are scaled before the CAAN sees them.
        normals_unit: ΔE00 that 'normals' divides by, above 99 % of the training normals' pixels; None if not known.
        threshold: a probability from here on is called anomalous.
        origin: where the weights come from, for the reader.
        weights_sha256, colorizer_sha256: of the files beside the card.
        colorizer: the network that makes the maps, as `build_colorizer` takes it; None: maps must be given.
        attention: the form of the attention, as `build_leanet` takes it.
        map_threshold: a mean ΔE from here on is called anomalous, where there is no LEA-Net.
        settings, versions, training, validation: what it was made with, from and how well it did; for the reader.
        normals_peaks: ΔE that a map has to go beyond to stand out, rows of cells; None if not known.
    """

    adn: str
    caan: str
    attention_points: tuple[int, ...]
    image_size: int
    map_coding: Literal["true", "authors"]
    map_scale: Literal["max", "normals"]
    normals_unit: float | None
    threshold: float
    origin: str
    weights_sha256: str = ""
    colorizer: str | None = None
    colorizer_sha256: str = ""
    map_threshold: float | None = None
    attention: Literal["published", "affine"] = "published"
    settings: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    validation: dict[str, Any] = field(default_factory=dict)
    format: int = FORMAT
    normals_peaks: tuple[tuple[float, ...], ...] | None = None

    @property
    def has_caan_probability(self) -> bool:
        """Whether there is a CAAN with logits of its own."""
        return bool(self.adn) and self.caan not in ("Direct", "none")


def card_from(content: dict[str, Any], where: str) -> Card:
    """A card from its JSON content.

    Raises:
        UserError: another format, or no card; `where` opens the message.
    """
    try:
        if content["format"] != FORMAT:
            raise UserError(f"{where}: format {content['format']}; this version of leanet reads format {FORMAT}.")
        points, peaks = tuple(content["attention_points"]), _peaks(content.get("normals_peaks"))
        card = Card(**{**content, "attention_points": points, "normals_peaks": peaks})
        for value in (card.threshold, card.normals_unit, card.map_threshold, card.image_size):
            if not isinstance(value, int | float | None):
                raise TypeError(f"{value!r} is no number")
        return card
    except (KeyError, TypeError, ValueError):
        raise UserError(f"{where}: damaged, not a model's card. Make the model anew.") from None


def _peaks(rows: Any) -> tuple[tuple[float, ...], ...] | None:
    """The card's `normals_peaks`; ValueError unless they are as many rows as columns of numbers above 0."""
    if rows is None:
        return None
    peaks = tuple(tuple(row) for row in rows)
    numbers = all(isinstance(value, int | float) and 0 < value < MOST_DELTA_E for row in peaks for value in row)
    if not numbers or not peaks or any(len(row) != len(peaks) for row in peaks):
        raise ValueError("no peaks")
    return peaks


def read_card(folder: Path) -> Card:
    """Read the card of a model's folder.

    Raises:
        UserError: none there, of another format, or damaged.
    """
    path = folder / CARD
    if not path.is_file():
        raise UserError(f"{folder}: not a model folder (no {CARD}). Name a folder that leanet made.")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        raise UserError(f"{path}: damaged, not a model's card. Make the model anew.") from None
    return card_from(content, str(path))


def check_hash(path: Path, expected: str) -> None:
    """Raise UserError unless the file is what it was when the model was saved."""
    if not path.is_file() or sha256_of_file(path) != expected:
        raise UserError(f"{path}: missing or changed since it was saved. Make the model anew.")


def sha256_of_file(path: Path) -> str:
    """A file's hash, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
