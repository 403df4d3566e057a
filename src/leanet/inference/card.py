"""What must be known of a model to use it, and the files of its folder; needs no torch."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from leanet.errors import OptionError, UserError

FORMAT = 1
CARD, WEIGHTS, COLORIZER = "model.json", "weights.safetensors", "colorizer.safetensors"


@dataclass(frozen=True)
class Card:
    """What must be known of a model's weights to use them.

    Attributes:
        adn, caan, attention_points, image_size: as `build_leanet` takes them; adn "" where there is only a map.
        map_coding: how the anomaly maps that it was trained on were computed; other maps are refused.
        map_scale: how they are scaled before the CAAN sees them.
        normals_unit: ΔE00 that 'normals' divides by, and from which a map's pixel stands out; None if not known.
        threshold: a probability from here on is called anomalous.
        origin: where the weights come from, for the reader.
        weights_sha256, colorizer_sha256: of the files beside the card.
        colorizer: the network that makes the maps, as `build_colorizer` takes it; None: maps must be given.
        attention: the form of the attention, as `build_leanet` takes it.
        map_threshold: a mean ΔE from here on is called anomalous, where there is no LEA-Net.
        settings, versions, training, validation: what it was made with, from and how well it did; for the reader.
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
        card = Card(**{**content, "attention_points": tuple(content["attention_points"])})
        for value in (card.threshold, card.normals_unit, card.map_threshold, card.image_size):
            if not isinstance(value, int | float | None):
                raise TypeError(f"{value!r} is no number")
        return card
    except (KeyError, TypeError, ValueError):
        raise UserError(f"{where}: damaged, not a model's card. Make the model anew.") from None


def with_threshold(card: Card, threshold: float) -> Card:
    """The card with another threshold: of the probability or, without a LEA-Net, of the mean ΔE.

    Raises:
        OptionError: a probability outside 0 to 1, or a mean ΔE that is not a number of 0 or more.
    """
    if card.adn:
        if not 0 <= threshold <= 1:
            raise OptionError(
                "threshold",
                threshold,
                f"a probability from 0 to 1 is expected, such as the model's {card.threshold:.3g}.",
            )
        return replace(card, threshold=threshold)
    if not 0 <= threshold < math.inf:
        raise OptionError(
            "threshold",
            threshold,
            f"a mean ΔE of 0 or more is expected, such as the model's {card.map_threshold:.3g}.",
        )
    return replace(card, map_threshold=threshold)


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
