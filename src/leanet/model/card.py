"""A model's card, which describes how to use it, and the files of its folder; needs no torch."""

from __future__ import annotations

import hashlib
import json
import math
import numbers
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, get_type_hints

from leanet.config import COLOR_MAP, NO_CAAN, Aspect, AttentionForm, ColorizerConfig, MapCoding, Tune, WhiteBalance
from leanet.config.limits import LEAST_TILE
from leanet.config.maps import JOINED
from leanet.errors import DamagedError, OptionError, UserError
from leanet.reading import fits, parse_json, read_bytes

FORMAT = 5
"""Earlier formats are read too: 1 has no hash of the card itself, 2 no name of a map source, 3 no heat map, 4 no
distances of familiar images, no aspect and no white balance."""

Heat = Literal["map", "evidence", "both"]
"""What is shown over an image: the anomaly map, the evidence of a head, or the sum of both."""

Scales = tuple[tuple[float, float], tuple[float, float]]
"""Mean and standard deviation over normal images' pixels: of a head's evidence, and of the anomaly map."""

PERCENTILES = 101
"""Percentiles 0 to 100 of the distances that a card holds."""

UNFAMILIAR = 98.0
"""Percentile of held-out training images' distances beyond which an image is unfamiliar."""

HASH = "card_sha256"
"""The key of the hash of all other fields in a stored card."""

LARGEST = 10_000_000
"""Most bytes of a card; leanet's have two thousand."""

MOST_DELTA_E = 1000
"""Above every possible color difference, in either coding of the maps."""

CARD, WEIGHTS, COLORIZER = "model.json", "weights.safetensors", "colorizer.safetensors"


@dataclass(frozen=True)
class Card:
    """Everything needed to use a model's weights.

    Attributes:
        adn, caan, attention_points, image_size: as `build_leanet` takes them; adn "" where there is only a map.
        map_coding: how the anomaly maps that it was trained on were computed; other maps are refused.
        map_scale: how they are scaled before the CAAN sees them.
        normals_unit: what 'normals' divides by, the map's value above 99 % of the normal training pixels; or None.
        threshold: the probability from which an image is called anomalous.
        origin: source of the weights, for the reader.
        weights_sha256, colorizer_sha256: of the files beside the card.
        colorizer: the network that makes the maps, as `build_colorizer` takes it; None: maps must be given.
        attention: the form of the attention, as `build_leanet` takes it.
        tune: what was fitted, as `build_leanet` takes it.
        map_threshold: without a detector, the map's mean from which an image is called anomalous.
        settings, versions, training, validation: options, versions, training data and results; for the reader.
        normals_peaks: value above which the heat map stands out, rows of cells; None if unknown.
        format: of the file that it was read from.
        map_source: what makes the maps, as `build_map_source` takes it; None: maps must be given.
        heat: what the overlay and the box are of; normals_peaks is in its unit.
        heat_scales: what `leanet.model.heat` needs for it; None for the anomaly map.
        familiar_distances: distances of held-out training images from the others, at their PERCENTILES; None if the
            model has no distance.
        aspect: how a picture becomes a square, as `leanet.data.shape.to_square` takes it.
        white_balance: how the square is then balanced, as `leanet.color.constancy.white_balance` takes it.
        tile: side in pixels of the tiles that the model was trained on, and that it divides larger pictures into;
            None: it was trained on whole pictures, and the field is not stored.
    """

    adn: str
    caan: str
    attention_points: tuple[int, ...]
    image_size: int
    map_coding: MapCoding
    map_scale: Literal["max", "normals"]
    normals_unit: float | None
    threshold: float
    origin: str
    weights_sha256: str = ""
    colorizer: str | None = None
    colorizer_sha256: str = ""
    map_threshold: float | None = None
    attention: AttentionForm = "published"
    tune: Tune = "all"
    settings: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    validation: dict[str, Any] = field(default_factory=dict)
    format: int = FORMAT
    normals_peaks: tuple[tuple[float, ...], ...] | None = None
    map_source: str | None = None
    heat: Heat = "map"
    heat_scales: Scales | None = None
    familiar_distances: tuple[float, ...] | None = None
    aspect: Aspect = "squeeze"
    white_balance: WhiteBalance = "none"
    tile: int | None = None

    def __post_init__(self) -> None:
        if self.colorizer is not None and self.map_source in (None, "colorizer"):  # as earlier versions called it
            object.__setattr__(self, "map_source", COLOR_MAP)

    @property
    def maps(self) -> ColorizerConfig:
        """The options of the map source."""
        made_by = ColorizerConfig(
            map_coding=self.map_coding, maps=tuple((self.map_source or COLOR_MAP).split(JOINED))
        )
        return made_by if self.colorizer is None else replace(made_by, colorizer=self.colorizer)

    @property
    def decisive(self) -> str:
        """The quantity that is compared with the threshold, in words."""
        if self.adn:
            return "probability"
        return "mean ΔE" if self.map_source == COLOR_MAP else "mean of the anomaly map"

    @property
    def has_attention(self) -> bool:
        """Whether an anomaly map guides the network."""
        return bool(self.adn) and self.caan != NO_CAAN

    @property
    def has_caan_probability(self) -> bool:
        """Whether there is a CAAN with logits of its own."""
        return bool(self.adn) and self.caan not in ("Direct", NO_CAAN)


def to_json(card: Card, indent: int | None = None) -> str:
    """A card as it is stored, in the newest format: its fields, and a hash of them."""
    content = asdict(replace(card, format=FORMAT))
    if card.tile is None:  # other models' cards stay as earlier versions read them
        del content["tile"]
    return json.dumps({**content, HASH: _hash_of(content)}, indent=indent)


def card_from(text: str | bytes, where: Path) -> Card:
    """A card from its JSON.

    Args:
        text: what `to_json` made, or an earlier version.
        where: the file, for messages.
    Raises:
        UserError: a format that this version does not read.
        DamagedError: no card, one that was changed, or one with values that no model has.
    """
    try:
        content = dict(parse_json(text))
        number = content["format"]
        if fits(number, int) and number > FORMAT:
            raise UserError(
                f"{where}: format {number}; this version of leanet reads 1 to {FORMAT}. Install a newer version."
            )
        if number != 1 and content.pop(HASH) != _hash_of(content):
            raise ValueError("changed since it was saved")
        hints = get_type_hints(Card)
        if wrong := [key for key, value in content.items() if key not in hints or not fits(value, hints[key])]:
            raise ValueError(f"{wrong[0]!r:.40} cannot be {content[wrong[0]]!r:.40}")
        points, peaks = tuple(content["attention_points"]), content.get("normals_peaks")
        peaks = None if peaks is None else tuple(tuple(row) for row in peaks)
        scales = content.get("heat_scales")
        scales = None if scales is None else tuple(tuple(pair) for pair in scales)
        distances = content.get("familiar_distances")
        given = {
            "attention_points": points,
            "normals_peaks": peaks,
            "heat_scales": scales,
            "familiar_distances": None if distances is None else tuple(distances),
        }
        card = Card(**{**content, **given})
        _check_values(card)
    except (KeyError, RecursionError, TypeError, ValueError) as error:
        raise DamagedError(where, f"damaged, not a model's card ({error!s:.120}). Make the model again.") from None
    return card


def _hash_of(content: dict[str, Any]) -> str:
    """The hash of a card's fields, in any order."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _check_values(card: Card) -> None:
    """Raise ValueError if a value is outside its range."""
    points = card.attention_points  # a network has point p where a feature covers 2^p pixels
    known = {
        "image_size": card.image_size % 32 == 0 and 64 <= card.image_size <= 512,
        "attention_points": len(set(points)) == len(points)
        and all(1 <= p < card.image_size.bit_length() for p in points),
        "threshold": 0 <= card.threshold <= 1,
        "map_threshold": (card.map_threshold or 0) >= 0 and (bool(card.adn) or card.map_threshold is not None),
        "normals_unit": card.map_scale == "max" if card.normals_unit is None else card.normals_unit > 0,
        "normals_peaks": card.normals_peaks is None or _are_peaks(card.normals_peaks),
        "heat": card.heat == "map" or (card.tune == "head" and card.heat_scales is not None),
        "heat_scales": card.heat_scales is None or all(spread > 0 for _, spread in card.heat_scales),
        "tile": card.tile is None or card.tile >= LEAST_TILE,
        "familiar_distances": card.familiar_distances is None
        or (card.tune == "head" and _are_percentiles(card.familiar_distances)),
    }
    if wrong := [name for name, is_right in known.items() if not is_right]:
        raise ValueError(f"{wrong[0]} cannot be {getattr(card, wrong[0])!r:.40}")


def with_threshold(card: Card, threshold: float) -> Card:
    """The card with another threshold: of the probability or, without a detector, of the map's mean.

    Raises:
        OptionError: a probability outside 0 to 1, or a mean that is not a number of 0 or more.
    """
    if not isinstance(threshold, numbers.Real):
        raise OptionError("threshold", repr(threshold), "expected a number.")
    threshold = float(threshold)
    if card.adn:
        if not 0 <= threshold <= 1:
            raise OptionError(
                "threshold",
                threshold,
                f"expected a probability from 0 to 1, such as the model's {card.threshold:.3g}.",
            )
        return replace(card, threshold=threshold)
    if not 0 <= threshold < math.inf:
        raise OptionError(
            "threshold",
            threshold,
            f"expected a {card.decisive} of 0 or more, such as the model's {card.map_threshold:.3g}.",
        )
    return replace(card, map_threshold=threshold)


def _are_peaks(rows: tuple[tuple[float, ...], ...]) -> bool:
    """Whether these are as many rows as columns of numbers that a map can reach."""
    return bool(rows) and all(len(row) == len(rows) and 0 < min(row) <= max(row) < MOST_DELTA_E for row in rows)


def _are_percentiles(distances: tuple[float, ...]) -> bool:
    """Whether these are as many distances as percentiles, in order."""
    return len(distances) == PERCENTILES and list(distances) == sorted(distances) and distances[0] >= 0


_SHAPED: dict[Aspect, str] = {"squeeze": "", "letterbox": " letterboxed", "crop": " cropped"}


def in_words(card: Card) -> list[str]:
    """A model and its results, in a few sentences."""
    made_of = f"{card.image_size} px" + _SHAPED[card.aspect]
    made_of += "" if card.tile is None else f", for tiles of {card.tile} px"
    made_of += "" if card.white_balance == "none" else f", white balance by {card.white_balance}"
    if not card.adn:
        made_of = f"anomaly maps alone ({card.map_source or 'none'}), {made_of}"
    if card.adn:
        attention = f"{card.caan} at attention point {', '.join(map(str, card.attention_points))}"
        if card.tune == "head":
            guided = " guided by anomaly maps" if card.has_attention else ""
            made_of = f"head on frozen {card.adn}{guided}, {made_of}"
        else:
            made_of = f"LEA-Net of {card.adn}{f' with {attention}' if card.attention_points else ''}, {made_of}"
    lines = [f"{made_of}; {card.origin}"]
    if {"images", "anomalous"} <= set(card.training):
        what = "images" if card.tile is None else "tiles"
        lines.append(f"trained on {card.training['images']} {what}, {card.training['anomalous']} of them anomalous")
    if "found" in card.validation:
        lines.append(f"{card.validation['what']}: {card.validation['found']}")
    threshold = card.threshold if card.adn else card.map_threshold
    whole = "this model: " if "found" in card.validation else ""
    lines.append(f"{whole}anomalous from a {card.decisive} of {threshold:.3g} on")
    if card.familiar_distances is not None:
        lines.append(f"unfamiliar where farther from the training images than {UNFAMILIAR:g} % of such images are")
    return lines


def read_card(folder: Path) -> Card:
    """Read the card of a model's folder.

    Raises:
        UserError: none there, or of another format.
        DamagedError: see `card_from`.
    """
    path = folder / CARD
    if not path.exists():
        raise UserError(f"{folder}: not a model folder (no {CARD}). Make one with `leanet fit`.")
    try:
        return card_from(read_bytes(path, LARGEST), path)
    except OSError as error:
        raise DamagedError(path, f"cannot be read ({error.strerror}). Make the model again.") from None


def refuse_without_maps(card: Card, where: Path) -> None:
    """Raise UserError if the model needs anomaly maps and cannot make them.

    Args:
        where: the model, for the message.
    """
    if card.map_source is None:
        raise UserError(
            f"{where}: has no colorizer and cannot make anomaly maps. Name a model that `leanet fit` made."
        )


def check_hash(path: Path, expected: str) -> None:
    """Raise DamagedError unless the file is what it was when the model was saved."""
    if not path.is_file() or sha256_of_file(path) != expected:
        raise DamagedError(path, "missing or changed since it was saved. Make the model again.")


def sha256_of_file(path: Path) -> str:
    """A file's hash, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
