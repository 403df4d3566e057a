"""A trained model in a folder of its own: weights as safetensors, and JSON that says how to use them."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch import Tensor, nn

from leanet.color.anomaly_map import scale_map
from leanet.color.lab import decode_lab, encode_lab, lab_to_rgb, rgb_to_lab
from leanet.color.opencv_lab import check_opencv
from leanet.data.pixels import decode, resize, to_rgb
from leanet.errors import UserError, install
from leanet.experiment.colorize import recolour
from leanet.files import beside, is_free, write_json
from leanet.inference.card import CARD, COLORIZER, WEIGHTS, Card, check_hash, read_card, sha256_of_file
from leanet.inference.result import Result, make_result
from leanet.networks.leanet import LEANet, LEANetOutput
from leanet.networks.registry import build_colorizer, build_leanet
from leanet.settings import ComputeConfig
from leanet.training.checkpoint import load_weights, save_weights
from leanet.training.colorization import images_to_tensor
from leanet.training.compute import Compute, resolve
from leanet.training.detection import probability
from leanet.training.prediction import predictor

BATCH = 16

COMPILE_PAYS_FROM = 4000
"""Images to predict from which compiling the colour functions, some twenty seconds, is repaid."""

FLOAT32 = ComputeConfig(device="cpu", precision="float32")

Picture: TypeAlias = str | Path | Image.Image | NDArray[Any] | Tensor
"""A file, a PIL image, an array uint8 (H, W, 3) or (H, W), or a tensor (3, H, W), uint8 or float in [0, 1]."""


@dataclass(frozen=True)
class Model:
    """A LEA-Net with its card and, unless it was imported, its colorizer; or a colorizer with a threshold alone."""

    card: Card
    network: LEANet | None
    colorizer: nn.Module | None = None
    compute: ComputeConfig = field(default_factory=lambda: FLOAT32)

    def predict(
        self,
        images: Picture | Sequence[Picture] | NDArray[np.uint8],
        anomaly_maps: NDArray[np.float32] | None = None,
        *,
        map_coding: Literal["true", "authors"] | None = None,
    ) -> Any:
        """Classify an image, or several.

        Args:
            images: a picture (see `Picture`) or a sequence of them; an array may be uint8 (N, H, W, 3).
            anomaly_maps: only for a model without colorizer: float (N, S, S), ΔE, 0 or more, not divided by
                anything; S is the model's image size.
            map_coding: how these maps were computed.
        Returns:
            A Result for a picture, a list of them for a sequence.
        Raises:
            UserError: an unreadable picture; no maps where they are needed, or maps of another coding or shape.
        """
        single = not isinstance(images, list | tuple) and getattr(images, "ndim", 0) < 4
        pictures: Sequence[Any] = [images] if single else images  # type: ignore[assignment]
        maps = self._checked(anomaly_maps, map_coding, len(pictures))
        results: list[Result] = []
        for start in range(0, len(pictures), BATCH):
            some = slice(start, start + BATCH)
            decoded = [to_pixels(picture) for picture in pictures[some]]
            results += self.predict_pixels(decoded, None if maps is None else maps[some], paint=True)
        return results[0] if single else results

    def predict_pixels(
        self,
        images: Sequence[NDArray[np.uint8]],
        anomaly_maps: NDArray[np.float32] | None = None,
        *,
        sizes: Sequence[tuple[int, int]] | None = None,
        paint: bool = False,
    ) -> list[Result]:
        """Classify one batch of images, uint8 (H, W, 3) of any sizes; with maps where no colorizer makes them.

        With `paint`, the results hold the recoloured images too, which takes a tenth longer. `sizes` are the
        heights and widths that boxes are meant for, where the images were resized before.
        """
        side = self.card.image_size
        pixels = np.stack([i if i.shape[:2] == (side, side) else resize(i, side) for i in images])
        rgb = images_to_tensor(pixels, np.arange(len(pixels))).to(self.computes_on.device)
        recoloured: NDArray[np.uint8] | None = None
        if anomaly_maps is None:
            delta_e, chroma = recolour(
                self._colorizer, rgb, self.card.map_coding, compiled=self.computes_on.compiled
            )
            recoloured = _paint(rgb, chroma) if paint else None
        else:
            delta_e = torch.from_numpy(anomaly_maps)[:, None]
        maps = delta_e[:, 0].cpu().numpy()
        shapes = sizes or [image.shape[:2] for image in images]
        output = None
        if self.network is not None:
            output = self._detector(rgb, scale_map(delta_e, self.card.map_scale, self.card.normals_unit))
        return [self._result(i, output, maps[i], recoloured, shapes[i]) for i in range(len(images))]

    def _result(
        self,
        i: int,
        output: LEANetOutput | None,
        anomaly_map: NDArray[np.float32],
        recoloured: NDArray[np.uint8] | None,
        size: tuple[int, ...],
    ) -> Result:
        painted = None if recoloured is None else recoloured[i]
        if output is None:
            return make_result(self.card, size, anomaly_map, None, None, None, painted)
        adn = float(probability(output.adn_logits[i : i + 1])[0])
        caan = None if output.caan_logits is None else float(probability(output.caan_logits[i : i + 1])[0])
        finest = output.attention[min(output.attention)][i, 0].float().cpu().numpy() if output.attention else None
        return make_result(self.card, size, anomaly_map, adn, caan, finest, painted)

    @functools.cached_property
    def computes_on(self) -> Compute:
        """Device and precision, as this machine has them."""
        return resolve(self.compute, 0)

    @functools.cached_property
    def _colorizer(self) -> Callable[..., Any]:
        assert self.colorizer is not None, "checked before"
        return predictor(self.colorizer, self.computes_on)

    @functools.cached_property
    def _detector(self) -> Callable[..., Any]:
        assert self.network is not None, "checked before"
        return predictor(self.network, self.computes_on)

    def _checked(
        self, maps: NDArray[np.float32] | None, coding: str | None, images: int
    ) -> NDArray[np.float32] | None:
        if self.colorizer is not None and maps is None:
            return None
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


def to_pixels(picture: Picture) -> NDArray[np.uint8]:
    """A picture of any kind as uint8 (H, W, 3), sRGB.

    Raises:
        UserError: an unreadable file or image; an array or tensor of another shape or type than `Picture` says.
    """
    if isinstance(picture, str | Path):
        return decode(Path(picture))
    if isinstance(picture, Image.Image):
        try:
            return np.asarray(to_rgb(ImageOps.exif_transpose(picture)))
        except MemoryError:
            raise
        except Exception as error:  # opened, but not decoded yet: Pillow's decoders raise nearly anything
            raise UserError(
                f"a PIL image that cannot be used ({error}). Replace it, or convert it to RGB beforehand."
            ) from None
    is_tensor = isinstance(picture, Tensor)
    array: NDArray[Any] = picture.detach().cpu().numpy() if isinstance(picture, Tensor) else np.asarray(picture)
    if is_tensor and array.ndim == 3 and array.shape[0] == 3:
        array = array.transpose(1, 2, 0)
    if array.ndim == 2:
        array = np.repeat(array[..., None], 3, axis=2)
    if array.ndim != 3 or array.shape[2] != 3 or 0 in array.shape:
        raise UserError(f"an array of shape (H, W, 3) or a tensor of (3, H, W) is expected, found {array.shape}.")
    if np.issubdtype(array.dtype, np.floating):
        if not np.isfinite(array).all() or array.min() < 0 or array.max() > 1:
            raise UserError("an array of floats must lie in [0, 1]. Divide 8-bit values by 255, or pass uint8.")
        array = np.rint(array * 255).astype(np.uint8)
    if array.dtype != np.uint8:
        raise UserError(f"an array of uint8, or of floats in [0, 1], is expected, found {array.dtype}.")
    return np.ascontiguousarray(array)


def _paint(rgb: Tensor, chroma: Tensor) -> NDArray[np.uint8]:
    """The recoloured images, uint8 (N, H, W, 3)."""
    lightness = encode_lab(rgb_to_lab(rgb))[:, :1]
    painted = lab_to_rgb(decode_lab(torch.cat([lightness, chroma], 1)))
    found: NDArray[np.uint8] = (painted * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy()
    return found


def save(folder: Path, card: Card, network: LEANet | None, colorizer: nn.Module | None = None) -> None:
    """Write a model's folder, whole or not at all.

    Raises:
        UserError: the folder exists and is not empty, or cannot be written.
    """
    refuse_existing(folder)
    try:
        with beside(folder) as partial:
            partial.mkdir()
            if network is not None:
                save_weights(network, partial / WEIGHTS)
                card = dataclasses.replace(card, weights_sha256=sha256_of_file(partial / WEIGHTS))
            if colorizer is not None:
                save_weights(colorizer, partial / COLORIZER)
                card = dataclasses.replace(card, colorizer_sha256=sha256_of_file(partial / COLORIZER))
            write_json(partial / CARD, dataclasses.asdict(card))
    except OSError as error:
        raise UserError(f"{folder}: cannot write there ({error.strerror}). Choose another --out.") from None


def refuse_existing(folder: Path) -> None:
    """Raise UserError where a model folder cannot be made, because there is something already."""
    if not is_free(folder):
        raise UserError(f"{folder}: exists already and is not an empty folder. Choose another --out.")


def load(folder: Path, compute: ComputeConfig | None = None) -> Model:
    """Read a model's folder.

    Args:
        folder: what `leanet fit` or `leanet import-authors` made.
        compute: device and precision; by default the CPU in float32.
    Raises:
        UserError: none there, of another format, or damaged: the weights are not those that were saved; or its maps
            have the authors' coding, and OpenCV is missing.
    """
    card = read_card(folder)
    if card.colorizer and card.map_coding == "authors":
        try:
            check_opencv()
        except ImportError as error:
            raise UserError(
                f"{folder}: its anomaly maps have the authors' coding. {error} {install('authors')}"
            ) from None
    network, colorizer = None, None
    try:
        if card.adn:
            check_hash(folder / WEIGHTS, card.weights_sha256)
            network = build_leanet(card.adn, card.caan, card.attention_points, card.image_size, card.attention)
            load_weights(network, folder / WEIGHTS)
        if card.colorizer:
            check_hash(folder / COLORIZER, card.colorizer_sha256)
            colorizer = build_colorizer(card.colorizer, card.image_size)
            load_weights(colorizer, folder / COLORIZER)
    except (RuntimeError, TypeError, ValueError):
        raise UserError(f"{folder / CARD}: does not describe the weights beside it. Make the model anew.") from None
    for module in (network, colorizer):
        if module is not None:
            module.eval()
    return Model(card, network, colorizer, compute or FLOAT32)
