"""A trained LEA-Net in a folder of its own: weights as safetensors, and JSON that says how to use them."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from leanet.color.anomaly_map import scale_map
from leanet.data.pixels import resize
from leanet.errors import UserError
from leanet.networks.leanet import LEANet
from leanet.networks.registry import build_leanet
from leanet.training.checkpoint import load_weights, save_weights
from leanet.training.detection import probability

FORMAT = 1
CARD, WEIGHTS = "model.json", "weights.safetensors"


@dataclass(frozen=True)
class Card:
    """What must be known of a model's weights to use them.

    Attributes:
        adn, caan, attention_points, image_size: as `build_leanet` takes them.
        map_coding: how the anomaly maps that it was trained on were computed; other maps are refused.
        map_scale: how they are scaled before the CAAN sees them.
        normals_unit: ΔE00 that 'normals' divides by; None for 'max'.
        threshold: a probability from here on is called anomalous.
        origin: where the weights come from, for the reader.
        weights_sha256: of the weights' file.
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
    format: int = FORMAT


@dataclass(frozen=True)
class Prediction:
    """What a model says about one image: probabilities of an anomaly, and its decision."""

    probability: float
    caan_probability: float | None
    anomalous: bool


@dataclass(frozen=True)
class Model:
    """A LEA-Net with its card. It has no colorizer: anomaly maps must be given to it."""

    card: Card
    network: LEANet

    def predict(
        self,
        images: NDArray[np.uint8],
        anomaly_maps: NDArray[np.float32] | None = None,
        *,
        map_coding: Literal["true", "authors"] | None = None,
    ) -> list[Prediction]:
        """Classify images.

        Args:
            images: uint8 (N, H, W, 3), sRGB; resized to the model's size where they have another.
            anomaly_maps: float (N, S, S), ΔE, 0 or more, not divided by anything; S is the model's image size.
            map_coding: how the maps were computed.
        Raises:
            UserError: no maps, maps of another coding or shape, or values that are not finite.
        """
        maps = self._checked(anomaly_maps, map_coding, len(images))
        side = self.card.image_size
        pixels = np.stack([i if i.shape[:2] == (side, side) else resize(i, side) for i in images])
        rgb = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255
        scaled = scale_map(torch.from_numpy(maps)[:, None], self.card.map_scale, self.card.normals_unit)
        with torch.inference_mode():
            output = self.network.eval()(rgb, scaled)
        adn = probability(output.adn_logits).tolist()
        caan = [None] * len(adn) if output.caan_logits is None else probability(output.caan_logits).tolist()
        return [Prediction(p, q, p >= self.card.threshold) for p, q in zip(adn, caan, strict=True)]

    def _checked(self, maps: NDArray[np.float32] | None, coding: str | None, images: int) -> NDArray[np.float32]:
        if maps is None:
            raise UserError(
                "this model has no colorizer and cannot make anomaly maps: pass anomaly_maps and map_coding."
            )
        if coding != self.card.map_coding:
            raise UserError(
                f"map_coding {coding}: this model was trained on maps of the coding '{self.card.map_coding}'."
            )
        expected = (images, self.card.image_size, self.card.image_size)
        if maps.shape != expected:
            raise UserError(f"anomaly_maps: shape {expected} expected, found {maps.shape}.")
        if not np.isfinite(maps).all() or (maps < 0).any():
            raise UserError("anomaly_maps: finite numbers of 0 or more expected, found others.")
        return np.ascontiguousarray(maps, dtype=np.float32)


def save(folder: Path, card: Card, network: LEANet) -> None:
    """Write a model's folder, whole or not at all.

    Raises:
        UserError: the folder exists and is not empty, or cannot be written.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder}: exists already and is not an empty folder. Choose another --out.")
    partial = folder.with_name(folder.name + ".partial")
    try:
        shutil.rmtree(partial, ignore_errors=True)
        save_weights(network, partial / WEIGHTS)
        card = dataclasses.replace(card, weights_sha256=_sha256(partial / WEIGHTS))
        (partial / CARD).write_text(json.dumps(dataclasses.asdict(card), indent=2) + "\n", encoding="utf-8")
        if folder.exists():
            folder.rmdir()
        partial.rename(folder)
    except OSError as error:
        shutil.rmtree(partial, ignore_errors=True)
        raise UserError(f"{folder}: cannot write there ({error.strerror}). Choose another --out.") from None


def load(folder: Path) -> Model:
    """Read a model's folder.

    Raises:
        UserError: none there, of another format, or damaged: the weights are not those that were saved.
    """
    card = _read_card(folder)
    if not (folder / WEIGHTS).is_file() or _sha256(folder / WEIGHTS) != card.weights_sha256:
        raise UserError(f"{folder / WEIGHTS}: missing or changed since it was saved. Make the model anew.")
    try:
        network = build_leanet(card.adn, card.caan, card.attention_points, card.image_size)
        load_weights(network, folder / WEIGHTS)
    except (RuntimeError, TypeError, ValueError):
        raise UserError(f"{folder / CARD}: does not describe the weights beside it. Make the model anew.") from None
    return Model(card, network.eval())


def _read_card(folder: Path) -> Card:
    path = folder / CARD
    if not path.is_file():
        raise UserError(f"{folder}: not a model folder (no {CARD}). Name a folder that leanet made.")
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if content["format"] != FORMAT:
            raise UserError(f"{path}: format {content['format']}; this version of leanet reads format {FORMAT}.")
        return Card(**{**content, "attention_points": tuple(content["attention_points"])})
    except (KeyError, TypeError, ValueError):
        raise UserError(f"{path}: damaged, not a model's card. Make the model anew.") from None


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
